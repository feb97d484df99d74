"""The results of a run as JSON: the machine, and every round of every scenario."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.scenario import Outcome


class Results:
    """What was measured on one machine, scenario by scenario."""

    def __init__(self, machine: dict[str, str]) -> None:
        self.machine = machine
        self.outcomes: dict[str, Outcome] = {}

    def dump(self) -> str:
        scenarios = {name: asdict(outcome) for name, outcome in self.outcomes.items()}
        return json.dumps({"machine": self.machine, "scenarios": scenarios}, indent=1) + "\n"

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what `dump` wrote; raises BenchError if the file holds something else."""
        try:
            document: dict[str, Any] = json.loads(path.read_text())
            results = cls(document["machine"])
            for name, outcome in document["scenarios"].items():
                results.outcomes[name] = Outcome(**outcome)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BenchError(f"{path} holds no results of the bench: {error!r}") from error
        return results

    def adopt(self, earlier: "Results") -> None:
        """Keep an earlier run's scenarios where this run has none.

        Raises BenchError if that run was on another machine or with other programs, because its
        numbers cannot stand beside these.
        """
        if earlier.machine != self.machine:
            raise BenchError(
                "the saved results are of another machine or of other versions: "
                "run all scenarios to replace them"
            )
        self.outcomes = earlier.outcomes | self.outcomes

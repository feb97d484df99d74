"""Owns the command `fairlead`: the only place that knows both the edge and what is beside it."""

from typing import Final

from edge.cli.main import Program
from orchestrator.cli import COMMANDS, SIDECARS

main: Final = Program(COMMANDS, SIDECARS)

if __name__ == "__main__":
    main(prog_name="fairlead")

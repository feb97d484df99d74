"""Proves that a rule on security is set aside line by line only, each with its reason."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROGRAMS = ("bench", "edge", "fairlead", "orchestrator")

_EXCEPTION = re.compile(r"# noqa(?P<codes>:(?: ?[A-Z]+[0-9]+,?)+)?(?P<reason>.*)")


def test_every_exception_names_its_rule_and_its_reason() -> None:
    seen = 0
    for package in PROGRAMS:
        for path in (ROOT / package).rglob("*.py"):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                found = _EXCEPTION.search(line)
                if found and (found["codes"] is None or re.search(r"\bS\d", found["codes"])):
                    seen += 1
                    where = f"{path.relative_to(ROOT)}:{number}"
                    assert found["codes"], f"{where}: which rule?"
                    assert re.fullmatch(r"  \S.{5,}", found["reason"]), f"{where}: why?"
                assert "ruff: noqa" not in line, path
    assert seen


def test_no_rule_on_security_is_off_for_a_program() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert not [rule for rule in lint["ignore"] if re.match(r"S\d|S$", rule)]
    for files, rules in lint["per-file-ignores"].items():
        if any(re.match(r"S\d|S$", rule) for rule in rules):
            assert files == "tests/**"

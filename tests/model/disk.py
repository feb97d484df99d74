"""Owns what becomes of the database's file: it is lost, damaged or another one, and comes back."""

import random
import shutil
from pathlib import Path
from typing import Final

from edge.routing.store_writer import RouteWriter
from tests.model.routes import Write

FAULTS: Final = ("missing", "empty", "garbage", "other")

_SUFFIXES: Final = ("", "-wal", "-shm")


class Disk:
    """`fault` is "" while the database is the one that was there before."""

    def __init__(self, db: Path, chance: random.Random) -> None:
        self.fault = ""
        self.other: list[Write] = []  # what another database has that is in its place
        self._db = db
        self._aside = db.with_name("aside.db")
        self._chance = chance

    def lose(self, fault: str) -> None:
        """Make it happen."""
        if self.fault or not self._db.exists():
            return
        self.fault = fault
        for suffix in _SUFFIXES:
            _move(_beside(self._db, suffix), _beside(self._aside, suffix))
        match fault:
            case "empty":
                self._db.touch()
            case "garbage":
                self._db.write_bytes(self._chance.randbytes(8192))
            case "other":
                self._make_other()

    def _make_other(self) -> None:
        made = self._db.with_name("other.db")
        writer = RouteWriter(made)
        self.other = []
        for number in range(1, self._chance.choice((2, 30))):
            target = f"198.51.100.{number}:80"
            self.other.append(Write(writer.set("one.test", target), "one.test", target))
        for suffix in _SUFFIXES:
            _move(_beside(made, suffix), _beside(self._db, suffix))

    def give_back(self) -> None:
        """What was there before is there again."""
        if self.fault:
            self.fault = ""
            for suffix in _SUFFIXES:
                _beside(self._db, suffix).unlink(missing_ok=True)
                _move(_beside(self._aside, suffix), _beside(self._db, suffix))

    def keep_other(self) -> None:
        """The one that was there before is gone for good."""
        self.fault = ""
        for suffix in _SUFFIXES:
            _beside(self._aside, suffix).unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _move(source: Path, to: Path) -> None:
    if source.exists():
        shutil.move(source, to)

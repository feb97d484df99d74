"""Owns what is known of the routes that an operator has set: what each version of the database has,
which of them was acknowledged, and so what a worker may serve.
"""

from typing import NamedTuple


class Write(NamedTuple):
    """One change."""

    version: int
    host: str
    target: str | None


class Routes:
    """A lineage is what was written to one database, in order; versions count in it."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self._lineages: list[list[Write]] = [[]]
        self._served = [self._lineages[0]]  # those that workers may still have, the newest last

    @property
    def lineage(self) -> int:
        """The number of the one that is written to."""
        return len(self._lineages)

    @property
    def are_written(self) -> bool:
        """Whether there is any."""
        return any(self._lineages)

    @property
    def are_doubtful(self) -> bool:
        """Whether versions of several lineages may be served, which do not compare."""
        return len(self._served) > 1

    def written(self, version: int, host: str, target: str | None) -> None:
        """In the database from now on."""
        self._lineages[-1].append(Write(version, host, target))

    def acknowledge(self, version: int) -> None:
        """Every worker serves it, or a later one."""
        self.acknowledged = max(self.acknowledged, version)
        self._served = self._lineages[-1:]

    def allowed(self, host: str, version: int) -> set[str | None]:
        """Where a table of this version may lead to for it; None: nowhere, with 404."""
        return {_value(lineage, host, version) for lineage in self._served}

    def final(self, host: str) -> str | None:
        """Where it leads in the database."""
        return _value(self._lineages[-1], host, None)

    def replaced(self, routes: list[Write]) -> None:
        """Another database is taken on purpose; workers follow when they look."""
        self._lineages.append(routes)
        self._served = [*self._served, routes]
        self.acknowledged = 0

    def starts_from_disk(self, version: int) -> None:
        """An edge starts without the database, from a table that may be a second old."""
        self.acknowledged = min(self.acknowledged, version)
        self._served = list(self._lineages)


def _value(lineage: list[Write], host: str, version: int | None) -> str | None:
    for write in reversed(lineage):
        if write.host == host and (version is None or write.version <= version):
            return write.target
    return None

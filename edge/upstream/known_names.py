"""Owns what is known of names beyond the process that has looked them up: the addresses of each
that a worker uses, for those that come after it or have not asked yet.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import orjson

# Names that are kept, and addresses of each; of more names, those that were used last.
MAX_NAMES: Final = 4096
MAX_ADDRESSES: Final = 32


Said = tuple[str, float, Sequence[str]]
"""The fields of a `KnownName`, in JSON."""


class KnownName(NamedTuple):
    """`addresses` served at `at`, on the machine's monotonic clock; none: they were given up."""

    host: str
    at: float
    addresses: tuple[str, ...]


class KnownNames:
    """The last that was said of each name."""

    def __init__(self) -> None:
        self._names: dict[str, KnownName] = {}  # those that were used last come last

    def __repr__(self) -> str:
        return f"<KnownNames {len(self._names)}>"

    def learn(self, said: Iterable[KnownName]) -> None:
        """Keep it, unless something later was said."""
        for each in said:
            known = self._names.get(each.host)
            if known is not None and known.at > each.at:
                continue
            self._names.pop(each.host, None)
            if each.addresses:
                addresses = each.addresses[:MAX_ADDRESSES]
                self._names[each.host] = each._replace(addresses=addresses)
        while len(self._names) > MAX_NAMES:
            del self._names[next(iter(self._names))]

    def addresses(self, host: str, since: float) -> tuple[str, ...]:
        """Those that served after `since`, if any did."""
        known = self._names.get(host)
        return known.addresses if known is not None and known.at > since else ()

    def as_json(self) -> list[Said]:
        """Everything, for `from_json`."""
        return as_json(self._names.values())

    def save(self, descriptor: int) -> None:
        """Leave it in the memory of `make_descriptor`, for a process that inherits that."""
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, orjson.dumps(self.as_json()), 0)

    def load(self, descriptor: int) -> None:
        """What `save` has left."""
        size = os.fstat(descriptor).st_size
        self.learn(from_json(orjson.loads(os.pread(descriptor, size, 0))))


def make_descriptor() -> int:
    """The file descriptor of new memory."""
    return os.memfd_create("fairlead-names")


def as_json(names: Iterable[KnownName]) -> list[Said]:
    """What is said of names to another process."""
    return [(name.host, name.at, name.addresses) for name in names]


def from_json(said: Iterable[Said]) -> list[KnownName]:
    """What a process has said of names."""
    return [KnownName(host, at, tuple(addresses)) for host, at, addresses in said]

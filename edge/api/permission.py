"""Owns what an endpoint may ask of its caller, and what a caller may have. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final


class Scope(StrEnum):
    """What a token is good for. None of them implies another, but `admin` all."""

    READ = "read"  # look: apps, deploys, logs, routes, workers
    DEPLOY = "deploy"  # deploy, and cancel a deploy
    WRITE = "write"  # change what is served: routes, targets, apps
    SECRETS = "secrets"  # read what may have secrets of others in it
    ADMIN = "admin"
    METRICS = "metrics"


class Open(Enum):
    """What needs no token."""

    EVERYBODY = auto()  # it says yes or no, and no more
    SIGNED = auto()  # its handler verifies who has sent it


Permission = Scope | Open
"""What an endpoint declares."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller may. `who` is its name in the log; `apps` are those that it is limited to."""

    who: str
    scopes: frozenset[Scope]
    apps: frozenset[str] = frozenset()
    is_operator: bool = False  # a command on this machine, over the socket

    def allows(self, scope: Scope) -> bool:
        """Whether it has the scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def covers(self, app: str) -> bool:
        """Whether it is for this app."""
        return not self.apps or app in self.apps


def parse_scopes(words: Collection[str]) -> frozenset[Scope]:
    """The scopes of these names. Raises ValueError, with the names that there are."""
    known = {scope.value for scope in Scope}
    for word in words:
        if word not in known:
            raise ValueError(f"unknown scope {word[:40]!r}; scopes are {', '.join(Scope)}")
    return frozenset(map(Scope, words))


OPERATOR: Final = Grant("operator", frozenset({Scope.ADMIN}), is_operator=True)
"""Of who is let in by the socket."""

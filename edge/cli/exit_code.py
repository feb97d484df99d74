"""Owns the exit codes of every command of `fairlead`; docs/operations.md lists them."""

from enum import IntEnum

from edge.errors import ConfigError, FairleadError


class ExitCode(IntEnum):
    """What a script is told. It is the same in every command; most know only the first three."""

    OK = 0
    FAILED = 1
    """Refused, failed or not found; stderr says why."""
    USAGE = 2
    """A command line that cannot be understood (click's code too), or an invalid setting."""
    CANCELLED = 3
    """What was waited for was cancelled or superseded."""
    TIMEOUT = 4
    """What was waited for goes on, and the time to wait is over."""

    @classmethod
    def of(cls, error: FairleadError) -> "ExitCode":
        """The one of a command that ends with `error`."""
        return cls.USAGE if isinstance(error, ConfigError) else cls.FAILED

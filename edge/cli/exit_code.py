"""Owns the exit codes of every command of `fairlead`; docs/behaviour.md lists them."""

from enum import IntEnum

from edge.errors import ConfigError, FairleadError


class ExitCode(IntEnum):
    """What a script is told; only commands that wait for something have the last two."""

    OK = 0
    FAILED = 1
    """Refused, failed or not found; stderr says why."""
    USAGE = 2
    """A usage error, for which click has this code too, or an invalid setting."""
    CANCELLED = 3
    """What was waited for was cancelled or superseded."""
    TIMEOUT = 4
    """What was waited for goes on, and the time to wait is over."""

    @classmethod
    def of(cls, error: FairleadError) -> "ExitCode":
        """The code of a command that ends with `error`."""
        return cls.USAGE if isinstance(error, ConfigError) else cls.FAILED

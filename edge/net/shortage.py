"""Owns what it means that the kernel has none left: whose fault that is (ours), what to say of it,
and for how long it lasts.
"""

import errno
import logging
import os
from collections.abc import MutableMapping
from typing import Final, cast

logger = logging.getLogger(__name__)

# Seconds without another refusal after which a shortage is over. Clients that try again at once
# would make it begin and end many times a second.
CALM: Final = 5.0

# What the operator can do. None of these says anything of whom we connect to.
_ADVICE: Final = {
    errno.EMFILE: "this process has as many files open as it may: raise LimitNOFILE in the systemd"
    " unit or `ulimit -n`",
    errno.ENFILE: "the machine has as many files open as it may: raise the sysctl fs.file-max",
    errno.ENOBUFS: "the kernel has no memory for sockets: raise the sysctl net.ipv4.tcp_mem, or add"
    " memory",
    errno.ENOMEM: "there is no memory left: add some, or lower FAIRLEAD_MAX_CONNECTIONS",
    errno.EADDRNOTAVAIL: "no local port is free for another connection to a target: widen the"
    " sysctl net.ipv4.ip_local_port_range, or name the target by several addresses",
}

# It concerns one target, and the others are served: no reason to send clients to another edge.
_OF_ONE_TARGET: Final = errno.EADDRNOTAVAIL


def is_own_fault(error: BaseException | None) -> bool:
    """Whether `error` says that we have run out of something."""
    return isinstance(error, OSError) and error.errno in _ADVICE


def concerns_all_targets(error: BaseException | None) -> bool:
    """Whether `error` says that we have run out of what a connection to any address needs."""
    return is_own_fault(error) and cast(OSError, error).errno != _OF_ONE_TARGET


def no_descriptor() -> OSError:
    """What the kernel would say if what we keep for others were taken as well."""
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def refusal() -> OSError | None:
    """Why no file can be opened at this moment; None if one can."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error if is_own_fault(error) else None
    return None


def advice(error: OSError) -> str:
    """What `error`, which is our own fault, means to an operator."""
    return _ADVICE[error.errno or 0]


class Shortage:
    """What has run short in one worker. `counts` are refusals by the name of the error."""

    def __init__(self, counts: MutableMapping[str, int]) -> None:
        self._counts = counts
        self._last: dict[int, float] = {}  # by error: when it was last seen

    def __repr__(self) -> str:
        return f"<Shortage {sorted(errno.errorcode[code] for code in self._last)}>"

    @property
    def reason(self) -> str | None:
        """Why new clients may not be served; None if they are."""
        for code in self._last:
            if code != _OF_ONE_TARGET:
                return _ADVICE[code]
        return None

    def note(self, error: OSError, now: float) -> None:
        """The kernel has refused something; the log says so once per incident."""
        code = error.errno
        assert code is not None  # noqa: S101  by `is_own_fault`
        name = errno.errorcode[code]
        self._counts[name] = self._counts.get(name, 0) + 1
        if code not in self._last:
            logger.error("%s (%s)", _ADVICE[code], name)
        self._last[code] = now

    def look(self, now: float) -> bool:
        """Whether a file can be opened, which is noted; what has been calm for long is over."""
        error = refusal()
        if error is not None:
            self.note(error, now)
        for code in [code for code, last in self._last.items() if now - last >= CALM]:
            del self._last[code]
            logger.warning("over, after %g s of calm: %s", CALM, errno.errorcode[code])
        return error is None

"""Owns what an active check is: what it asks, which answers pass, how many it takes to believe
them. Pure.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from edge.errors import HttpError, RouteError
from edge.hosts import parse_authority

# Origin form (RFC 9112 section 3.2.1): visible ASCII without `#`, as requests are held to.
is_check_path: Final = re.compile(r"/[\x21\x22\x24-\x7e]{0,1023}").fullmatch
_STATUS_RANGE: Final = re.compile(r"([2-5][0-9][0-9])(?:-([2-5][0-9][0-9]))?")


def is_check_host(text: str) -> bool:
    """Whether a Host field may say this (RFC 9110 section 7.2)."""
    try:
        parse_authority(text.encode("ascii"))
    except (HttpError, UnicodeEncodeError):
        return False
    return True


@lru_cache(maxsize=256)
def parse_statuses(text: str) -> tuple[range, ...]:
    """ "200-399", "204" or "200,300-308" -> the codes that pass.

    Raises RouteError with the end of a sentence that names the option.
    """
    ranges = []
    for part in text.split(","):
        match = _STATUS_RANGE.fullmatch(part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise RouteError(
                "is not a list of final status codes or ranges, such as 200-399 or 200,204"
            )
        ranges.append(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(ranges)


class HealthCheck(NamedTuple):
    """One kind of look at a target. Durations are seconds; `host` None is the target's address."""

    path: str
    host: str | None
    interval: float
    timeout: float
    status: str
    rise: int
    fall: int

    @property
    def name(self) -> str:
        """How logs and states call it."""
        return f"GET {self.path}"

    def request(self, address: str) -> bytes:
        """The request to the target at `address`, on a connection of its own."""
        return (
            f"GET {self.path} HTTP/1.1\r\nHost: {self.host or address}\r\n"
            "User-Agent: fairlead-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        ).encode("ascii")

    def passes(self, status: int) -> bool:
        """Whether an answer with this status is a good one."""
        return any(status in codes for codes in parse_statuses(self.status))


class Streak:
    """What the answers to one check amount to. `healthy` is None before the first."""

    __slots__ = ("consecutive_contrary", "due", "healthy")

    def __init__(self, due: float = 0.0) -> None:
        self.healthy: bool | None = None
        self.consecutive_contrary = 0  # answers in a row that speak against `healthy`
        self.due = due  # when to ask next

    def __repr__(self) -> str:
        return f"<Streak healthy={self.healthy} consecutive_contrary={self.consecutive_contrary}>"

    def add(self, passed: bool, check: HealthCheck) -> int:
        """Count an answer; how many in a row have just changed `healthy`, 0 if it stays.

        The first answer is believed at once, so that a start is quick.
        """
        if passed is self.healthy:
            self.consecutive_contrary = 0
            return 0
        self.consecutive_contrary += 1
        threshold = 1 if self.healthy is None else check.rise if passed else check.fall
        if self.consecutive_contrary < threshold:
            return 0
        counted, self.consecutive_contrary = self.consecutive_contrary, 0
        self.healthy = passed
        return counted

    def next_due(self, now: float, interval: float) -> None:
        """Be due at the next beat after `now`.

        Beats do not shift by late looks: targets that were spread over the interval stay so.
        """
        self.due += interval * (1 + (now - self.due) // interval)

"""Owns what an exchange may wait for, how long, and what is said when that does not come. Pure."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, NamedTuple


class Phase(Enum):
    """What has to happen next."""

    CLIENT_WRITE = auto()  # the client takes what waits for it
    RESPONSE_BODY = auto()  # the upstream goes on with the response
    WAITLIST = auto()  # what the request is held for comes
    REQUEST_BODY = auto()  # the client goes on with the request's body
    CLIENT_CHECK = auto()  # as RESPONSE_HEAD, for a client that may have left
    RESPONSE_HEAD = auto()  # the upstream answers

    # Enum's own is a Python function, which every piece of an upload would call.
    __hash__ = object.__hash__


class Expiry(NamedTuple):
    """How an exchange ends whose time is over.

    `reason` is for the client, if it has no part of a response yet; `error` is what the access log
    says, and the label in `fairlead_upstream_errors_total` if it is the upstream's fault.
    """

    status: int
    error: str
    reason: str
    upstream_fault: bool


# The timeout that bounds each phase, as `Settings` and `RouteState` call it. The others end in a
# look at the client, and have no other bound than what they look out for.
TIMEOUT: Final[Mapping[Phase, str]] = {
    Phase.CLIENT_WRITE: "send_timeout",
    Phase.RESPONSE_BODY: "stream_timeout",
    Phase.REQUEST_BODY: "body_timeout",
    Phase.RESPONSE_HEAD: "response_timeout",
}
LOOKS: Final = frozenset((Phase.WAITLIST, Phase.CLIENT_CHECK))

EXPIRY: Final[Mapping[Phase, Expiry]] = {
    Phase.CLIENT_WRITE: Expiry(504, "send timeout", "the client reads too slowly", False),
    Phase.RESPONSE_BODY: Expiry(
        504, "stream_timeout", "the upstream stopped sending the response", True
    ),
    Phase.REQUEST_BODY: Expiry(
        408, "body timeout", "timed out while reading the request body", False
    ),
    Phase.RESPONSE_HEAD: Expiry(
        504, "response_timeout", "the upstream did not respond in time", True
    ),
}

# The target was drained, and the time for that is over.
DRAIN_EXPIRY: Final = Expiry(
    504, "drain_timeout", "the upstream was stopped before it responded", True
)

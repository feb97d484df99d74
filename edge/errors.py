"""Owns the tree of errors. An error that a client can cause knows its HTTP status."""

from collections.abc import Sequence
from typing import Final

MAX_QUOTED: Final = 100  # characters of a refused text that an error repeats: it goes into the log


def quote(text: str) -> str:
    """A text in quotes, as an error may repeat it: no control characters, bounded."""
    quoted = repr(text[:MAX_QUOTED])
    return quoted if len(text) <= MAX_QUOTED else f"{quoted}..."


class FairleadError(Exception):
    """Base of every error that Fairlead raises on purpose; its text is fit for a user."""


class ConfigError(FairleadError):
    """A setting has a value that cannot be used; the text names the setting and says what fits."""


class AddressInUseError(ConfigError):
    """An address that a setting names is another program's."""


class RouteError(FairleadError):
    """A route was refused; the text says which part of it and what fits."""


class StoreError(FairleadError):
    """The route database cannot be read or written; the text says why and what to do."""


class EdgeError(FairleadError):
    """The edge is there, but cannot do what it was asked; the text says why."""


class HttpError(FairleadError):
    """A request that the edge answers itself.

    `status` is the answer's status code; the text is the one line of explanation in its body and
    never repeats what the client sent (RFC 9110 section 15). `fields` go into the answer's head;
    `kind` is what the access log calls it.
    """

    def __init__(
        self, status: int, reason: str, fields: Sequence[bytes] = (), kind: str = "refused"
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.fields = fields
        self.kind = kind


class UpstreamError(FairleadError):
    """An upstream failed; `kind` is its label in `fairlead_upstream_errors_total`.

    `fields` go into the head of the edge's answer.
    """

    fields: Sequence[bytes] = ()

    def __init__(self, kind: str, status: int, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.status = status


class ShortageError(UpstreamError):
    """We have run out of something that a connection needs: the upstream is not to blame."""

    # What closes when it is idle makes room within seconds.
    fields = (b"Retry-After: 1",)

    def __init__(self) -> None:
        super().__init__("shortage", 503, "the edge has no free descriptor for the upstream")

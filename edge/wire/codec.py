"""Owns which of the two head codecs runs: the compiled one, or the pure one that defines it.

`RequestReader` and `ResponseReader` are those of `_codec`, where that was built and loads; else
those of `request_reader` and `response_reader`, which take ten times as long or more. Nothing
else imports `_codec`. It is decided once, when this is first imported.
"""

import os
from typing import TYPE_CHECKING, Final

from edge import extension

PURE: Final = "FAIRLEAD_PURE"
"""The variable of the environment that asks for the pure one, unless it is empty, 0 or false."""


class Choice:
    """Which one runs, and why it is not the compiled one; `failure` if that is there and broken."""

    __slots__ = ("failure", "name", "why")

    def __init__(self, name: str, why: str = "", failure: str = "") -> None:
        self.name = name
        self.why = why
        self.failure = failure

    def __str__(self) -> str:
        return f"{self.name} ({self.why})" if self.why else self.name


def _choose() -> Choice:
    if os.environ.get(PURE, "").lower() not in ("", "0", "false"):
        return Choice("pure", f"{PURE} is set")
    try:
        extension.load("edge.wire._codec")
    except ModuleNotFoundError as error:
        if error.name == "edge.wire._codec":
            return Choice("pure", "not compiled")
        return Choice("pure", "the compiled one does not load", str(error))
    except Exception as error:  # a damaged file can raise anything, and none of it may stop us
        return Choice("pure", "the compiled one does not load", f"{type(error).__name__}: {error}")
    return Choice("compiled")


CHOICE: Final = _choose()

# The compiled ones have no types of their own: tests hold them equal to these.
if TYPE_CHECKING or CHOICE.name == "pure":
    from edge.wire.request_reader import RequestReader
    from edge.wire.response_reader import ResponseReader
else:
    from edge.wire._codec import RequestReader, ResponseReader

__all__ = ["CHOICE", "PURE", "Choice", "RequestReader", "ResponseReader"]

"""Owns which of the two head codecs runs: the compiled one, or the pure one that defines it.

`RequestReader` and `ResponseReader` are those of `_codec`, where that was built and loads; else
those of `request_reader` and `response_reader`, which take ten times as long or more. Nothing
else imports `_codec`. It is decided once, when this is first imported.
"""

from typing import TYPE_CHECKING, Final

from edge import extension
from edge.compiled import PURE, Choice, is_pure_wanted


def _choose() -> Choice:
    if is_pure_wanted():
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

__all__ = ["CHOICE", "RequestReader", "ResponseReader"]

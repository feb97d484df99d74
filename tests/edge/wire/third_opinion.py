"""Owns what llhttp says of a head beside the two codecs, and where it may say something else: what
the table in docs/codec.md explains, and nothing more.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httptools

from edge.errors import HttpError
from edge.wire.request_head import check_incomplete_head
from tests.edge.hostile.case import unescape
from tests.edge.wire.twins import MAX_HEAD, MAX_TARGET, Outcome

TABLE: Final = Path(__file__).parents[3] / "docs" / "codec.md"
HEADING: Final = "## Where llhttp has another opinion"

TAKEN: Final = "taken"


@dataclass(frozen=True)
class Opinions:
    """What is said of a head: `TAKEN`, or the error that refuses it."""

    direction: str
    codecs: str
    llhttp: str

    @property
    def differ(self) -> bool:
        """Whether one takes what the other refuses."""
        return (self.codecs == TAKEN) != (self.llhttp == TAKEN)


@dataclass(frozen=True)
class Row:
    """A difference that is explained, with a head that shows it."""

    opinions: Opinions
    example: bytes


class _Listener:
    """Learns where a head ends."""

    def __init__(self) -> None:
        self.has_ended = False

    def on_headers_complete(self) -> None:
        self.has_ended = True


def explained() -> list[Row]:
    """The rows of the table."""
    rows = []
    section = TABLE.read_text().partition(HEADING)[2]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 5 and cells[0] in ("request", "response"):
            direction, codecs, llhttp, example, _ = cells
            rows.append(Row(Opinions(direction, codecs, llhttp), unescape(example.strip("`"))))
    return rows


def opinions_of(direction: str, data: bytes, outcome: Outcome) -> Opinions | None:
    """All opinions on the head that `data` begins with, of which the codecs have made `outcome`.

    None if it is not whole, and where nobody asks them: a client may send empty lines before its
    request, which are taken off before.
    """
    end = data.find(b"\r\n\r\n") + 4
    if end < 4 or (direction == "request" and data.startswith(b"\r\n")):
        return None
    return Opinions(direction, _codecs(data, outcome), _llhttp(direction, data[:end]))


def _codecs(data: bytes, outcome: Outcome) -> str:
    if outcome[0] == "refused":
        return " ".join(str(part) for part in outcome[1:3])
    if outcome[0] == "read":
        return TAKEN
    # A whole head without a request line: the codecs leave that to this.
    try:
        check_incomplete_head(data, 0, MAX_TARGET, MAX_HEAD)
    except HttpError as error:
        return f"{error.status} {error}"
    raise AssertionError(f"nobody refuses {data!r}")


def _llhttp(direction: str, head: bytes) -> str:
    listener = _Listener()
    parser: httptools.HttpRequestParser | httptools.HttpResponseParser
    if direction == "request":
        parser = httptools.HttpRequestParser(listener)
    else:
        parser = httptools.HttpResponseParser(listener)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        return TAKEN
    except httptools.HttpParserError as error:
        return type(error).__name__
    return TAKEN if listener.has_ended else "waits for more"

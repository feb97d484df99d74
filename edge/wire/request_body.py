"""Owns a request's body on its way: its end, its limit, and its framing anew. Pure."""

from collections.abc import Sequence

from edge.errors import HttpError
from edge.wire.framing import CHUNKED, LAST_CHUNK, ChunkedReader, FramingError, Piece, chunk


class RequestBody:
    """A body of `length` bytes, or `CHUNKED`; only a request that has one needs this.

    `max_size` is in bytes, 0 for no limit. `open` says whether more of it is to come, `received`
    how many bytes of content have. Raises `HttpError` 413 if it is known to be too large.
    """

    __slots__ = ("_chunks", "_max_size", "_remaining", "open", "received")

    def __init__(self, length: int, max_size: int) -> None:
        if 0 < max_size < length:
            raise _too_large()
        self._chunks = ChunkedReader() if length == CHUNKED else None
        self._remaining = length
        self._max_size = max_size
        self.open = True
        self.received = 0

    def __repr__(self) -> str:
        return f"<RequestBody received={self.received} {'open' if self.open else 'complete'}>"

    def feed(self, data: bytes) -> tuple[Sequence[Piece], bytes]:
        """What to send to the upstream for `data`, and what is behind the end of the body.

        Raises `HttpError`: 400 for malformed chunks, 413 for content beyond the limit.
        """
        if self._chunks is not None:
            return self._feed_chunks(self._chunks, data)
        leftover = b""
        if len(data) > self._remaining:
            data, leftover = data[: self._remaining], data[self._remaining :]
        self._remaining -= len(data)
        self.received += len(data)
        self.open = self._remaining > 0
        return (data,), leftover

    def _feed_chunks(self, chunks: ChunkedReader, data: bytes) -> tuple[Sequence[Piece], bytes]:
        try:
            content = chunks.feed(data)
        except FramingError as error:
            raise HttpError(400, f"the chunked request body is malformed: {error}") from None
        self.received += sum(map(len, content))
        if 0 < self._max_size < self.received:
            raise _too_large()
        if not chunks.done:
            return chunk(content), b""
        self.open = False
        return [*chunk(content), LAST_CHUNK], chunks.leftover


def _too_large() -> HttpError:
    return HttpError(413, "the request body is too large")

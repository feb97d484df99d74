"""Owns the write to something that somebody else reads, and may have stopped reading."""

import os
import select


def write_some(file: int, data: memoryview) -> int:
    """How many bytes of `data` were written. Waits for the reader, for ever if need be.

    Only for threads that nobody waits for. Raises OSError.
    """
    while True:
        try:
            return os.write(file, data)
        except BlockingIOError:
            # Whoever shares the file with us may have made it non-blocking.
            poll = select.poll()
            poll.register(file, select.POLLOUT)
            poll.poll()

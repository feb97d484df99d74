"""Measures the redaction of secrets: `python -m bench.redaction`.

What an orchestrator prints passes the redactor line by line; it must cost the same for one secret
and for many. The texts are a line of a build as it comes, one that is full of secrets, and one of
their common beginning, which may be one at every place.
"""

import secrets
import time
from collections.abc import Callable
from typing import Final

from bench.report import table
from orchestrator.security.redact import Redactor

SIZE: Final = 16 * 1024
COUNTS: Final = (1, 50, 500, 1000)
ROUNDS: Final = 50
PREFIX: Final = "ghp_"
LINE: Final = "Step 3/9 : RUN pip install --no-cache-dir -r requirements.txt && echo 'done'; "


def best(call: Callable[[], object]) -> str:
    """Milliseconds of the fastest of `ROUNDS` calls."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return f"{min(took) * 1000:.2f}"


def measured(count: int) -> list[str]:
    known = [PREFIX + secrets.token_hex(18) for _ in range(count)]
    redactor = Redactor()
    for each in known:
        redactor.add(each)
    began = time.perf_counter()
    spellings = redactor.table.spellings
    made = f"{(time.perf_counter() - began) * 1000:.1f}"
    texts = {
        "line": (LINE * SIZE)[:SIZE],
        "secrets": (" ".join(known) * SIZE)[:SIZE],
        "beginnings": (PREFIX * SIZE)[:SIZE],
    }
    whole = [best(lambda text=text: redactor.redact(text)) for text in texts.values()]  # type: ignore[misc]
    stream = redactor.stream()
    return [str(count), str(len(spellings)), made, *whole, best(lambda: stream.feed(texts["line"]))]


if __name__ == "__main__":
    heading = ["secrets", "spellings", "table", "a line", "secrets", "beginnings", "a line, stream"]
    print(table([heading, *(measured(count) for count in COUNTS)]))
    print(f"in ms, for {SIZE // 1024} KiB; `table` once after a secret was added")

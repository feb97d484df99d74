"""Compares the two head codecs on heads without end, and llhttp as a third: `make fuzz`.

    python -m tests.edge.wire.fuzz [--heads N] [--seed S] [--processes P]

Ends with 1 at the first head that the codecs read differently, or that llhttp refuses and they do
not, for no reason that `EXPLAINED` has; it is printed with its seed.
"""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from random import Random
from typing import Final

import httptools

from edge.wire.fields import NO_CALLBACKS
from tests.edge.wire.heads import any_of, request_head, response_head
from tests.edge.wire.twins import (
    ID_LINE,
    PEERS,
    Outcome,
    request_outcome,
    request_reader_of,
    response_outcome,
    response_reader_of,
)

BATCH: Final = 20_000
"""Heads that one seed gives."""

# Where llhttp refuses what the codecs take, and why that is right.
EXPLAINED: Final = {
    "HttpParserInvalidMethodError": "it knows a list of methods; any token is one (RFC 9110 9.1)",
    "HttpParserInvalidURLError": "it judges what a target in origin-form may hold, which is the"
    " upstream's to say",
}

Tally = Counter[tuple[str, ...]]


class Difference(Exception):  # noqa: N818  # it is what is looked for
    """A head, and who says what of it."""


def llhttp_verdict(
    parser: httptools.HttpRequestParser | httptools.HttpResponseParser, head: bytes
) -> str:
    """`taken`, or the error by which a head is refused."""
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        return "taken"
    except httptools.HttpParserError as error:
        return type(error).__name__
    return "taken"


def check(direction: str, data: bytes, pure: Outcome, compiled: Outcome, seed: int) -> str:
    """What llhttp says of a head. Raises Difference."""
    if pure != compiled:
        raise Difference(
            f"seed {seed}: a {direction} is read differently\n{data!r}\npure:     {pure!r}\n"
            f"compiled: {compiled!r}"
        )
    head = data[: data.find(b"\r\n\r\n") + 4]
    if direction == "request":
        said = llhttp_verdict(httptools.HttpRequestParser(NO_CALLBACKS), head)
    else:
        said = llhttp_verdict(httptools.HttpResponseParser(NO_CALLBACKS), head)
    if pure[0] == "read" and said != "taken" and said not in EXPLAINED:
        raise Difference(f"seed {seed}: llhttp refuses a {direction} ({said})\n{data!r}")
    return said


def run(seed: int) -> Tally:
    """The heads of one seed, in both directions: how often who said what. Raises Difference."""
    random = Random(seed)
    tally: Tally = Counter()
    compiled_requests = [request_reader_of("compiled", peer) for peer in PEERS]
    compiled_responses = [response_reader_of("compiled", hide) for hide in (False, True)]
    for _ in range(BATCH // 2):
        data = any_of(random, request_head)
        index = random.randrange(len(PEERS))
        pure = request_outcome(request_reader_of("pure", PEERS[index]), data)
        compiled = request_outcome(compiled_requests[index], data)
        tally["request", _verdict(pure), check("request", data, pure, compiled, seed)] += 1

        data = any_of(random, response_head)
        index, line = random.randrange(2), random.choice((ID_LINE, b""))
        pure = response_outcome(response_reader_of("pure", bool(index)), data, line)
        compiled = response_outcome(compiled_responses[index], data, line)
        tally["response", _verdict(pure), check("response", data, pure, compiled, seed)] += 1
    return tally


def _verdict(outcome: Outcome) -> str:
    return " ".join(str(part) for part in outcome[:3]) if outcome[0] == "refused" else outcome[0]


def main() -> int:
    """Run until there were enough heads, and say what was seen."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--heads", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    args = options.parse_args()
    seeds = range(args.seed, args.seed + -(-args.heads // BATCH))
    print(f"{len(seeds) * BATCH:,} heads, seeds {seeds[0]} to {seeds[-1]}", flush=True)
    tally: Tally = Counter()
    began = time.monotonic()
    with ProcessPoolExecutor(args.processes) as pool:
        try:
            for done, counts in enumerate(pool.map(run, seeds), 1):
                tally += counts
                if done % 25 == 0:
                    print(f"{done * BATCH:,} in {time.monotonic() - began:.0f} s", flush=True)
        except Difference as difference:
            print(difference)
            pool.shutdown(cancel_futures=True)
            return 1
    print("\nboth codecs                                                      llhttp")
    for (direction, verdict, said), count in sorted(tally.items()):
        print(f"{direction:8} {verdict:55.55} {said:35} {count:>10,}")
    for name, why in EXPLAINED.items():
        print(f"{name}: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

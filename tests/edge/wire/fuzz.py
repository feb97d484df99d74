"""Compares the two head codecs on heads without end, and llhttp as a third: `make fuzz`.

    python -m tests.edge.wire.fuzz [--heads N] [--seed S] [--processes P]

Ends with 1 at the first head that the codecs read differently, or of which llhttp says something
else than they do and no row of the table in docs/codec.md explains it; it is printed with its seed.
"""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple
from random import Random
from typing import Final

from tests.edge.wire.heads import any_of, request_head, response_head
from tests.edge.wire.third_opinion import Opinions, explained, opinions_of
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

EXPLAINED: Final = {row.opinions for row in explained()}

Tally = Counter[Opinions]


class Difference(Exception):  # noqa: N818  # it is what is looked for
    """A head, and who says what of it."""


def check(direction: str, data: bytes, pure: Outcome, compiled: Outcome, seed: int) -> Opinions:
    """What is said of a head. Raises Difference."""
    if pure != compiled:
        raise Difference(
            f"seed {seed}: a {direction} is read differently\n{data!r}\npure:     {pure!r}\n"
            f"compiled: {compiled!r}"
        )
    opinions = opinions_of(direction, data, pure)
    if opinions is None:
        return Opinions(direction, "read alike; not a whole head, or refused before its end", "")
    if opinions.differ and opinions not in EXPLAINED:
        raise Difference(
            f"seed {seed}: docs/codec.md does not explain this {direction}\n{data!r}\n"
            f"codecs: {opinions.codecs}\nllhttp: {opinions.llhttp}"
        )
    return opinions


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
        tally[check("request", data, pure, compiled, seed)] += 1

        data = any_of(random, response_head)
        index, line = random.randrange(2), random.choice((ID_LINE, b""))
        pure = response_outcome(response_reader_of("pure", bool(index)), data, line)
        compiled = response_outcome(compiled_responses[index], data, line)
        tally[check("response", data, pure, compiled, seed)] += 1
    return tally


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
    print(f"\n{'':9}{'both codecs':79} {'llhttp':30}{'':>10}  explained in docs/codec.md")
    for said, count in sorted(tally.items(), key=lambda item: astuple(item[0])):
        mark = "  *" if said.differ else ""
        print(f"{said.direction:9}{said.codecs:79} {said.llhttp:30}{count:>10,}{mark}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

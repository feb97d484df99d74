"""The scenarios, and what this release is to reach in them."""

from dataclasses import replace

from bench import requests
from bench.crowd import ALONE, BESIDE_IDLE, BESIDE_SLOW, beside_idle, beside_slow
from bench.cutover import SERVED as CHANGE_SERVED
from bench.cutover import acknowledged_changes
from bench.idle import idle_memory
from bench.measure import added_ratio, median_of, median_ratio, outside_range, p99_of, worst_of
from bench.names import BESIDE_HANGING, beside_hanging
from bench.peers import Contender
from bench.scenario import (
    CPU,
    CPU_TRANSFER,
    LATENCY,
    MEMORY,
    START,
    TAIL,
    WAIT,
    Load,
    Scenario,
    Target,
)
from bench.startup import start_times
from bench.swap import PAUSE_SWAP, SERVED, swap_under_load
from edge.compiled import PURE

DIRECT = Contender("direct", "direct")
NGINX = Contender("nginx", "nginx")
NGINX_STREAMING = Contender("nginx, streaming", "nginx", streaming=True)
HAPROXY = Contender("haproxy", "haproxy")
CADDY = Contender("caddy", "caddy")
FAIRLEAD = Contender("fairlead", "fairlead")

FEW_ROUTES = Contender("fairlead, 1 route", "fairlead")
MANY_ROUTES = Contender("fairlead, 100,000 routes", "fairlead", routes=100_000)
MANY_HOSTS = Contender("fairlead, 10,000 of 100,000 routes in use", "fairlead", routes=100_000)

FLOOR = Contender("uvloop, bytes passed through unread", "passthrough")

ALL = (NGINX, HAPROXY, CADDY, FAIRLEAD)
WITH_FLOOR = (*ALL, FLOOR)
# As it runs where nothing could be compiled.
PURE_FAIRLEAD = replace(FAIRLEAD, name="fairlead, pure", settings=((PURE, "1"),))
# Each set of heads is compared against nginx with the same heads.
SECOND_SEED, ODD = (
    tuple(replace(one, name=f"{one.name}, {heads}") for one in (NGINX, FAIRLEAD))
    for heads in ("second seed", "odd heads")
)
SEEDS = (NGINX, FAIRLEAD, *SECOND_SEED, *ODD)
# nginx spools bodies by default, to memory and then to files. Without that its cost is another.
BODIES = (NGINX, NGINX_STREAMING, HAPROXY, CADDY, FAIRLEAD)
LOGGED = tuple(Contender(contender.name, contender.program, access_log=True) for contender in ALL)

# On both cores, which the load generator and the origin share with them.
NGINX_TWO, FAIRLEAD_TWO = ON_TWO = tuple(
    replace(contender, name=f"{contender.name}, 2 workers", workers=2)
    for contender in (NGINX, FAIRLEAD)
)

# godeploy-platform's proxy needs a Go toolchain and is not run here; its cost was measured once in
# the same way, as so many times nginx's.
GODEPLOY_RATIO = 7.8


def _ratio(limit: float) -> Target:
    return Target("CPU, ratio to nginx", median_ratio("fairlead", "nginx", CPU.reading), limit)


def _ratio_on_two(limit: float) -> Target:
    verdict = median_ratio(FAIRLEAD_TWO.name, NGINX_TWO.name, CPU.reading)
    return Target("CPU, ratio to nginx, 2 workers each", verdict, limit)


SCENARIOS = (
    Scenario(
        "varied",
        "Heads of which no two are alike, as browsers and API clients send them, 64 connections",
        CPU,
        (*WITH_FLOOR, PURE_FAIRLEAD),
        Load(requests.VARIED),
        (
            _ratio(0.97),
            Target(
                "times as cheap as Caddy",
                median_ratio("caddy", "fairlead", CPU.reading),
                5.0,
                at_least=True,
            ),
            Target(
                f"times as cheap as godeploy-platform's proxy, taken as {GODEPLOY_RATIO} x nginx",
                lambda series: (
                    GODEPLOY_RATIO / median_ratio("fairlead", "nginx", CPU.reading)(series)
                ),
                7.0,
                at_least=True,
            ),
            Target(
                "CPU, ratio to nginx, without a compiler",
                median_ratio(PURE_FAIRLEAD.name, "nginx", CPU.reading),
                2.0,
            ),
        ),
    ),
    Scenario(
        "thousand",
        "The same, 1,000 connections",
        CPU,
        WITH_FLOOR,
        Load(requests.VARIED, connections=1000),
        (_ratio(1.05),),
    ),
    Scenario(
        "seeds",
        "The same with heads of a second seed, and with rare fields in odd order and casing",
        CPU,
        SEEDS,
        Load(
            requests.VARIED,
            others={
                one.name: heads
                for pair, heads in (
                    (SECOND_SEED, requests.VARIED_AGAIN),
                    (ODD, requests.VARIED_ODDLY),
                )
                for one in pair
            },
        ),
        tuple(
            Target(
                f"{what}: how far its median lies outside the range of the first",
                outside_range((ours.name, nginx.name), ("fairlead", "nginx"), CPU.reading),
                0.0,
            )
            for what, (nginx, ours) in (("second seed", SECOND_SEED), ("odd heads", ODD))
        ),
    ),
    Scenario(
        "alike",
        "The same head each time (12 fields, 612 bytes; answer 12 fields, 1 KiB), 64 connections",
        CPU,
        WITH_FLOOR,
        Load(requests.ALIKE),
        (_ratio(0.92),),
    ),
    Scenario(
        "small",
        "Small heads, 64 connections",
        CPU,
        ALL,
        Load(requests.SMALL),
    ),
    Scenario(
        "log",
        "Varied heads, access log on, 64 connections",
        CPU,
        LOGGED,
        Load(requests.VARIED),
    ),
    Scenario(
        "64k",
        "Answers of 64 KiB, 64 connections",
        CPU,
        BODIES,
        Load(requests.FILE_64K),
        (_ratio(0.6),),
    ),
    Scenario(
        "chunked",
        "Chunked answers of 16 KiB, 64 connections",
        CPU,
        ALL,
        Load(requests.CHUNKED),
    ),
    Scenario(
        "download",
        "Downloads of 10 MiB, 8 connections",
        CPU_TRANSFER,
        BODIES,
        Load(requests.FILE_10M, connections=8),
        (_ratio(0.5),),
    ),
    Scenario(
        "upload",
        "Uploads of 10 MiB, 8 connections",
        CPU_TRANSFER,
        BODIES,
        Load(requests.UPLOAD, connections=8),
        (_ratio(0.5),),
    ),
    Scenario(
        "one",
        "Varied heads, one connection",
        LATENCY,
        (DIRECT, *ALL),
        Load(requests.VARIED, connections=1),
        (
            Target(
                "added latency p50, ratio to nginx",
                added_ratio("fairlead", "nginx", "direct", LATENCY.reading),
                1.03,
            ),
        ),
    ),
    Scenario(
        "two",
        "Two workers on both cores, varied heads, 64 connections",
        CPU,
        ON_TWO,
        Load(requests.VARIED),
        (_ratio_on_two(0.97),),
        baseline=NGINX_TWO.name,
    ),
    Scenario(
        "two-thousand",
        "Two workers on both cores, varied heads, 1,000 connections",
        CPU,
        ON_TWO,
        Load(requests.VARIED, connections=1000),
        (_ratio_on_two(1.05),),
        baseline=NGINX_TWO.name,
    ),
    Scenario(
        "closing",
        "A new connection for each request, 64 at once",
        CPU,
        ALL,
        Load(requests.CLOSING),
    ),
    Scenario(
        "routes",
        "100,000 routes against one, the same head, 64 connections",
        CPU,
        (FEW_ROUTES, MANY_ROUTES, MANY_HOSTS),
        Load(requests.ALIKE, others={MANY_HOSTS.name: requests.MANY_HOSTS}),
        (
            Target(
                "CPU, ratio to one route",
                median_ratio(MANY_ROUTES.name, FEW_ROUTES.name, CPU.reading),
                1.03,
            ),
        ),
        baseline=FEW_ROUTES.name,
    ),
    Scenario(
        "swap",
        "One route of 100,000 changed under load, 64 connections",
        WAIT,
        (MANY_ROUTES,),
        swap_under_load,
        (
            Target("change served after the notice, worst", worst_of(SERVED, "ms"), 50.0, "ms"),
            Target("pause at a change, worst", worst_of(PAUSE_SWAP, "ms"), 10.0, "ms"),
        ),
        baseline=None,
    ),
    Scenario(
        "change",
        "A route changed over the control socket, two workers, no load",
        WAIT,
        (FAIRLEAD_TWO,),
        acknowledged_changes,
        (
            Target(
                "change served after the start of writing, p99",
                p99_of(CHANGE_SERVED, "ms"),
                50.0,
                "ms",
            ),
        ),
        baseline=None,
    ),
    Scenario(
        "idle",
        "10,000 idle keep-alive clients",
        MEMORY,
        ALL,
        idle_memory,
        (Target("added memory", median_of("fairlead", MEMORY.reading), 26.0, "MB"),),
    ),
    Scenario(
        "beside-idle",
        "64 busy connections, with and without 10,000 idle clients",
        TAIL,
        (FAIRLEAD,),
        beside_idle,
        (Target("p99, ratio to alone", median_ratio(BESIDE_IDLE, ALONE, TAIL.reading), 1.1),),
        baseline=ALONE,
    ),
    Scenario(
        "beside-slow",
        "64 busy connections, with and without an attack of 5,000 slow heads",
        TAIL,
        (FAIRLEAD,),
        beside_slow,
        (Target("p99, ratio to alone", median_ratio(BESIDE_SLOW, ALONE, TAIL.reading), 1.25),),
        baseline=ALONE,
    ),
    Scenario(
        "beside-hanging",
        "A route with a good name, with and without 20 requests/s to a name that hangs",
        LATENCY,
        (FAIRLEAD,),
        beside_hanging,
        (
            Target(
                "p50, ratio to alone",
                median_ratio(BESIDE_HANGING, ALONE, LATENCY.reading),
                1.1,
            ),
        ),
        baseline=ALONE,
    ),
    Scenario(
        "start",
        "Start-up",
        START,
        ALL,
        start_times,
        (Target("exec to first answer, median", median_of("fairlead", "seconds"), 0.35, "s"),),
    ),
)

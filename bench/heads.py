"""The request heads of real traffic: browsers, their scripts and API clients, no two alike.

A seed gives the same heads on every machine. The field sets and their order are those that
Chromium and Firefox send over HTTP/1.1, and those of common HTTP libraries; values are made up in
the lengths that they have on the internet. All ask for what `bench.origin` serves below /varied/.
"""

import base64
from collections.abc import Callable
from random import Random
from typing import Final

COUNT: Final = 5000
"""Heads of one set: more than any memory of recent ones will hold."""

Field = tuple[str, str]

_CHROMIUM_PLATFORMS: Final = (
    ("Windows", "Windows NT 10.0; Win64; x64", "?0"),
    ("macOS", "Macintosh; Intel Mac OS X 10_15_7", "?0"),
    ("Linux", "X11; Linux x86_64", "?0"),
    ("Android", "Linux; Android 10; K", "?1"),
)
_FIREFOX_PLATFORMS: Final = (
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10.15",
    "X11; Linux x86_64",
    "Android 14; Mobile",
)
_LANGUAGES: Final = (
    "en-US,en;q=0.9",
    "en-GB,en;q=0.9,de;q=0.8",
    "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7",
    "fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7",
    "pt-BR,pt;q=0.9,en-US;q=0.8,en;q=0.7",
    "ja,en-US;q=0.9,en;q=0.8",
)
_WORDS: Final = (
    *("summer", "winter", "shoes", "coats", "sale", "new", "kitchen", "garden", "books", "music"),
    *("account", "orders", "search", "basket", "stock", "prices", "reviews", "sizes", "help"),
)
_SORTS: Final = ("price", "newest", "rating", "name")
_COOKIES: Final = (
    *("_ga", "_gid", "_fbp", "_gcl_au", "csrftoken", "locale", "currency", "ab_group", "consent"),
    *("last_seen", "cart", "device", "theme", "ref", "visitor", "__stripe_mid", "_clck", "_uetsid"),
)
_LIBRARIES: Final = (
    "python-requests/2.32.3",
    "okhttp/4.12.0",
    "axios/1.7.7",
    "Go-http-client/1.1",
    "Apache-HttpClient/5.3.1 (Java/21.0.4)",
    "curl/8.9.1",
)
_NAVIGATION: Final = "text/html,application/xhtml+xml,application/xml;q=0.9"
_EXCHANGE: Final = "application/signed-exchange;v=b3;q=0.7"
_IMAGES: Final = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


def heads(seed: int, host: str, count: int = COUNT) -> list[bytes]:
    """`count` different heads, in the mix that a shop sees: pages, what they load, an API."""
    return _different(seed, host, count, lambda _random, fields: fields)


def describe(made: list[bytes]) -> str:
    """How many, and of how many bytes."""
    sizes = [len(head) for head in made]
    mean = sum(sizes) // len(sizes)
    return f"{len(set(made)):,} different, {min(sizes)} to {max(sizes)} bytes, mean {mean}"


def odd_heads(seed: int, host: str, count: int = COUNT) -> list[bytes]:
    """The same clients as nobody tunes a proxy to them: order, casing and fields that are rare."""
    return _different(seed, host, count, _odd)


def _different(
    seed: int, host: str, count: int, change: Callable[[Random, list[Field]], list[Field]]
) -> list[bytes]:
    random = Random(seed)  # noqa: S311  load, no secret
    made: dict[bytes, None] = {}
    clients = (_chromium, _chromium_script, _firefox, _firefox_script, _library)
    while len(made) < count:
        (client,) = random.choices(clients, (30, 25, 12, 10, 23))
        target, fields = client(random, host)
        lines = [f"{name}: {value}" for name, value in change(random, fields)]
        text = "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""])
        made[text.encode("latin-1")] = None
    return list(made)


def _hex(random: Random, length: int) -> str:
    return f"{random.getrandbits(4 * length):0{length}x}"


def _token(random: Random, size: int) -> str:
    """`size` random bytes, as tokens and session values are written."""
    return base64.urlsafe_b64encode(random.randbytes(size)).decode().rstrip("=")


def _page(random: Random) -> str:
    folders = "/".join(random.sample(_WORDS, random.randint(1, 3)))
    path = f"/varied/page/{folders}/{_hex(random, 8)}"
    if random.random() < 0.4:
        return path
    query = f"?view=grid&sort={random.choice(_SORTS)}&page={random.randint(1, 400)}"
    if random.random() < 0.2:
        query += f"&utm_source=letter&utm_campaign={_hex(random, 12)}&gclid={_token(random, 40)}"
    return path + query


def _asset(random: Random) -> str:
    kind = random.choice(("js", "css", "png", "webp", "woff2", "json"))
    return f"/varied/asset/{random.choice(_WORDS)}.{_hex(random, 10)}.{kind}"


def _endpoint(random: Random) -> str:
    path = f"/varied/api/v2/{random.choice(_WORDS)}/{random.randint(1, 10_000_000)}"
    if random.random() < 0.5:
        path += f"?fields=id,name,price&cursor={_token(random, 18)}&limit=50"
    return path


def _cookie(random: Random) -> str:
    """200 to 1,500 bytes: a session, and what years of scripts have left."""
    wanted = random.randint(240, 1500)
    crumbs = [f"session={_token(random, 32)}"]
    length = len(crumbs[0])
    for name in random.sample(_COOKIES, len(_COOKIES)):
        if length >= wanted - 40:
            break
        size = min(random.choice((8, 16, 30, 60, 120)), (wanted - length - len(name) - 3) * 3 // 4)
        crumbs.append(f"{name}={_token(random, max(size, 4))}")
        length += len(crumbs[-1]) + 2
    return "; ".join(crumbs)


def _trace(random: Random) -> list[Field]:
    trace = f"00-{_hex(random, 32)}-{_hex(random, 16)}-0{random.randint(0, 1)}"
    return [("traceparent", trace), ("tracestate", f"vendor={_hex(random, 16)}")]


def _hints(random: Random) -> tuple[str, list[Field]]:
    """User-Agent and sec-ch-ua of one Chromium."""
    name, system, mobile = random.choice(_CHROMIUM_PLATFORMS)
    version = random.randint(118, 131)
    agent = (
        f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko)"
        f" Chrome/{version}.0.0.0 {'Mobile ' if mobile == '?1' else ''}Safari/537.36"
    )
    brands = f'"Chromium";v="{version}", "Google Chrome";v="{version}", "Not?A_Brand";v="99"'
    return agent, [
        ("sec-ch-ua-platform", f'"{name}"'),
        ("sec-ch-ua", brands),
        ("sec-ch-ua-mobile", mobile),
    ]


def _chromium(random: Random, host: str) -> tuple[str, list[Field]]:
    agent, (platform, brands, mobile) = _hints(random)
    fields = [("Host", host), ("Connection", "keep-alive")]
    if random.random() < 0.3:
        fields.append(("Cache-Control", "max-age=0"))
    fields += [
        *(brands, mobile, platform),
        ("Upgrade-Insecure-Requests", "1"),
        ("User-Agent", agent),
        ("Accept", f"{_NAVIGATION},image/avif,image/webp,image/apng,*/*;q=0.8,{_EXCHANGE}"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-User", "?1"),
        ("Sec-Fetch-Dest", "document"),
        ("Referer", f"https://{host}{_page(random)}"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", random.choice(_LANGUAGES)),
        ("Cookie", _cookie(random)),
    ]
    if random.random() < 0.2:
        fields.append(("If-None-Match", f'W/"{_hex(random, 24)}"'))
    return _page(random), fields


def _chromium_script(random: Random, host: str) -> tuple[str, list[Field]]:
    """What a page loads or asks for."""
    agent, (platform, brands, mobile) = _hints(random)
    is_call = random.random() < 0.5
    fields = [("Host", host), ("Connection", "keep-alive"), platform]
    if is_call:
        fields += _trace(random)
        if random.random() < 0.5:
            fields.append(("X-CSRF-Token", _token(random, 32)))
    fields += [
        ("User-Agent", agent),
        *(brands, mobile),
        ("Accept", "application/json, text/plain, */*" if is_call else _IMAGES),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "cors" if is_call else "no-cors"),
        ("Sec-Fetch-Dest", "empty" if is_call else random.choice(("image", "script", "style"))),
        ("Referer", f"https://{host}{_page(random)}"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", random.choice(_LANGUAGES)),
        ("Cookie", _cookie(random)),
    ]
    return (_endpoint if is_call else _asset)(random), fields


def _firefox_agent(random: Random) -> str:
    version = random.randint(115, 133)
    system = random.choice(_FIREFOX_PLATFORMS)
    return f"Mozilla/5.0 ({system}; rv:{version}.0) Gecko/20100101 Firefox/{version}.0"


def _firefox(random: Random, host: str) -> tuple[str, list[Field]]:
    return _page(random), [
        ("Host", host),
        ("User-Agent", _firefox_agent(random)),
        ("Accept", f"{_NAVIGATION},image/avif,image/webp,image/png,image/svg+xml,*/*;q=0.8"),
        ("Accept-Language", random.choice(_LANGUAGES)),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Referer", f"https://{host}{_page(random)}"),
        ("Connection", "keep-alive"),
        ("Cookie", _cookie(random)),
        ("Upgrade-Insecure-Requests", "1"),
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-User", "?1"),
        ("Priority", "u=0, i"),
    ]


def _firefox_script(random: Random, host: str) -> tuple[str, list[Field]]:
    is_call = random.random() < 0.5
    fields = [
        ("Host", host),
        ("User-Agent", _firefox_agent(random)),
        ("Accept", "*/*" if is_call else "image/avif,image/webp,*/*;q=0.5"),
        ("Accept-Language", random.choice(_LANGUAGES)),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Referer", f"https://{host}{_page(random)}"),
    ]
    if is_call:
        fields += [("Content-Type", "application/json"), *_trace(random)]
    fields += [
        ("Connection", "keep-alive"),
        ("Cookie", _cookie(random)),
        ("Sec-Fetch-Dest", "empty" if is_call else "image"),
        ("Sec-Fetch-Mode", "cors" if is_call else "no-cors"),
        ("Sec-Fetch-Site", "same-origin"),
    ]
    if not is_call and random.random() < 0.4:
        fields += [
            ("If-Modified-Since", f"Tue, {random.randint(10, 28)} Oct 2025 09:12:44 GMT"),
            ("If-None-Match", f'"{_hex(random, 24)}"'),
        ]
    fields.append(("Priority", f"u={random.randint(2, 5)}"))
    return (_endpoint if is_call else _asset)(random), fields


def _library(random: Random, host: str) -> tuple[str, list[Field]]:
    """A program that calls an API with a bearer token, most of them a JWT."""
    token = f"{_token(random, 27)}.{_token(random, random.randint(150, 500))}.{_token(random, 32)}"
    fields = [
        ("Host", host),
        ("User-Agent", random.choice(_LIBRARIES)),
        ("Accept-Encoding", random.choice(("gzip", "gzip, deflate", "gzip, deflate, br"))),
        ("Accept", random.choice(("*/*", "application/json", "application/json, */*"))),
        ("Connection", "keep-alive"),
        ("Authorization", f"Bearer {token if random.random() < 0.7 else _token(random, 30)}"),
    ]
    if random.random() < 0.6:
        fields += _trace(random)
    if random.random() < 0.3:
        fields.append(("X-Api-Version", f"2025-0{random.randint(1, 9)}-01"))
    if random.random() < 0.3:
        fields.append(("Idempotency-Key", _token(random, 16)))
    return _endpoint(random), fields


_RARE: Final[tuple[Callable[[Random], Field], ...]] = (
    lambda _: ("DNT", "1"),
    lambda _: ("Sec-GPC", "1"),
    lambda _: ("Pragma", "no-cache"),
    lambda _: ("Save-Data", "on"),
    lambda _: ("X-Requested-With", "XMLHttpRequest"),
    lambda _: ("From", "somebody@example.test"),
    lambda _: ("X-Empty", ""),
    lambda random: ("Range", f"bytes={random.randint(0, 100)}-{random.randint(200, 900)}"),
    lambda random: ("Viewport-Width", str(random.randint(300, 3000))),
    lambda random: ("Device-Memory", str(random.choice((1, 2, 4, 8)))),
    lambda random: ("X-Client-Data", _token(random, 40)),
    lambda random: ("Via", f"1.1 {_hex(random, 12)} (squid)"),
    lambda random: ("X-Forwarded-For", f"203.0.113.{random.randint(1, 254)}"),
    lambda random: ("Forwarded", f"for=192.0.2.{random.randint(1, 254)};proto=https"),
    lambda random: ("X-B3-TraceId", _hex(random, 32)),
    lambda random: ("CF-Ray", f"{_hex(random, 16)}-FRA"),
    lambda random: ("X-Name", "Zo\xeb"),
    lambda random: (f"X-{_hex(random, 6)}", _hex(random, random.randint(1, 60))),
)


def _odd(random: Random, fields: list[Field]) -> list[Field]:
    rare = [make(random) for make in random.sample(_RARE, random.randint(2, 6))]
    mixed = fields + rare
    random.shuffle(mixed)
    casing = random.choice((str, str.lower, str.upper, str.title))
    return [(casing(name), value) for name, value in mixed]

"""Owns heads that are made up: from the grammar, with what a proxy has to look at, and then broken.

Everything is drawn from a `random.Random`, so that hypothesis can draw (and shrink) through one of
its own, and a fuzz run is repeated by its seed.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VALUE = bytes([9, *range(32, 127), *range(128, 256)])
TARGET = bytes(octet for octet in range(0x21, 0x7F) if octet != ord("#"))

METHODS = (
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"connect",
    b"X!",
    b"",
)
VERSIONS = (
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"HTTP/2.0",
    b"HTTP/1.2",
    b"http/1.1",
    b"HTTP/1.1 ",
)
TARGETS = (
    b"/",
    b"/a?b=c",
    b"*",
    b"http://b.test/x",
    b"HTTPS://B.test:8080",
    b"http://[::1]/",
    b"b.test:443",
    b"//x/../%61",
    b"/a b",
    b"/a#b",
    b"/\xff",
    b"",
)
HOSTS = (
    b"a.test",
    b"A.Test.",
    b"a.test:80",
    b"a.test:65535",
    b"a.test:65536",
    b"a.test:",
    b"a.test:0",
    b"127.0.0.1:8080",
    b"[2001:DB8::1]:80",
    b"[::ffff:1.2.3.4]",
    b"[x]",
    b"a..test",
    b".a",
    b"a,b",
    b"u@a.test",
    b"a.test/",
    b"x" * 253,
    b"x" * 253 + b".",
    b"x" * 254,
    b"a_b~-.test",
    b"",
    b".",
)
LENGTHS = (
    b"0",
    b"5",
    b"5",
    b"0005",
    b"9" * 18,
    b"9" * 19,
    b"+5",
    b"-1",
    b"5,5",
    b"0x5",
    b"5 5",
    b"",
)
CODINGS = (
    b"chunked",
    b"Chunked",
    b"gzip, chunked",
    b"chunked, chunked",
    b"identity",
    b"xchunked",
    b"",
)
CONNECTIONS = (
    b"keep-alive",
    b"Keep-Alive",
    b"close",
    b"close, keep-alive",
    b"keep-alive, Upgrade",
    b"upgrade",
    b"TE",
    b"te, close",
    b"X-Hop",
    b"x_hop, close",
    b"host",
    b"X-Forwarded-For",
    b"x_real_ip",
    b"via",
    b"date",
    b"content-length",
    b",, close ,",
    b"a b",
    b"",
)
REQUEST_FIELDS: dict[bytes, Sequence[bytes]] = {
    b"Host": HOSTS,
    b"Content-Length": LENGTHS,
    b"Transfer-Encoding": CODINGS,
    b"Connection": CONNECTIONS,
    b"Proxy-Connection": CONNECTIONS,
    b"Keep-Alive": (b"timeout=5", b""),
    b"TE": (b"trailers", b"gzip;q=1"),
    b"Trailer": (b"X-Sum",),
    b"Proxy": (b"http://evil.test",),
    b"Proxy-Authorization": (b"Basic eA==",),
    b"HTTP2-Settings": (b"AAMAAABkAAQAAP__",),
    b"Upgrade": (b"websocket", b"h2c", b"websocket, h2c", b"a/1", b"a b", b""),
    b"Expect": (b"100-continue", b"100-Continue", b"200-ok", b""),
    b"Max-Forwards": (b"0", b"5", b"x", b""),
    b"Forwarded": (b"for=192.0.2.1", b'for="', b""),
    b"Via": (b"1.1 other", b"1.0 a, 1.1 b", b""),
    b"X-Forwarded-For": (b"192.0.2.1", b"10.0.0.1, 192.0.2.7", b"unknown", b""),
    b"X-Forwarded-Host": (b"b.test", b"b.test, c.test"),
    b"X-Forwarded-Proto": (b"https", b"https, http"),
    b"X-Forwarded-": (b"odd",),
    b"X-Forwarded-Port": (b"443",),
    b"X-Real-IP": (b"192.0.2.9",),
    b"X-Request-Id": (b"abc-1", b"not an id", b"x" * 129, b""),
    b"User-Agent": (b"curl/8.5.0", b""),
    b"Cookie": (b"a=b; c=d" * 20, b"a=b"),
    b"Authorization": (b"Bearer abc",),
}
RESPONSE_FIELDS: dict[bytes, Sequence[bytes]] = {
    b"Date": (b"Tue, 15 Nov 1994 08:12:31 GMT", b""),
    b"Server": (b"nginx", b""),
    b"Content-Length": LENGTHS,
    b"Transfer-Encoding": CODINGS,
    b"Connection": CONNECTIONS,
    b"Keep-Alive": (
        b"timeout=5",
        b"timeout=5, max=100",
        b"max=100,Timeout=7",
        b"timeout=x, timeout=9",
        b"timeout =5",
        b"timeout=1234567",
        b"timeout=",
        b"",
    ),
    b"Proxy-Authenticate": (b"Basic",),
    b"Proxy-": (b"x",),
    b"TE": (b"trailers",),
    b"Trailer": (b"X-Sum",),
    b"Upgrade": (b"websocket", b"a, b"),
    b"X-Request-Id": (b"theirs",),
    b"Set-Cookie": (b"a=b; Path=/", b"c=d"),
    b"Content-Type": (b"text/html; charset=utf-8",),
    b"ETag": (b'"abc"',),
}
STATUSES = (
    b"200",
    b"200",
    b"204",
    b"304",
    b"100",
    b"101",
    b"103",
    b"426",
    b"404",
    b"999",
    b"099",
    b"20",
    b"2000",
)
REASONS = (b" OK", b" ", b"", b"  two", b" \xe4\t", b" a\x00")
BREAKS = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\r",
    b"\0",
    b"\t",
    b" ",
    b":",
    b",",
    b";",
    b"\x7f",
    b"\xff",
    b"_",
    b"\x0b",
)


def some(random: Random, alphabet: bytes, least: int, most: int) -> bytes:
    """Octets of an alphabet."""
    return bytes(random.choices(alphabet, k=random.randint(least, most)))


def spelled(random: Random, name: bytes) -> bytes:
    """A name as somebody may write it."""
    ways: Sequence[Callable[[bytes], bytes]] = (
        bytes,
        bytes,
        bytes.lower,
        bytes.upper,
        bytes.title,
        lambda text: text.replace(b"-", b"_"),
        lambda text: text.replace(b"-", b"_", 1),
    )
    return random.choice(ways)(name)


def field(random: Random, known: dict[bytes, Sequence[bytes]]) -> bytes:
    """A line, without its CRLF."""
    if random.random() < 0.35:
        name = some(random, TOKEN, 1, 12)
        value = some(random, VALUE, 0, 40)
    else:
        name = spelled(random, random.choice(list(known)))
        value = (
            random.choice(known[name])
            if name in known
            else random.choice(
                next(
                    values
                    for key, values in known.items()
                    if key.lower() == name.lower().replace(b"_", b"-")
                )
            )
        )
    before = random.choice((b" ", b" ", b" ", b"", b"\t", b"  "))
    after = random.choice((b"", b"", b"", b" ", b"\t "))
    return name + b":" + before + value + after


def request_head(random: Random) -> bytes:
    """A request's head: mostly sound, with what a proxy has to look at in any number."""
    method = random.choice(METHODS) if random.random() < 0.3 else random.choice((b"GET", b"POST"))
    target = random.choice(TARGETS)
    if random.random() < 0.7:
        target = b"/" + some(random, TARGET, 0, 30)
    version = random.choice(VERSIONS) if random.random() < 0.2 else b"HTTP/1.1"
    fields = [field(random, REQUEST_FIELDS) for _ in range(random.randint(0, 8))]
    if random.random() < 0.9:
        host = random.choice(HOSTS) if random.random() < 0.2 else b"a.test"
        fields.insert(random.randint(0, len(fields)), b"Host: " + host)
    return b"\r\n".join([b" ".join((method, target, version)), *fields, b"", b""])


def response_head(random: Random) -> bytes:
    """A response's head: mostly sound, with what a proxy has to look at in any number."""
    status = random.choice(STATUSES) if random.random() < 0.5 else b"200"
    reason = random.choice(REASONS) if random.random() < 0.3 else b" OK"
    version = random.choice(VERSIONS) if random.random() < 0.1 else b"HTTP/1.1"
    fields = [field(random, RESPONSE_FIELDS) for _ in range(random.randint(0, 8))]
    if random.random() < 0.7:
        fields.append(b"Date: Tue, 15 Nov 1994 08:12:31 GMT")
    return b"\r\n".join([version + b" " + status + reason, *fields, b"", b""])


def broken(random: Random, head: bytes) -> bytes:
    """`head` with a few octets changed, gone, or added, in the places where it hurts."""
    data = bytearray(head)
    for _ in range(random.randint(1, 3)):
        place = random.randint(0, len(data))
        if random.random() < 0.5:
            # Beside a delimiter, where grammars end.
            marks = [i for i, octet in enumerate(data) if octet in b"\r\n: ,"]
            if marks:
                place = random.choice(marks) + random.randint(0, 1)
        how = random.randrange(5)
        if how == 0:
            data[place:place] = random.choice(BREAKS)
        elif how == 1:
            data[place : place + 1] = random.choice(BREAKS)
        elif how == 2:
            del data[place : place + random.randint(1, 4)]
        elif how == 3:
            data[place : place + 1] = bytes([random.randrange(256)])
        else:
            lines = bytes(data).split(b"\r\n")
            line = random.choice(lines)
            lines.insert(random.randint(0, len(lines)), line)
            data = bytearray(b"\r\n".join(lines))
    return bytes(data)


def followed(random: Random, head: bytes) -> bytes:
    """`head`, or what there is of it, with what may come behind it."""
    kind = random.random()
    if kind < 0.6:
        return head
    if kind < 0.75:
        return head[: random.randint(0, len(head))]
    return head + random.choice(
        (b"hello", b"GET / HTTP/1.1\r\nHost: b\r\n\r\n", b"\r\n", b"x" * 20000)
    )


def any_of(random: Random, make: Callable[[Random], bytes]) -> bytes:
    """A head of `make`, half of them broken, and what follows."""
    head = make(random)
    if random.random() < 0.5:
        head = broken(random, head)
    return followed(random, head)

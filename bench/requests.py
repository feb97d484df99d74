"""What the clients send: request heads byte by byte, and the wrk scripts that send them.

The heads are written out here, and not handed to wrk field by field, so that every proxy reads
the same bytes in the same order.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

from bench.heads import heads, odd_heads

HOST = "shop.example.test"
UPLOAD_BYTES = 10 * 1024 * 1024

_BROWSER = (
    "GET /products/summer/00000042?view=grid HTTP/1.1\r\n"
    "Host: {host}\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n"
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Referer: https://shop.example.test/products/00000041?view=grid\r\n"
    "Cookie: session=4f9c2e7ab1d3508e97c02d44e61fa835; mode=on\r\n"
    "Connection: keep-alive\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "\r\n"
)

# wrk calls `done` once at the end; bench.measure reads this line. Percentiles are in us.
_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %.6f, "bytes": %d, "p50_us": %.1f, "p99_us": %.1f, '
      .. '"socket_errors": %d, "bad_statuses": %d}',
    summary.requests, summary.duration / 1e6, summary.bytes,
    latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.timeout, e.status))
end
"""


class Request:
    """What clients send: a wrk script, which is made when it is used first."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    @cached_property
    def script(self) -> str:
        return self._make()


def lua_string(text: str) -> str:
    """A Lua literal of a text, each character of which is one byte."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    escaped = escaped.replace("\r", "\\r").replace("\n", "\\n")
    if not escaped.isascii():
        escaped = "".join(c if c.isascii() else f"\\{ord(c):03d}" for c in escaped)
    return f'"{escaped}"'


def always(head: str, body_bytes: int = 0) -> str:
    """A script that sends the same request each time.

    wrk asks `wrk.format` once for such a request and sends the bytes again from then on, where a
    `request` function would be called each time.
    """
    return (
        f"local sent = {lua_string(head)} .. string.rep('x', {body_bytes})\n"
        f"wrk.format = function() return sent end\n{_DONE}"
    )


def in_turn(pattern: str, arguments: str) -> str:
    """A script that fills a pattern of Lua's string.format anew for each request.

    `arguments` is a Lua expression list; `n` in it counts the requests, from a start that differs
    from run to run, so that a later round does not repeat an earlier one.
    """
    return (
        f"local pattern, n = {lua_string(pattern)}, os.time() % 4096 * 1048576\n"
        f"request = function()\n  n = n + 1\n  return string.format(pattern, {arguments})\nend\n"
        f"{_DONE}"
    )


def one_by_one(requests: Sequence[bytes]) -> str:
    """A script that sends these one after the other, and begins again after the last.

    It begins elsewhere in each run, so that a round does not repeat the one before.
    """
    literals = ",\n".join(lua_string(request.decode("latin-1")) for request in requests)
    return (
        f"local sent, n = {{{literals}}}, os.time() * 7919 % {len(requests)}\n"
        f"request = function()\n  n = n % {len(requests)} + 1\n  return sent[n]\nend\n{_DONE}"
    )


def browser_head(host: str = HOST) -> str:
    """The request head of a browser: 12 fields, 612 bytes."""
    return _BROWSER.format(host=host)


def _get(path: str, connection: str = "keep-alive") -> str:
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: {connection}\r\n\r\n"


SMALL = Request(lambda: always(f"GET /small HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
ALIKE = Request(lambda: always(browser_head()))
MANY_HOSTS = Request(lambda: in_turn(browser_head(host="app%05d.example.test"), "n * 7919 % 10000"))
FILE_64K = Request(lambda: always(_get("/files/64k")))
FILE_10M = Request(lambda: always(_get("/files/10m")))
UPLOAD = Request(
    lambda: always(
        f"POST /upload HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Length: {UPLOAD_BYTES}\r\n\r\n",
        UPLOAD_BYTES,
    ),
)
CHUNKED = Request(lambda: always(_get("/chunked/16k")))
CLOSING = Request(lambda: always(_get("/products/summer/1", "close")))
VARIED = Request(lambda: one_by_one(heads(1, HOST)))
VARIED_AGAIN = Request(lambda: one_by_one(heads(2, HOST)))
VARIED_ODDLY = Request(lambda: one_by_one(odd_heads(3, HOST)))

"""Owns one health probe: a GET on the published port of an app, and its result."""

import re
import string
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlsplit

import httpx

# Seconds that one answer may take. The app is asked again after it.
PROBE_TIMEOUT: Final = 5.0
# Bytes of an answer's body that are read: enough to see why an app refuses.
MAX_BODY: Final = 4096
# Characters of it that are shown.
MAX_SHOWN: Final = 200

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of a probe. `text` describes it; results with the same text are equal."""

    text: str
    status: int | None = None
    body: str = ""


def client() -> httpx.AsyncClient:
    """The client of all probes: straight to the address, no redirects, no connection kept."""
    return httpx.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        limits=httpx.Limits(max_keepalive_connections=0),
        timeout=PROBE_TIMEOUT,
    )


async def send(sender: httpx.AsyncClient, address: str, path: str, host: str) -> ProbeResult:
    """Ask for `path` at `address`, as `host`. Never raises for what the app does."""
    name, _, port = address.rpartition(":")
    # As it is but for what a request line cannot carry (RFC 9112 section 3.2).
    target = quote(path, safe=string.punctuation).encode("ascii")
    url = httpx.URL(scheme="http", host=name, port=int(port), raw_path=target)
    headers = {
        "Host": host or address,
        "User-Agent": "fairlead-health",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    try:
        async with sender.stream("GET", url, headers=headers) as response:
            body = b""
            async for data in response.aiter_raw(MAX_BODY):
                body += data
                if len(body) >= MAX_BODY:
                    break
    except httpx.ConnectError:
        return ProbeResult("connection refused")
    except httpx.TimeoutException:
        return ProbeResult(f"no response within {PROBE_TIMEOUT:g} s")
    except httpx.RemoteProtocolError as error:
        if "disconnected" in str(error):
            return ProbeResult("connection closed without a response")
        return ProbeResult(f"not an HTTP response: {error}")
    except httpx.TransportError:
        # The engine's proxy takes every connection, and resets those that nobody listens for.
        return ProbeResult("connection closed without a response")
    return ProbeResult(
        _describe(response, host or address),
        response.status_code,
        _UNPRINTABLE.sub(" ", body.decode(errors="replace")).strip()[:MAX_SHOWN],
    )


def _describe(response: httpx.Response, host: str) -> str:
    try:
        text = f"{response.status_code} {HTTPStatus(response.status_code).phrase}"
    except ValueError:
        text = str(response.status_code)
    location = response.headers.get("location", "")
    if location and 300 <= response.status_code < 400:
        text += f" to {_UNPRINTABLE.sub(' ', location)[:MAX_SHOWN]}"
        try:
            elsewhere = urlsplit(location).hostname
        except ValueError:
            elsewhere = None
        if elsewhere and elsewhere != host.rpartition(":")[0] and elsewhere != host:
            text += f" (a different host than {host})"
    return text

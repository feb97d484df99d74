"""Owns what the engine may fetch for a Dockerfile: from public addresses, unless a setting says
otherwise, and never another app's image.

The engine fetches from the network of the host, where it reaches what strangers do not.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from edge.errors import quote
from orchestrator.errors import StepError
from orchestrator.source.fetches import Fetch

# Values of FAIRLEAD_BUILD_FETCH.
PUBLIC: Final = "public"
NONE: Final = "none"
ANY: Final = "any"
# Seconds for all the names of a Dockerfile.
LOOKUP_TIMEOUT: Final = 10.0
# Of one Dockerfile.
MAX_HOSTS: Final = 20
# That are asked for at once. A name server that never answers holds a thread for half a minute,
# longer than a deploy waits: those of one leave most of the threads to others.
LOOKUPS: Final = 4
THREADS: Final = 64
# The registry of names that have none; the engine finds our own images under it, too.
_DEFAULT_REGISTRIES: Final = ("docker.io/", "index.docker.io/")
# The engine takes these for the beginning of the id of an image, whoever it belongs to.
_IMAGE_ID: Final = re.compile(r"(?:sha256:)?[0-9a-f]{1,64}")
# Apart from the threads that everything else is done in.
_lookups: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="lookup")
# NAT64 (RFC 6052) and 6to4 (RFC 3056): IPv4 addresses in another dress, private ones too.
_TRANSLATED: Final = ("64:ff9b:", "64:ff9b:1:", "2002:")


async def check(fetched: Sequence[Fetch], *, allowed: str, image_prefix: str, app: str) -> None:
    """Raises StepError, kind "unsafe_dockerfile", for the first that may not be fetched.

    `allowed` is FAIRLEAD_BUILD_FETCH. A name is looked up here and by the engine again, so whoever
    answers for the name can still mislead it: docs/security.md.
    """
    hosts: dict[str, Fetch] = {}
    for each in fetched:
        host = each.host or _registry(each, image_prefix, app)
        if host and allowed == NONE:
            raise _refused(each, f"{host} may not be asked: FAIRLEAD_BUILD_FETCH is {NONE}")
        if host:
            hosts.setdefault(host, each)
        if len(hosts) > MAX_HOSTS:
            raise _refused(each, f"more than {MAX_HOSTS} hosts are named")
    if allowed == PUBLIC and hosts:
        turns = asyncio.Semaphore(LOOKUPS)
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                await asyncio.gather(*(_check_host(*item, turns) for item in hosts.items()))
        except TimeoutError:
            raise _refused(
                next(iter(hosts.values())), f"looking up {', '.join(hosts)} timed out"
            ) from None


def is_public(text: str) -> bool:
    """Whether an address is of the internet, also one in which another one is embedded."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        if address.compressed.startswith(_TRANSLATED) or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _registry(fetch: Fetch, image_prefix: str, app: str) -> str:
    """The host of the registry that an image names; "" for the engine's own."""
    name = fetch.image.lower()
    if _IMAGE_ID.fullmatch(name):
        raise _refused(fetch, f"{name} may be the id of another app's image: write library/{name}")
    for default in _DEFAULT_REGISTRIES:
        name = name.removeprefix(default)
    repository = name.partition("@")[0]
    head, _, tail = repository.rpartition("/")
    repository = f"{head}/{tail.partition(':')[0]}" if head else tail.partition(":")[0]
    if repository.startswith(f"{image_prefix}/") and repository != f"{image_prefix}/{app}":
        raise _refused(fetch, f"{quote(fetch.image)} is an image of another app")
    first, slash, _ = name.partition("/")
    # To newer engines, what has a capital is a host, too.
    if slash and fetch.image.partition("/")[0].lower() == first != fetch.image.partition("/")[0]:
        return first
    if slash and (first == "localhost" or "." in first or ":" in first):
        return first.rpartition(":")[0] if re.search(r":[0-9]+$", first) else first
    return ""


async def _check_host(host: str, fetch: Fetch, turns: asyncio.Semaphore) -> None:
    def look_up() -> Sequence[Any]:
        return socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)

    try:
        async with turns:
            found = await asyncio.get_running_loop().run_in_executor(_lookups, look_up)
    except (OSError, UnicodeError):
        raise _refused(fetch, f"{quote(host)} was not found") from None
    for _, _, _, _, address in found:
        if not is_public(str(address[0])):
            raise _refused(
                fetch,
                f"{quote(host)} is at {address[0]}, which is no public address: the engine may"
                f" fetch from it only with FAIRLEAD_BUILD_FETCH={ANY}",
            )


def _refused(fetch: Fetch, reason: str) -> StepError:
    return StepError(
        "unsafe_dockerfile", f"Dockerfile, line {fetch.line}: {fetch.instruction}: {reason}"
    )

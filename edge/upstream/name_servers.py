"""Owns the questions to the name servers: which addresses a name has, and for how long.

dnspython asks, the way resolv.conf(5) says: servers in order, search domains, ndots, TCP after a
truncated answer. It is imported when the first question comes: that takes 70 ms and 7 MB, and most
edges have no names as targets.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from edge.errors import MAX_QUOTED
from edge.settings.syntax import Address
from edge.upstream.hosts_file import Stamp, stamp

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

RESOLV_CONF: Final = Path("/etc/resolv.conf")

# Seconds for all questions of one lookup, and for one question to one server. A second try meets
# the answer in the server's cache; of three servers the last one still has its turn.
LOOKUP_TIMEOUT: Final = 4.0
SERVER_TIMEOUT: Final = 1.0

# Seconds that the second address family is given once the first has addresses. RFC 8305 section 3
# gives a browser 50 ms; here nobody waits but the first request to a name. Servers that drop
# questions for AAAA exist.
FAMILY_GRACE: Final = 0.25

Family = Literal["A", "AAAA"]
FAMILIES: Final[tuple[Family, ...]] = ("A", "AAAA")


class Answer(NamedTuple):
    """What is known of a name now.

    `addresses` are those of each family, None where no answer came; `ttl` is in seconds. `error`
    says why there are none, if there are none.
    """

    addresses: Mapping[Family, tuple[str, ...] | None]
    ttl: float
    error: str = ""

    @property
    def found(self) -> bool:
        """Whether there is an address."""
        return any(self.addresses.values())

    @property
    def nonexistent(self) -> bool:
        """Whether the servers say that there is none."""
        return all(found == () for found in self.addresses.values())


class _FamilyAnswer(NamedTuple):
    addresses: tuple[str, ...] | None
    ttl: float = 0.0
    error: str = ""


NO_ANSWER: Final = Answer(
    dict.fromkeys(FAMILIES),
    0.0,
    f"the name servers did not answer within {LOOKUP_TIMEOUT:g} s",
)


class NameServers:
    """Those of `addresses`, or if there are none those of the system."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        self._resolver: Resolver | None = None
        self._stamp: Stamp = None
        self._loading = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<NameServers {[str(address) for address in self._addresses] or 'of the system'}>"

    async def ask(self, host: str) -> Answer:
        """Ask for both families at once. Only a programming error is raised."""
        resolver = await self._configured()
        loop = asyncio.get_running_loop()
        tasks = {loop.create_task(_ask(resolver, host, family)): family for family in FAMILIES}
        answers = {family: _FamilyAnswer(None) for family in FAMILIES}
        pending = set(tasks)
        try:
            while pending:
                grace = FAMILY_GRACE if any(each.addresses for each in answers.values()) else None
                done, pending = await asyncio.wait(
                    pending, timeout=grace, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                answers |= {tasks[task]: task.result() for task in done}
        finally:
            for task in pending:
                task.cancel()
        # What could not be asked explains more than what is not there.
        explained = sorted(answers.values(), key=lambda each: each.addresses is not None)
        return Answer(
            {family: each.addresses for family, each in answers.items()},
            min((each.ttl for each in answers.values() if each.addresses), default=0.0),
            next((each.error for each in explained if each.error), ""),
        )

    async def _configured(self) -> "Resolver":
        async with self._loading:
            if self._resolver is None or stamp(RESOLV_CONF) != self._stamp:
                # Beside the loop, because the import is long.
                self._stamp = stamp(RESOLV_CONF)
                self._resolver = await asyncio.to_thread(_configure, self._addresses)
            return self._resolver


def _configure(addresses: Sequence[Address]) -> "Resolver":
    import dns.asyncresolver
    import dns.nameserver
    import dns.resolver

    try:
        resolver = dns.asyncresolver.Resolver(str(RESOLV_CONF))
    except dns.resolver.NoResolverConfiguration:
        resolver = dns.asyncresolver.Resolver(configure=False)
    if addresses:
        resolver.nameservers = [
            dns.nameserver.Do53Nameserver(address.host, address.port) for address in addresses
        ]
    resolver.timeout = min(resolver.timeout, SERVER_TIMEOUT)
    return resolver


async def _ask(resolver: "Resolver", host: str, family: Family) -> _FamilyAnswer:
    import dns.exception
    import dns.resolver

    try:
        answer = await resolver.resolve(
            host, family, raise_on_no_answer=False, search=True, lifetime=LOOKUP_TIMEOUT
        )
    except dns.resolver.NXDOMAIN:
        return _FamilyAnswer((), error="it does not exist (NXDOMAIN)")
    except dns.exception.Timeout:
        return _FamilyAnswer(None, error=NO_ANSWER.error)
    except (dns.exception.DNSException, OSError, EOFError) as error:
        return _FamilyAnswer(None, error=(str(error) or type(error).__name__)[: 2 * MAX_QUOTED])
    if answer.rrset is None:
        return _FamilyAnswer((), error="it has no addresses")
    return _FamilyAnswer(
        tuple(record.to_text() for record in answer.rrset), answer.chaining_result.minimum_ttl
    )

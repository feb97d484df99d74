"""Owns what the names in targets resolve to: looked up in the background, kept by their TTL.

A request waits only for the first lookup of a name, together with all others that want it, within
bounds. From then on it is told at once what is known: the addresses, the last ones if the name
cannot be resolved any more, or that there are none. Whatever a name server does holds up nobody but
requests to names that have no addresses yet.
"""

import asyncio
import heapq
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Final

from edge.errors import UpstreamError
from edge.net.budget import RESERVED_FOR_LOOKUPS
from edge.runtime import Runtime
from edge.upstream import hosts_file
from edge.upstream.hosts_file import HostsFile
from edge.upstream.known_names import KnownName, KnownNames
from edge.upstream.name_servers import (
    FAMILIES,
    LOOKUP_TIMEOUT,
    NO_ANSWER,
    Answer,
    Family,
    NameServers,
)

logger = logging.getLogger(__name__)

# Bounds of a TTL, in seconds. Below: with 0, Consul's default, each connection would cost a lookup.
# Above: Docker's name server says 600 s of addresses that another container may have soon.
MIN_TTL: Final = 1.0
MAX_TTL: Final = 30.0

# Seconds between lookups of a name that cannot be resolved: doubled from the first to the last.
MIN_RETRY: Final = 1.0
MAX_RETRY: Final = 5.0

# Seconds for which the last addresses of a name serve that does not exist any more, by an answer.
# A name server that has just started may say so of names that it will know in a moment; but an
# address without a name is soon somebody else's. Where no answer comes they serve without a limit
# (RFC 8767 section 4 tells the two cases apart likewise).
NONEXISTENT_HOLD: Final = 30.0

# Seconds after its last use for which a name is looked up in the background, and for which what is
# known of it is kept: if it is wanted again in between, a lookup comes first.
IN_USE: Final = 60.0
KEEP: Final = 3600.0

# Seconds after which others are told again that the addresses of a name serve here.
REPORT_INTERVAL: Final = IN_USE / 2

# Lookups under way in a worker, each two sockets at most: of these, those in the background, and of
# these those of names that failed the last time. A zone that hangs leaves room for the others. They
# are fewer, in proportion, where the limit of descriptors is too low for so many.
MAX_LOOKUPS: Final = RESERVED_FOR_LOOKUPS // 2
MAX_REFRESHES: Final = 32
MAX_RETRIES: Final = 8

# Requests that wait for the first lookup of one name; more are refused at once.
MAX_WAITING: Final = 128

# RFC 6761 section 6.3: never asked of a name server.
LOCALHOST: Final = "localhost"
_LOOPBACK: Final = ("127.0.0.1", "::1")


class Name:
    """A host name that targets have, and what is known of it."""

    __slots__ = (
        "_by_family",
        "addresses",
        "asked",
        "deadline",
        "done",
        "due",
        "error",
        "failures",
        "host",
        "known",
        "nonexistent_since",
        "reported",
        "reported_at",
        "task",
        "users",
        "waiting",
    )

    def __init__(self, host: str) -> None:
        self.host = host
        self.users = 0  # targets
        self.asked = -math.inf  # when somebody last wanted it
        self.waiting = 0
        # What is known
        self.known = False  # by a lookup that was recent when it was last asked for
        self.addresses: tuple[str, ...] = ()  # the families take turns
        self.error = ""  # why the last lookup failed
        self.failures = 0  # in a row
        self.nonexistent_since = math.inf
        self._by_family: dict[Family, tuple[str, ...]] = {}
        self.reported: tuple[str, ...] = ()  # what others know of it, and since when
        self.reported_at = -math.inf
        # The lookup
        self.due = 0.0
        self.done: asyncio.Future[None] | None = None  # there while one is under way, or is to be
        self.task: asyncio.Task[Answer] | None = None
        self.deadline = math.inf

    def __repr__(self) -> str:
        return f"<Name {self.host} {', '.join(self.addresses) or self.error or 'unknown'}>"

    def learn(self, answer: Answer, now: float) -> None:
        """A lookup has ended."""
        self.known = True
        if answer.found:
            for family, addresses in answer.addresses.items():
                if addresses is not None:
                    self._by_family[family] = addresses
            self._set_addresses()
            self.error = ""
            self.failures = 0
            self.nonexistent_since = math.inf
            self.due = now + max(MIN_TTL, answer.ttl)
            return
        self.error = answer.error
        self.due = now + min(MIN_RETRY * 2**self.failures, MAX_RETRY)
        self.failures = min(self.failures + 1, 10)
        if answer.nonexistent:
            self.nonexistent_since = min(self.nonexistent_since, now)
            if now - self.nonexistent_since >= NONEXISTENT_HOLD:
                self.forget_addresses()

    def take_on(self, addresses: tuple[str, ...], now: float) -> None:
        """Let these, which serve elsewhere, serve until a lookup has found others."""
        self.known = True
        self._by_family.update(_by_family(addresses))
        self._set_addresses()
        self.due = min(self.due, now)

    def forget_addresses(self) -> None:
        """They are not to be used any more."""
        self._by_family.clear()
        self.addresses = ()

    def _set_addresses(self) -> None:
        columns = [self._by_family.get(family, ()) for family in FAMILIES]
        rows = chain.from_iterable(zip_longest(*columns))
        self.addresses = tuple(address for address in rows if address is not None)


class Resolver:
    """The names of all targets of one worker."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._hosts = HostsFile(hosts_file.PATH)
        self._name_servers = NameServers(runtime.settings.resolver)
        self._names: dict[str, Name] = {}  # that targets have
        self._held: set[Name] = set()  # those of which something is known or asked
        self._under_way: set[Name] = set()  # asked of the name servers
        self._queue: deque[Name] = deque()  # first lookups that have no place there yet
        self._elsewhere = KnownNames()  # what other workers know, and those that are no more
        # Tells them what is known here; whether that could be said.
        self.tell: Callable[[Sequence[KnownName]], bool] = lambda _: True

    def __repr__(self) -> str:
        return f"<Resolver names={len(self._names)} under_way={len(self._under_way)}>"

    def acquire(self, host: str) -> Name:
        """The name `host`, for a target; to be released."""
        name = self._names.get(host)
        if name is None:
            name = self._names[host] = Name(host)
        name.users += 1
        return name

    def release(self, name: Name) -> None:
        """A target has gone; with the last one what is known of its name goes."""
        name.users -= 1
        if not name.users:
            del self._names[name.host]
            self._forget(name)

    async def addresses(self, name: Name) -> tuple[str, ...]:
        """What is known of `name`, at least one address; waits if that is nothing yet.

        Raises UpstreamError if it has no address.
        """
        name.asked = self._runtime.clock()
        if not name.known:
            if name.done is None:
                self._look_up(name)
            if name.done is not None and name.waiting < MAX_WAITING:
                name.waiting += 1
                try:
                    await asyncio.shield(name.done)
                finally:
                    name.waiting -= 1
        if not name.addresses:
            raise UpstreamError("resolve", 502, "the name of the upstream could not be resolved")
        return name.addresses

    def take_on(self, said: Sequence[KnownName]) -> None:
        """What serves elsewhere serves here too, of names of which nothing is known."""
        self._elsewhere.learn(said)
        for each in said:
            name = self._names.get(each.host)
            if name is not None:
                name.reported, name.reported_at = each.addresses, each.at

    def report(self) -> None:
        """Tell others which addresses serve here: what is new, and from time to time the rest."""
        now = self._runtime.clock()
        self._report(
            name
            for name in self._held
            if name.asked + IN_USE > now
            if name.reported != name.addresses or name.reported_at + REPORT_INTERVAL <= now
        )

    def _report(self, names: Iterable[Name]) -> None:
        now = self._runtime.clock()
        # What was never known is no news.
        told = [name for name in names if name.addresses or name.reported]
        if told and self.tell([KnownName(name.host, now, name.addresses) for name in told]):
            for name in told:
                name.reported, name.reported_at = name.addresses, now

    def doubt(self, name: Name) -> None:
        """None of its addresses can be connected to: look soon whether it has got others."""
        if name.due != math.inf:
            name.due = min(name.due, self._runtime.clock() + MIN_TTL)

    def sweep(self, now: float) -> None:
        """Give up lookups that take too long, begin those that are due, forget what is not used."""
        if not self._held:
            return
        if self._hosts.refresh():
            for name in self._held:
                name.due = now
        due = []
        for name in list(self._held):
            if name.done is not None:
                if name.task is not None and name.deadline <= now:
                    name.task.cancel()
            elif name.asked + KEEP <= now:
                self._forget(name)
            elif name.asked + IN_USE <= now:
                name.known = False
            elif name.due <= now:
                due.append(name)
        for name in heapq.nsmallest(MAX_REFRESHES, due, key=lambda name: name.due):
            if self._may_refresh(name):
                self._look_up(name)

    def close(self) -> None:
        """Break off every lookup."""
        for name in list(self._held):
            self._forget(name)

    def _may_refresh(self, name: Name) -> bool:
        refreshed = [each for each in self._under_way if each.known]
        retried = sum(each.failures > 0 for each in refreshed)
        return len(refreshed) < self._allowed(MAX_REFRESHES) and (
            not name.failures or retried < self._allowed(MAX_RETRIES)
        )

    def _allowed(self, most: int) -> int:
        """How many lookups may be under way, of a kind of which `most` ever are."""
        return max(1, min(most, most * self._runtime.budget.max_lookups // MAX_LOOKUPS))

    def _look_up(self, name: Name) -> None:
        """Learn at once what the hosts file has, else ask the name servers when there is room."""
        self._held.add(name)
        self._hosts.refresh()
        found = self._hosts.addresses(name.host)
        if not found and name.host == LOCALHOST:
            found = _LOOPBACK
        if found:
            self._learn(name, Answer(_by_family(found), math.inf))
            return
        now = self._runtime.clock()
        if not name.known and (serving := self._elsewhere.addresses(name.host, now - IN_USE)):
            name.take_on(serving, now)  # and with the next sweep it is looked up
            return
        name.done = self._runtime.loop.create_future()
        if len(self._under_way) < self._allowed(MAX_LOOKUPS):
            self._ask(name)
        else:
            self._queue.append(name)

    def _ask(self, name: Name) -> None:
        self._under_way.add(name)
        name.deadline = self._runtime.clock() + LOOKUP_TIMEOUT
        name.task = self._runtime.loop.create_task(self._name_servers.ask(name.host))
        name.task.add_done_callback(lambda task: self._answered(name, task))

    def _answered(self, name: Name, task: asyncio.Task[Answer]) -> None:
        if name.task is not task:
            return  # it was forgotten meanwhile
        self._under_way.discard(name)
        name.task = None
        answer = NO_ANSWER
        if not task.cancelled():
            if (fault := task.exception()) is None:
                answer = task.result()
                answer = answer._replace(ttl=min(answer.ttl, MAX_TTL))
            else:
                logger.error("looking up the name %s failed", name.host, exc_info=fault)
        if not (answer.found or answer.nonexistent or name.addresses):
            now = self._runtime.clock()
            name.take_on(self._elsewhere.addresses(name.host, now - KEEP), now)
        self._learn(name, answer)
        if name.reported != name.addresses:
            self._report((name,))
        self._release_waiting(name)
        self._fill_up()

    def _fill_up(self) -> None:
        while self._queue and len(self._under_way) < self._allowed(MAX_LOOKUPS):
            self._ask(self._queue.popleft())

    def _release_waiting(self, name: Name) -> None:
        if name.done is not None:
            name.done.set_result(None)
            name.done = None

    def _learn(self, name: Name, answer: Answer) -> None:
        """Keep what a lookup has found, and say once if that is news."""
        failed, had = bool(name.error), bool(name.addresses)
        name.learn(answer, self._runtime.clock())
        if name.error and had and not name.addresses:
            logger.warning(
                "the name %s of a target does not exist any more: its last addresses are given up,"
                " requests to it are answered with 502",
                name.host,
            )
        elif name.error and not failed:
            follows = (
                f"its last addresses stay in use: {', '.join(name.addresses)}"
                if name.addresses
                else "requests to it are answered with 502"
            )
            logger.warning(
                "the name %s of a target cannot be resolved: %s; %s", name.host, name.error, follows
            )
        elif failed and not name.error:
            logger.info(
                "the name %s of a target is resolved again: %s",
                name.host,
                ", ".join(name.addresses),
            )

    def _forget(self, name: Name) -> None:
        self._held.discard(name)
        if name in self._queue:
            self._queue.remove(name)
        self._under_way.discard(name)
        task, name.task = name.task, None
        if task is not None:
            task.cancel()
        name.known = False
        name.error = ""
        name.failures = 0
        name.nonexistent_since = math.inf
        name.forget_addresses()
        self._release_waiting(name)
        self._fill_up()


def _by_family(addresses: tuple[str, ...]) -> Mapping[Family, tuple[str, ...]]:
    return {
        "A": tuple(address for address in addresses if ":" not in address),
        "AAAA": tuple(address for address in addresses if ":" in address),
    }

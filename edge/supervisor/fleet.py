"""Owns the workers as a whole: what all of them are told and asked, and what they add up to."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge.control.channel import ChannelError, ChannelGoneError, Message
from edge.supervisor.background import Background
from edge.supervisor.slot import Slot, State
from edge.supervisor.sockets import Sockets
from edge.supervisor.succession import Succession
from edge.telemetry import standard_error
from edge.telemetry.metrics import Metrics
from edge.upstream.known_names import KnownNames, from_json

logger = logging.getLogger(__name__)

# Workers in a row that may end at the start of an edge before it gives up.
START_ATTEMPTS: Final = 2
# Seconds that a drain waits for a worker that is just starting.
WORKER_START_TIMEOUT: Final = 10.0
# Seconds that a reload waits for every worker where nothing else is said.
RELOAD_TIMEOUT: Final = 10.0
# Seconds between two looks at a worker that does not serve the wanted version yet.
RELOAD_PAUSE: Final = 0.02


class Fleet:
    """One slot for each list of listeners in `sockets`. `texts` are the settings that differ from
    the defaults; `inherited_drains` are the targets that the edge before this one has drained, and
    `predecessor` is the version of the table that it serves, None without one.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        sockets: Sockets,
        succession: Succession,
        background: Background,
        inherited_drains: Sequence[str],
        predecessor: int | None = None,
    ) -> None:
        self.started = False  # every worker has served once
        self.stopping = False
        self.failed = asyncio.Event()  # workers end before any edge is up
        self.unfit: str | None = None  # why this edge must not take over
        self._texts = dict(texts)
        self._rates_fd = sockets.rates
        self._tables = sockets.tables
        self._predecessor = predecessor
        self._succession = succession
        self._background = background
        self.names = KnownNames()  # what the workers know, and knew
        self._inherited_drains = list(inherited_drains)
        self._drains: list[_Drain] = []  # under way; of one target there may be several
        self._dead_worker_metrics = Metrics()  # what workers counted that are no more
        self.slots = [
            Slot(
                number,
                listeners,
                self._hello,
                self._on_notify,
                self._on_worker_exit,
                sockets.register,
                [sockets.rates, *sockets.tables],
            )
            for number, listeners in enumerate(sockets.http)
        ]

    def fork(self) -> int | None:
        """Have each slot's first worker begin; as `Slot.fork`."""
        for slot in self.slots:
            descriptor = slot.fork()
            if descriptor is not None:
                return descriptor
        return None

    def kill(self) -> None:
        """End every worker at once."""
        for slot in self.slots:
            slot.kill()

    def reopen_logs(self) -> None:
        """Have every worker open its log files anew."""
        for slot in self.slots:
            slot.notify("reopen", {})

    # Notifications from and to workers

    async def _hello(self, slot: Slot) -> Message:
        return {
            "settings": self._texts,
            "slot": slot.number,
            "leader": slot.number == 0,
            "drained": self.drained_targets(),
            "rates": self._rates_fd,
            "tables": self._tables,
            # Once this edge serves, a worker that is less than the others is more than none.
            "predecessor": None if self.started else self._predecessor,
            "verdicts": await self._verdicts(slot),
            "names": self.names.as_json(),
        }

    def drained_targets(self) -> list[str]:
        """Targets that get nothing new, as the workers last said."""
        if not self.started:
            return self._inherited_drains
        said = {target for slot in self.slots for target in slot.drained}
        return sorted(said.union(drain.target for drain in self._drains if not drain.is_undone))

    def _on_notify(self, slot: Slot, message: Message) -> None:
        match message["kind"]:
            case "unfit":
                self.unfit = message["reason"]
            case "ready":
                slot.notify("names", {"names": self.names.as_json()})
                self._background.start(self._send_verdicts(slot))
            case "verdict":
                self._notify_others(slot, "verdict", {"verdict": message["verdict"]})
            case "names":
                self.names.learn(from_json(message["names"]))
                self._notify_others(slot, "names", {"names": message["names"]})

    def _notify_others(self, slot: Slot, kind: str, fields: Message) -> None:
        for other in self.slots:
            if other is not slot:
                other.notify(kind, fields)

    async def _send_verdicts(self, slot: Slot) -> None:
        """Tell a worker what was found out while it started."""
        for verdict in await self._verdicts(slot):
            slot.notify("verdict", {"verdict": verdict})

    async def _verdicts(self, slot: Slot) -> list[Message]:
        """What the other workers know of the targets."""
        for other in self.slots:
            if other is not slot and other.serving.is_set():
                try:
                    answer = await other.request_promptly("verdicts", {})
                except ChannelError:
                    continue
                verdicts: list[Message] = answer["verdicts"]
                return verdicts
        return []

    def _on_worker_exit(self, slot: Slot) -> None:
        self._dead_worker_metrics.add(slot.metrics, with_gauges=False)
        if not self.started and slot.restarts >= START_ATTEMPTS:
            self.failed.set()

    # What is asked for

    async def reload(self, version: int, timeout: float) -> Message:  # noqa: ASYNC109
        """Returns when every worker serves `version` or a later one: which, and since when.

        Raises ChannelError after `timeout` seconds, or when the database cannot be read.
        """
        begun = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                if await self._succession.has_successor():
                    fields = {"version": version, "timeout": timeout}
                    return await self._succession.forward("/reload", fields)
                served = await self._reload_all(version)
        except TimeoutError:
            late = [slot.number for slot in self.slots if slot.version < version]
            raise ChannelError(
                f"not all workers serve version {version} after {timeout:g} s;"
                f" still behind: {', '.join(f'worker {n}' for n in late) or 'a worker'}"
            ) from None
        milliseconds = (time.monotonic() - begun) * 1000
        return {
            "version": min(served),
            "workers": len(served),
            "milliseconds": round(milliseconds, 3),
        }

    async def _reload_all(self, version: int) -> list[int]:
        if self.stopping:
            raise ChannelError("the edge is stopping")
        tasks = [asyncio.ensure_future(_reload(slot, version)) for slot in self.slots]
        try:
            return await asyncio.gather(*tasks)
        finally:
            # Where one has failed, the others would go on asking.
            for task in tasks:
                task.cancel()

    async def adopt(self, timeout: float) -> Message:  # noqa: ASYNC109
        """Have the database served that is there now, whichever it is: as `reload` does.

        If there is none, `workers` is 0 and the next one will be taken.
        """
        begun = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                if await self._succession.has_successor():
                    return await self._succession.forward("/adopt", {"timeout": timeout})
                # The leader says for all which database it is.
                answer = await _adopt(self.slots[0])
        except TimeoutError:
            raise ChannelError(f"worker 0 does not serve after {timeout:g} s") from None
        logger.warning("any database that is found is taken, as an operator has told the edge to")
        if not answer["found"]:
            return {"version": answer["version"], "workers": 0, "milliseconds": 0}
        return await self.reload(answer["version"], begun + timeout - time.monotonic())

    async def drain_target(
        self,
        target: str,
        timeout: float,  # noqa: ASYNC109  # the drain's, not the call's
        tunnel_timeout: float,
        version: int = 0,
    ) -> Message:
        """Send no new exchange to `target`; returns when none is in flight in any worker.

        Not before every worker serves `version`: with an older table the target is still the one
        that serves. Raises ChannelError where that does not come.

        What is left after `timeout` seconds is cut; tunnels have `tunnel_timeout`. What the edge
        before an upgrade has in flight is waited for, too, but not cut.
        """
        fields = {"target": target, "timeout": timeout, "tunnel_timeout": tunnel_timeout}
        if await self._succession.has_successor():
            return await self._succession.forward("/drain", {**fields, "version": version})
        if version:
            await self.reload(version, RELOAD_TIMEOUT)
        begun = time.monotonic()
        total: Message = {"target": target, "finished": 0, "cut": 0, "tunnels_closed": 0}
        lost = 0
        drain = _Drain(target)
        self._drains.append(drain)
        try:
            answers = await asyncio.gather(*(_drain(slot, fields, drain) for slot in self.slots))
        finally:
            self._drains.remove(drain)
        if all(answer is None for answer, _ in answers):
            raise ChannelError(f"no worker is running to drain {target}: try again")
        for answer, deaths in answers:
            lost += deaths
            for name in ("finished", "cut", "tunnels_closed"):
                total[name] += answer[name] if answer is not None else 0
        # Exchanges that were begun before an upgrade are in flight there, and end with it.
        left = begun + timeout - time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._succession.predecessor_exited.wait(), max(left, 0.001))
        seconds = round(time.monotonic() - begun, 3)
        logger.info(
            "target %s drained in %g s: %d requests finished, %d cut off, %d tunnels closed",
            *(target, seconds, total["finished"], total["cut"], total["tunnels_closed"]),
        )
        return total | {
            "workers": sum(answer is not None for answer, _ in answers),
            "workers_lost": lost,
            "predecessor_exited": self._succession.predecessor_exited.is_set(),
            "seconds": seconds,
        }

    def undrain_target(self, target: str) -> Message:
        """`target` may get exchanges again; a drain of it that is under way ends."""
        for drain in self._drains:
            if drain.target == target:
                drain.is_undone = True
        for slot in self.slots:
            # A worker that is stopped may be replaced before it has heard of this.
            slot.drained = [each for each in slot.drained if each != target]
            if slot.state is State.STARTING:
                self._background.start(_undrain(slot, target))
            else:
                slot.notify("undrain_target", {"target": target})
        return {"target": target}

    # What is counted and known

    def served_version(self) -> int | None:
        """Of the newest table that a worker serves."""
        versions = [slot.version for slot in self.slots if slot.why_not_ready is None]
        return max(versions, default=None)

    async def total_metrics(self) -> Metrics:
        """The sums over all workers, those included that are no more."""

        # The last counters of one that does not answer count.
        await asyncio.gather(
            *(slot.request_promptly("counts", {}) for slot in self.slots), return_exceptions=True
        )
        await self._forget_missing_routes()
        total = Metrics()
        total.add(self._dead_worker_metrics, with_gauges=False)
        for slot in self.slots:
            total.add(slot.metrics)
        total.log_dropped += standard_error.dropped()
        total.merge_states([slot.metrics for slot in self.slots if slot.serving.is_set()])
        return total

    async def _forget_missing_routes(self) -> None:
        """What dead workers counted for a route goes when the route goes."""
        keys = list(self._dead_worker_metrics.routes)
        if keys:
            try:
                answer = await self.slots[0].request_promptly("missing", {"keys": keys})
            except ChannelError:
                return  # It is about to be replaced; the next scrape asks again.
            self._dead_worker_metrics.drop(answer["missing"])

    async def target_states(self) -> dict[str, Message]:
        """How each target is that has been asked for anything, over all workers."""
        answers = await asyncio.gather(
            *(slot.request_promptly("targets", {}) for slot in self.slots), return_exceptions=True
        )
        states: dict[str, Message] = {}
        for answer in answers:
            if isinstance(answer, BaseException):
                continue
            for state in answer["targets"]:
                known = states.setdefault(state["target"], state)
                if known is not state:
                    for name in ("in_flight", "idle"):
                        known[name] += state[name]
                    for name in ("addresses", "name_error"):
                        if state.get(name):
                            known[name] = known.get(name) or state[name]
        return states


async def _reload(slot: Slot, version: int) -> int:
    """The version that the worker serves, once that is at least `version`."""
    force = True  # the first look; while it waits, a worker needs not read the same rows again
    while True:
        await slot.serving.wait()
        try:
            answer = await slot.request("reload", {"force": force})
        except ChannelError:
            # It has died, or has just begun to end; the next one serves what is there then.
            await asyncio.sleep(RELOAD_PAUSE)
            continue
        slot.version = answer["version"]
        if answer["problem"] is not None:
            raise ChannelError(answer["problem"])
        if slot.version >= version:
            return slot.version
        force = False
        await asyncio.sleep(RELOAD_PAUSE)


async def _adopt(slot: Slot) -> Message:
    while True:
        await slot.serving.wait()
        try:
            return await slot.request("adopt", {})
        except ChannelGoneError:
            await asyncio.sleep(RELOAD_PAUSE)


@dataclass(eq=False, slots=True)
class _Drain:
    """A drain under way. `is_undone`: no worker that starts from now on has to know of it."""

    target: str
    is_undone: bool = False


async def _drain(slot: Slot, fields: Message, drain: _Drain) -> tuple[Message | None, int]:
    """What the worker says of its drain, None if no worker came up; and how many died meanwhile.

    What a worker that dies has in flight ends with it; the next one has to know of the drain.
    """
    died: set[int] = set()
    while True:
        if slot.state in (State.STARTING, State.BACKOFF):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(slot.serving.wait(), WORKER_START_TIMEOUT)
        if slot.state is not State.SERVING or drain.is_undone:
            return None, len(died)
        pid = slot.pid
        try:
            return await slot.request("drain_target", fields), len(died)
        except ChannelGoneError:
            died.add(pid)
            await asyncio.sleep(RELOAD_PAUSE)


async def _undrain(slot: Slot, target: str) -> None:
    """It was told of the drain when it began."""
    await slot.serving.wait()
    slot.notify("undrain_target", {"target": target})

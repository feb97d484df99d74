"""Owns the edge as a whole: listening sockets, worker slots, signals, upgrade, and what is said to
all workers at once.

It serves no client. While it lives, the sockets that clients connect to stay open, whatever becomes
of a worker.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from edge.control.channel import CONFIG_EXIT, ChannelError, ChannelGoneError, Message
from edge.control.client import request
from edge.control.handover import Handover, adopt, distribute, is_ready
from edge.errors import ConfigError, FairleadError
from edge.net import systemd
from edge.net.listener import listen, listen_slots, listen_unix
from edge.routing.explain import explain, parse_url
from edge.routing.route import parse_target
from edge.routing.store_reader import Loaded, RouteReader
from edge.routing.table import Candidate
from edge.rules.rate_limit import make_descriptor
from edge.settings.settings import load
from edge.supervisor.sidecar import STOP_TIMEOUT as SIDECAR_STOP_TIMEOUT
from edge.supervisor.sidecar import Sidecar
from edge.supervisor.slot import Slot, State
from edge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from edge.supervisor.admin import Admin

logger = logging.getLogger(__name__)

# Seconds between two looks at the workers' signs of life.
CHECK_INTERVAL: Final = 0.25
# Seconds that an upgrade gives the new edge until it serves.
UPGRADE_TIMEOUT: Final = 60.0
# Seconds beyond the drain timeout after which a worker that should have ended is killed.
KILL_AFTER: Final = 5.0
# Workers in a row that may end at the start of an edge before it gives up.
START_ATTEMPTS: Final = 2
# Seconds that a drain waits for a worker that is just starting.
WORKER_START_TIMEOUT: Final = 10.0
# Seconds between two looks at a worker that does not serve the wanted version yet.
RELOAD_PAUSE: Final = 0.02


class Supervisor:
    """`texts` are the settings that differ from the defaults, as `edge.config.given_texts` says.

    `sidecars` run beside the workers as long as this edge serves.
    """

    def __init__(self, texts: Mapping[str, str], sidecars: Sequence[Sidecar] = ()) -> None:
        self.settings = load(texts, {})
        self.slots: list[Slot] = []
        self._inherited_drains: list[str] = []
        self._draining_targets: list[str] = []  # with a drain under way, however many
        self._texts = dict(texts)
        self._dead_worker_metrics = Metrics()  # what workers counted that are no more
        self._listeners: list[list[socket.socket]] = []
        self._control: socket.socket
        self._rates_fd: int
        self._admins: list[Admin] = []
        self._admin_sockets: list[socket.socket] = []
        self._running: list[asyncio.Task[int]] = []
        self._sidecars = sidecars
        self._running_sidecars: list[asyncio.Task[int]] = []
        self._stop = asyncio.Event()
        self._stopping = False
        self._upgrading = asyncio.Lock()
        self._predecessor_exited = asyncio.Event()  # what this edge took over from has ended
        self._predecessor_exited.set()
        self._successor_socket: socket.socket | None = None
        self._successor: asyncio.subprocess.Process | None = None
        self._handed_over = False
        self._owns_control = False
        self._tasks: set[asyncio.Task[object]] = set()
        self._started = False
        self._failed = asyncio.Event()
        self.upgrades = {"ok": 0, "failed": 0}

    # Life

    async def run(self) -> int:
        """Serve until told to stop; the exit code. Raises `ConfigError`."""
        handover = Handover.from_environment(os.environ)
        self._open_sockets(handover)
        self._install_signals()
        try:
            code = await self._start()
            if code is not None:
                return code
            if handover is not None:
                self._owns_control = True
                self._watch_predecessor(handover.notify_ready())
            systemd.notify("READY=1")
            watch = asyncio.create_task(self._watch())
            self._start_sidecars(settings_proven=handover is not None)
            await self._stop.wait()
            watch.cancel()
            await self._drain()
        finally:
            self._kill_all()
            self._unlink_control()
        # Those that were told to stop ended with 0.
        return max((task.result() for task in self._running_sidecars), default=0)

    def _start_sidecars(self, *, settings_proven: bool) -> None:
        """Once this edge serves: what they do may need it."""
        for sidecar in self._sidecars:
            task = asyncio.create_task(sidecar.run(settings_proven=settings_proven))
            # Before it is stopped, one ends only where it can never run.
            task.add_done_callback(lambda _: self._stop.set())
            self._running_sidecars.append(task)

    def _kill_all(self) -> None:
        for slot in self.slots:
            slot.kill()
        for sidecar in self._sidecars:
            sidecar.kill()

    def _unlink_control(self) -> None:
        """Once, and not after a handover: the path can be that of another edge by then."""
        if self._owns_control:
            self._owns_control = False
            self.settings.control_path.unlink(missing_ok=True)

    def _open_sockets(self, handover: Handover | None) -> None:
        settings = self.settings
        count = settings.workers or len(os.sched_getaffinity(0))
        activated = systemd.take_listeners(os.environ)
        if handover is not None:
            self._inherited_drains = list(handover.drained)
            self.upgrades |= handover.upgrades
            self._control = adopt(handover.control)
            self._rates_fd = handover.rates
            os.set_inheritable(self._rates_fd, False)
            admin = [adopt(fd) for fd in handover.admin]
            self._listeners = distribute(
                [[adopt(fd) for fd in slot] for slot in handover.http], count
            )
        else:
            self._rates_fd = make_descriptor()
            self._control = listen_unix(settings.control_path, "FAIRLEAD_CONTROL_SOCKET")
            try:
                self._listeners = (
                    [activated] * count
                    if activated
                    else listen_slots(settings.http_addr, "FAIRLEAD_HTTP_ADDR", count)
                )
                admin = listen(settings.admin_addr, "FAIRLEAD_ADMIN_ADDR")
            except ConfigError:
                settings.control_path.unlink()
                raise
        # A successor that does not come up must leave it to the one that goes on.
        self._owns_control = handover is None
        self._admin_sockets = admin
        self.slots = [
            Slot(
                number,
                listeners,
                self._hello,
                self._on_notify,
                self._on_worker_exit,
                [self._rates_fd],
            )
            for number, listeners in enumerate(self._listeners)
        ]

    def _install_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_sigterm)
        for number, act in (
            (signal.SIGHUP, self._on_sighup),
            (signal.SIGUSR1, self._reopen_logs),
            (signal.SIGUSR2, self._on_sigusr2),
        ):
            loop.add_signal_handler(number, act)

    async def _start(self) -> int | None:
        """Start everything; the exit code if that cannot be."""
        self._running = [asyncio.create_task(slot.run()) for slot in self.slots]
        serving = [asyncio.create_task(slot.serving.wait()) for slot in self.slots]
        everyone = asyncio.gather(*serving)
        stopped = asyncio.create_task(self._stop.wait())
        failed = asyncio.create_task(self._failed.wait())
        events: list[asyncio.Future[Any]] = [everyone, stopped, failed, *self._running]
        await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        if not everyone.done():
            everyone.cancel()
            await asyncio.gather(everyone, return_exceptions=True)
            if stopped.done():
                return 0
            if failed.done():
                logger.error(
                    "the workers exit at once: the edge cannot start, see the errors above"
                )
                return 1
            return CONFIG_EXIT
        stopped.cancel()
        failed.cancel()
        self._started = True
        # Loading it takes as long as a worker takes to serve, and nobody is served by it.
        from edge.supervisor.admin import Admin

        self._admins = [
            Admin(self, [self._control], token=None),
            Admin(self, self._admin_sockets, token=self.settings.admin_token),
        ]
        for admin in self._admins:
            await admin.start()
        for sock in self._listeners[0]:
            host, port = sock.getsockname()[:2]
            logger.info("serving on %s port %d with %d workers", host, port, len(self.slots))
        for sock in self._admin_sockets:
            host, port = sock.getsockname()[:2]
            logger.info("admin on %s port %d and %s", host, port, self.settings.control_path)
        return None

    async def _drain(self) -> None:
        """Let every worker finish what it has begun."""
        self._stopping = True
        # For systemd the service goes on after a handover, with another main process.
        if self._handed_over:
            # The sockets are those of the other one too: it is the one to ask. What is under way
            # here, such as a drain of a target, is answered here.
            for admin in self._admins:
                admin.stop_accepting()
        else:
            systemd.notify("STOPPING=1")
            self._unlink_control()
            if self._successor is not None:
                self._successor.kill()
        for listeners in self._listeners:
            for sock in listeners:
                sock.close()
        for sidecar in self._sidecars:
            sidecar.stop()
        for slot in self.slots:
            slot.drain()
        timeout = self.settings.drain_timeout + KILL_AFTER
        _, left = await asyncio.wait(self._running, timeout=timeout)
        if left:
            logger.error("%d workers did not exit in time: killing them", len(left))
            for slot in self.slots:
                slot.kill()
            await asyncio.wait(left)
        await asyncio.gather(*(admin.stop() for admin in self._admins))
        if self._successor_socket is not None:
            # Nothing is in flight here any more. A sidecar that still finishes what it does may
            # wait for just that, by asking the successor.
            self._successor_socket.close()
        if self._running_sidecars:
            _, late = await asyncio.wait(self._running_sidecars, timeout=SIDECAR_STOP_TIMEOUT)
            if late:
                logger.error("a sidecar did not exit in time: killing it")
                for sidecar in self._sidecars:
                    sidecar.kill()
                await asyncio.wait(late)
        logger.info("stopped")

    async def _watch(self) -> None:
        watchdog = systemd.watchdog_interval()
        last_sign = 0.0
        while True:
            await asyncio.sleep(min(CHECK_INTERVAL, watchdog or CHECK_INTERVAL))
            now = time.monotonic()
            for slot in self.slots:
                slot.check(now)
            if watchdog is not None and now - last_sign >= watchdog / 2:
                last_sign = now
                systemd.notify("WATCHDOG=1")

    # Signals

    def _on_sigterm(self) -> None:
        if self._stopping:
            logger.warning("second stop signal: requests in flight are cut off")
            self._kill_all()
        self._stop.set()

    def _on_sighup(self) -> None:
        self._reopen_logs()
        self._in_background(self.reload(0, 10.0))

    def _reopen_logs(self) -> None:
        for slot in self.slots:
            slot.notify("reopen", {})

    def _on_sigusr2(self) -> None:
        self._in_background(self.upgrade())

    def _in_background(self, work: Awaitable[object]) -> None:
        async def logged() -> None:
            try:
                await work
            except FairleadError as error:
                logger.error("%s", error)

        task: asyncio.Task[object] = asyncio.create_task(logged())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Notifications from and to workers

    async def _hello(self, slot: Slot) -> Message:
        return {
            "settings": self._texts,
            "slot": slot.number,
            "leader": slot.number == 0,
            "drained": self._drained_targets(),
            "rates": self._rates_fd,
            "verdicts": await self._verdicts(slot),
        }

    def _drained_targets(self) -> list[str]:
        """Targets that get nothing new, as the workers last said."""
        if not self._started:
            return self._inherited_drains
        said = {target for slot in self.slots for target in slot.drained}
        return sorted(said.union(self._draining_targets))

    def _on_notify(self, slot: Slot, message: Message) -> None:
        match message["kind"]:
            case "ready":
                self._in_background(self._send_verdicts(slot))
            case "verdict":
                for other in self.slots:
                    if other is not slot:
                        other.notify("verdict", {"verdict": message["verdict"]})

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
        if not self._started and slot.restarts >= START_ATTEMPTS:
            self._failed.set()

    # What is asked for

    async def reload(self, version: int, timeout: float) -> Message:  # noqa: ASYNC109
        """Returns when every worker serves `version` or a later one: which, and since when.

        Raises ChannelError after `timeout` seconds, or when the database cannot be read.
        """
        begun = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                if await self._has_successor():
                    fields = {"version": version, "timeout": timeout}
                    return await self._forward_to_successor("/reload", fields)
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
        if self._stopping:
            raise ChannelError("the edge is stopping")
        tasks = [asyncio.ensure_future(_reload(slot, version)) for slot in self.slots]
        try:
            return await asyncio.gather(*tasks)
        finally:
            # Where one has failed, the others would go on asking.
            for task in tasks:
                task.cancel()

    async def drain_target(
        self,
        target: str,
        timeout: float,  # noqa: ASYNC109  # the drain's, not the call's
        tunnel_timeout: float,
    ) -> Message:
        """Send no new exchange to `target`; returns when none is in flight in any worker.

        What is left after `timeout` seconds is cut; tunnels have `tunnel_timeout`. What the edge
        before an upgrade has in flight is waited for, too, but not cut.
        """
        target = parse_target(target)
        fields = {"target": target, "timeout": timeout, "tunnel_timeout": tunnel_timeout}
        if await self._has_successor():
            return await self._forward_to_successor("/drain", fields)
        begun = time.monotonic()
        total: Message = {"target": target, "finished": 0, "cut": 0, "tunnels_closed": 0}
        lost = 0
        self._draining_targets.append(target)
        try:
            answers = await asyncio.gather(*(_drain(slot, fields) for slot in self.slots))
        finally:
            self._draining_targets.remove(target)
        if all(answer is None for answer, _ in answers):
            raise ChannelError(f"no worker is running to drain {target}: try again")
        for answer, deaths in answers:
            lost += deaths
            for name in ("finished", "cut", "tunnels_closed"):
                total[name] += answer[name] if answer is not None else 0
        # Exchanges that were begun before an upgrade are in flight there, and end with it.
        left = begun + timeout - time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._predecessor_exited.wait(), max(left, 0.001))
        seconds = round(time.monotonic() - begun, 3)
        logger.info(
            "target %s drained in %g s: %d requests finished, %d cut off, %d tunnels closed",
            *(target, seconds, total["finished"], total["cut"], total["tunnels_closed"]),
        )
        return total | {
            "workers": sum(answer is not None for answer, _ in answers),
            "workers_lost": lost,
            "predecessor_exited": self._predecessor_exited.is_set(),
            "seconds": seconds,
        }

    def undrain_target(self, target: str) -> Message:
        """`target` may get exchanges again."""
        target = parse_target(target)
        for slot in self.slots:
            if slot.state is State.STARTING:
                self._in_background(_undrain(slot, target))
            else:
                slot.notify("undrain_target", {"target": target})
        return {"target": target}

    # Upgrade

    async def upgrade(self) -> Message:
        """Have the code on disk take over: start it, wait until it serves, and stop.

        Raises FairleadError if it does not come up; then nothing has changed.
        """
        if self._upgrading.locked() or self._stopping:
            raise FairleadError("the edge is already being upgraded or stopped")
        async with self._upgrading:
            begun = time.monotonic()
            try:
                pid = await self._start_successor()
            except FairleadError:
                self.upgrades["failed"] += 1
                raise
            self.upgrades["ok"] += 1
            self._handed_over = True
            self._owns_control = False
            systemd.notify(f"MAINPID={pid}")
            seconds = round(time.monotonic() - begun, 3)
            logger.info("upgrade: process %d serves after %g s, this one drains", pid, seconds)
            self._stop.set()
        return {"pid": pid, "seconds": seconds}

    async def _start_successor(self) -> int:
        ours, theirs = socket.socketpair()
        environ = dict(os.environ)
        handover = Handover(
            http=[[sock.fileno() for sock in slot] for slot in self._distinct_sockets()],
            admin=[sock.fileno() for sock in self._admin_sockets],
            control=self._control.fileno(),
            ready=theirs.fileno(),
            rates=self._rates_fd,
            drained=self._drained_targets(),
            upgrades=self.upgrades | {"ok": self.upgrades["ok"] + 1},
        )
        handover.export(environ)
        environ.pop("WATCHDOG_PID", None)  # systemd's name for this process
        with theirs:
            try:
                self._successor = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *sys.orig_argv[1:],
                    stdin=subprocess.DEVNULL,
                    env=environ,
                    pass_fds=handover.descriptors,
                )
            except OSError:
                ours.close()
                raise
        if is_ready(await _await_ready(ours)):
            # Open while anything is in flight here: that is how the successor knows.
            self._successor_socket = ours
        else:
            ours.close()
            if self._successor.returncode is None:
                self._successor.kill()
            code = await self._successor.wait()
            self._successor = None
            raise FairleadError(
                f"the upgrade failed, the old edge goes on: the new one exited with code {code},"
                " see its log"
            )
        return self._successor.pid

    def _distinct_sockets(self) -> list[list[socket.socket]]:
        """The sockets of each slot, those that slots share only once."""
        seen: set[int] = set()
        unshared = []
        for slot in self._listeners:
            own = [sock for sock in slot if sock.fileno() not in seen]
            seen |= {sock.fileno() for sock in own}
            if own:
                unshared.append(own)
        return unshared

    def _watch_predecessor(self, sock: socket.socket) -> None:
        """Note when the edge that this one took over from has ended."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(sock)
            sock.close()
            self._predecessor_exited.set()

        self._predecessor_exited.clear()
        loop.add_reader(sock, ended)

    async def _has_successor(self) -> bool:
        """Whether another process serves now; where one is about to, that is waited for."""
        async with self._upgrading:
            return self._handed_over

    async def _forward_to_successor(self, path: str, fields: Mapping[str, object]) -> Message:
        answer: Message | None = await asyncio.to_thread(
            request, self.settings.control_path, "POST", path, fields
        )
        if answer is None:
            raise ChannelError("the edge that took over has exited")
        return answer

    # What is shown

    def why_not_ready(self) -> str | None:
        """None if every worker serves a table, else the reason."""
        if self._stopping:
            return "draining"
        for slot in self.slots:
            if slot.why_not_ready is not None:
                return f"worker {slot.number}: {slot.why_not_ready}"
        return None

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

    def describe_workers(self) -> Message:
        """What `/workers` says."""
        return {
            "pid": os.getpid(),
            "workers": [
                {
                    "worker": slot.number,
                    "pid": slot.pid,
                    "state": slot.state.value,
                    "version": slot.version,
                    "restarts": slot.restarts,
                    "connections": slot.metrics.connections_open,
                    "tunnels": slot.metrics.tunnels_open,
                    "problem": slot.why_not_ready,
                }
                for slot in self.slots
            ],
        }

    async def describe_routes(self) -> Message:
        """What `/routes` says: the routes of the database, and how their targets are."""
        loaded = await asyncio.to_thread(self._load_routes)
        states = await self._target_states()
        return {
            "version": loaded.table.version,
            "served_version": min((slot.version for slot in self.slots), default=0),
            "routes": [
                {
                    "route": each.key,
                    "targets": [states.get(target, {"target": target}) for target in each.targets],
                    "weights": each.weights,
                    "options": each.options.public(),
                }
                for each in loaded.table
            ],
            "problems": loaded.problems,
        }

    async def explain(self, url: str) -> Message:
        """What `/explain` says of `url`. Raises RouteError, StoreError."""
        host, path = parse_url(url)
        loaded = await asyncio.to_thread(self._load_routes)
        found = explain(loaded.table, host, path)
        states = await self._target_states()

        def described(candidate: Candidate) -> Message:
            return {"route": candidate.route.key, "reason": candidate.reason}

        answer: Message = {"url": url, "version": found.version, "route": None}
        if found.chosen is not None:
            route = found.chosen.route
            answer |= described(found.chosen)
            answer["options"] = route.options.public()
            answer["targets"] = [states.get(target, {"target": target}) for target in route.targets]
        return answer | {"others": [described(other) for other in found.others]}

    def _load_routes(self) -> Loaded:
        loaded = RouteReader(self.settings.db).poll()
        assert loaded is not None  # the first look of a reader is always news
        return loaded

    async def _target_states(self) -> dict[str, Message]:
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
        return states


async def _await_ready(sock: socket.socket) -> bytes:
    """What the successor says, or b"" when it ends or takes too long."""
    sock.setblocking(False)
    try:
        async with asyncio.timeout(UPGRADE_TIMEOUT):
            return await asyncio.get_running_loop().sock_recv(sock, 64)
    except (TimeoutError, OSError):
        return b""


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


async def _drain(slot: Slot, fields: Message) -> tuple[Message | None, int]:
    """What the worker says of its drain, None if no worker came up; and how many died meanwhile.

    What a worker that dies has in flight ends with it; the next one has to know of the drain.
    """
    died: set[int] = set()
    while True:
        if slot.state in (State.STARTING, State.BACKOFF):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(slot.serving.wait(), WORKER_START_TIMEOUT)
        if slot.state is not State.SERVING:
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


def run(texts: Mapping[str, str], sidecars: Sequence[Sidecar] = ()) -> int:
    """Run an edge until it is told to stop; the exit code. Raises `ConfigError`."""
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr
    )
    return asyncio.run(_run(texts, sidecars))


async def _run(texts: Mapping[str, str], sidecars: Sequence[Sidecar]) -> int:
    return await Supervisor(texts, sidecars).run()

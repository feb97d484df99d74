"""Owns the life of the edge: its start, its signals, its stop.

It serves no client. While it lives, the sockets that clients connect to stay open, whatever becomes
of a worker.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from edge.control import lifeline
from edge.control.channel import CONFIG_EXIT
from edge.control.handover import Handover
from edge.net import systemd
from edge.settings.settings import load
from edge.supervisor.background import Background
from edge.supervisor.fleet import RELOAD_TIMEOUT, Fleet
from edge.supervisor.sidecar import STOP_TIMEOUT as SIDECAR_STOP_TIMEOUT
from edge.supervisor.sidecar import Sidecar
from edge.supervisor.sockets import Sockets, open_sockets
from edge.supervisor.succession import Succession
from edge.supervisor.upgrade import Upgrade
from edge.telemetry import standard_error
from edge.worker import process

if TYPE_CHECKING:
    from edge.api.server import Server

logger = logging.getLogger(__name__)

# Seconds between two looks at the workers' signs of life.
CHECK_INTERVAL: Final = 0.25
# Seconds beyond the drain timeout after which a worker that should have ended is killed.
KILL_AFTER: Final = 5.0

# Signals that would end a process that does not handle them.
COMMANDS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Supervisor:
    """`texts` are the settings that differ from the defaults, as `given_texts` says.

    `sidecars` run beside the workers as long as this edge serves. `open` comes before `run`.
    """

    fleet: Fleet
    upgrade: Upgrade
    _sockets: Sockets
    _handover: Handover | None

    def __init__(self, texts: Mapping[str, str], sidecars: Sequence[Sidecar] = ()) -> None:
        self.settings = load(texts, {})
        self._texts = dict(texts)
        self._succession = Succession(self.settings.control_path)
        self._background = Background()
        self._admin_servers: list[Server] = []
        self._running: list[asyncio.Task[int]] = []
        self._sidecars = sidecars
        self._running_sidecars: list[asyncio.Task[int]] = []
        self._stop = asyncio.Event()
        self._owns_control = False
        self._is_ready = False  # systemd was told so

    def open(self) -> None:
        """Have everything at hand that workers inherit. Raises `ConfigError`."""
        self._handover = handover = Handover.from_environment(os.environ)
        self._sockets = open_sockets(self.settings, handover)
        # A successor that does not come up must leave it to the one that goes on.
        self._owns_control = handover is None
        self.fleet = Fleet(
            *(self._texts, self._sockets, self._succession, self._background),
            handover.drained if handover is not None else (),
            handover.version if handover is not None else None,
        )
        if handover is not None:
            self.fleet.names.load(self._sockets.names)
        self.upgrade = Upgrade(
            *(self.fleet, self._sockets, self._succession, self._stop),
            # What a new edge takes that drains as this one does.
            self.settings.drain_timeout + 2 * KILL_AFTER,
        )
        if handover is not None:
            self.upgrade.counts |= handover.upgrades

    async def run(self) -> int:
        """Serve until told to stop; the exit code."""
        handover = self._handover
        self._install_signals()
        # From the first start on: a worker that is stopped in it would be waited for without end.
        watch = asyncio.create_task(self._watch())
        try:
            code = await self._start()
            if code is not None:
                if handover is not None and self.fleet.unfit is not None:
                    handover.notify_unfit(self.fleet.unfit)
                return code
            if self._stop.is_set():
                watch.cancel()
                await self._drain()
                return 0
            if handover is not None:
                self._owns_control = True
                lifeline.limit(0)
                self.upgrade.watch_predecessor(handover.notify_ready())
            systemd.notify("READY=1")
            self._is_ready = True
            self._start_sidecars(settings_proven=handover is not None)
            await self._stop.wait()
            watch.cancel()
            await self._drain()
        finally:
            watch.cancel()
            # From here on nobody handles them.
            signal.pthread_sigmask(signal.SIG_BLOCK, COMMANDS)
            self._kill_all()
            self._unlink_control()
        # Those that were told to stop ended with 0.
        return max((task.result() for task in self._running_sidecars), default=0)

    def _start_sidecars(self, *, settings_proven: bool) -> None:
        """Once this edge serves: what they do may need it."""
        for sidecar in self._sidecars:
            task = asyncio.create_task(
                sidecar.run(self._sockets.register, settings_proven=settings_proven)
            )
            # Before it is stopped, one ends only where it can never run.
            task.add_done_callback(lambda _: self._stop.set())
            self._running_sidecars.append(task)

    def _kill_all(self) -> None:
        self.fleet.kill()
        self.upgrade.kill()
        for sidecar in self._sidecars:
            sidecar.kill()

    def _unlink_control(self) -> None:
        """Once, and not after a handover: the path can be that of another edge by then."""
        if self._owns_control and not self._succession.handed_over:
            self._owns_control = False
            self.settings.control_path.unlink(missing_ok=True)

    def _install_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_sigterm)
        for number, act in zip(
            COMMANDS, (self._on_sighup, self.fleet.reopen_logs, self._on_sigusr2), strict=True
        ):
            loop.add_signal_handler(number, act)
        # `edge.cli.entry` has held them back.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, COMMANDS)

    async def _start(self) -> int | None:
        """Start everything; the exit code if that cannot be."""
        self._running = [asyncio.create_task(slot.run()) for slot in self.fleet.slots]
        serving = [asyncio.create_task(slot.serving.wait()) for slot in self.fleet.slots]
        everyone = asyncio.gather(*serving)
        stopped = asyncio.create_task(self._stop.wait())
        failed = asyncio.create_task(self.fleet.failed.wait())
        events: list[asyncio.Future[Any]] = [everyone, stopped, failed, *self._running]
        await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        if not everyone.done():
            everyone.cancel()
            await asyncio.gather(everyone, return_exceptions=True)
            if stopped.done():
                return None
            if failed.done():
                logger.error(
                    "the workers exit at once: the edge cannot start, see the errors above"
                )
                return 1
            return CONFIG_EXIT
        stopped.cancel()
        failed.cancel()
        self.fleet.started = True
        # Loading it takes as long as a worker takes to serve, and nobody is served by it.
        from edge.api.access import Access
        from edge.supervisor.admin import Admin
        from edge.supervisor.status import Status
        from edge.supervisor.stored_tokens import StoredTokens

        status = Status(self.fleet, self.settings.db)
        admin = Admin(status, self.fleet, self.upgrade, self.settings.drain_timeout)
        access = Access(
            self.settings.api_token,
            tokens=StoredTokens(self.settings.db),
            hosts=[address.host for address in self.settings.admin_addr],
            open_metrics=self.settings.metrics_auth == "loopback",
        )
        self._admin_servers = [
            admin.server([self._sockets.control], access),
            admin.server(self._sockets.admin, access),
        ]
        for server in self._admin_servers:
            await server.start()
        for sock in self._sockets.http[0]:
            host, port = sock.getsockname()[:2]
            logger.info("serving on %s port %d with %d workers", host, port, len(self.fleet.slots))
        for sock in self._sockets.admin:
            host, port = sock.getsockname()[:2]
            logger.info("admin on %s port %d and %s", host, port, self.settings.control_path)
        return None

    async def _drain(self) -> None:
        """Let every worker finish what it has begun."""
        self.fleet.stopping = True
        # For systemd the service goes on after a handover, with another main process.
        if self._succession.handed_over:
            # The sockets are those of the other one too: it is the one to ask. What is under way
            # here, such as a drain of a target, is answered here.
            for server in self._admin_servers:
                server.stop_accepting()
        else:
            if self._owns_control:
                systemd.notify("STOPPING=1")
            self._unlink_control()
            self.upgrade.give_up()
        for listeners in self._sockets.http:
            for sock in listeners:
                sock.close()
        for sidecar in self._sidecars:
            sidecar.stop()
        for slot in self.fleet.slots:
            slot.drain()
        timeout = self.settings.drain_timeout + KILL_AFTER
        _, left = await asyncio.wait(self._running, timeout=timeout)
        if left:
            logger.error("%d workers did not exit in time: killing them", len(left))
            self.fleet.kill()
            await asyncio.wait(left)
        await self.upgrade.finish()
        await asyncio.gather(*(server.stop() for server in self._admin_servers))
        # A sidecar that still finishes what it does may wait for that, by asking the successor.
        self.upgrade.release_successor()
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
            for slot in self.fleet.slots:
                slot.check(now)
            if watchdog is not None and self._is_ready and now - last_sign >= watchdog / 2:
                last_sign = now
                systemd.notify("WATCHDOG=1", wait=0.0)

    # Signals

    def _on_sigterm(self) -> None:
        if self.fleet.stopping:
            logger.warning("second stop signal: requests in flight are cut off")
            self._kill_all()
        self._stop.set()

    def _on_sighup(self) -> None:
        self.fleet.reopen_logs()
        self._background.start(self.fleet.reload(0, RELOAD_TIMEOUT))

    def _on_sigusr2(self) -> None:
        self._background.start(self.upgrade.upgrade())


def run(texts: Mapping[str, str], sidecars: Sequence[Sidecar] = ()) -> int:
    """Run an edge until it is told to stop; the exit code. Raises `ConfigError`.

    It also runs, and returns, in each of the first workers, which are made of this process.
    """
    supervisor = Supervisor(texts, sidecars)
    supervisor.open()
    channel = supervisor.fleet.fork()
    if channel is not None:
        return process.main(channel)
    standard_error.install()
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr
    )
    return asyncio.run(supervisor.run())

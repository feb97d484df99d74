"""Proves the edge as a whole: its workers die and hang, it is upgraded, and nobody is refused."""

import asyncio
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge.cli import route_set
from edge.control.channel import ChannelError, Message
from edge.errors import EdgeError
from edge.net.listener import listen_slots
from edge.routing.snapshot_memory import make_descriptors
from edge.routing.store_writer import RouteWriter
from edge.rules.rate_limit import make_descriptor
from edge.settings.syntax import Address
from edge.supervisor.child import Child
from edge.supervisor.register import Register
from edge.supervisor.respawn import FREE_RESTARTS
from edge.supervisor.slot import HEARTBEAT_TIMEOUT, Slot, State
from fairlead.__main__ import main
from tests.harness import Conversation, Upstream, UpstreamConnection, connect, exchange
from tests.messages import ok, request
from tests.process import PATIENCE, Origin, Process, is_alive


@pytest.fixture
def db(tmp_path: Path, upstream: Upstream) -> Path:
    """A database with one route."""
    path = tmp_path / "fairlead.db"
    RouteWriter(path).set("app.test", upstream.target)
    return path


@pytest.fixture
def origin(conversation: Conversation, db: Path) -> Origin:
    """The target of origin.test."""
    origin = Origin(conversation)
    RouteWriter(db).set("origin.test", origin.target)
    return origin


@pytest.fixture
def process(conversation: Conversation, db: Path, origin: Origin) -> Process:
    """An edge with two workers that serves app.test and origin.test."""
    return Process(conversation, db)


def serving_pids(process: Process) -> set[int]:
    return {worker["pid"] for worker in process.workers() if worker["state"] == "serving"}


class TestDeath:
    def test_a_worker_that_is_killed_is_replaced(
        self, process: Process, upstream: Upstream
    ) -> None:
        before = serving_pids(process)
        victim = process.workers()[0]["pid"]
        os.kill(victim, signal.SIGKILL)
        assert "killed by SIGKILL" in process.says(f"worker 0 (pid {victim}) exited")
        process.until("/metrics", "fairlead_workers_serving 2.0")
        after = serving_pids(process)
        assert victim not in after
        assert len(after & before) == 1
        assert process.workers()[0]["restarts"] == 1
        exchange(process.connects(), upstream)

    def test_who_waits_to_be_accepted_is_served_by_the_next_worker(
        self, process: Process, origin: Origin
    ) -> None:
        pids = serving_pids(process)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        clients = [process.connects() for _ in range(8)]
        for client in clients:
            client.sends(request("GET /", host="origin.test"))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert {client.receives_response().text for client in clients} == {origin.port}

    def test_what_a_dead_worker_has_counted_is_not_lost(
        self, process: Process, upstream: Upstream
    ) -> None:
        sample = 'fairlead_http_requests_total{code="2xx",route="app.test"} 3.0'
        client = process.connects()
        connection = exchange(client, upstream).connection
        for _ in range(2):
            exchange(client, connection)
        process.until("/metrics", sample)
        for pid in serving_pids(process):
            os.kill(pid, signal.SIGKILL)
        process.says("exited")
        process.says("exited")
        process.until("/metrics", "fairlead_workers_serving 2.0")
        assert sample in process.admin("/metrics").text
        # Those of a route that is gone go with it.
        process.asks("/reload", version=RouteWriter(process.db).remove("app.test"))
        assert 'route="app.test"' not in process.admin("/metrics").text

    def test_workers_end_with_their_supervisor(self, process: Process) -> None:
        pids = serving_pids(process)
        process.gets(signal.SIGKILL)
        process.popen.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while any(map(is_alive, pids)):
            assert time.monotonic() < deadline, "workers outlive their supervisor"

    def test_the_socket_of_an_edge_that_was_killed_is_replaced(
        self, process: Process, db: Path, conversation: Conversation, upstream: Upstream
    ) -> None:
        process.gets(signal.SIGKILL)
        process.popen.wait(PATIENCE)
        assert process.control.exists()
        exchange(Process(conversation, db).connects(), upstream)

    def test_a_second_edge_beside_the_same_database_is_refused(
        self, process: Process, db: Path, upstream: Upstream
    ) -> None:
        ended = run_edge(FAIRLEAD_DB=str(db))
        assert ended.returncode == 2
        assert "another process serves" in ended.stderr
        exchange(process.connects(), upstream)
        assert process.control.exists()

    def test_workers_that_cannot_start_end_the_edge(self, tmp_path: Path) -> None:
        ended = run_edge(
            FAIRLEAD_DB=str(tmp_path / "fairlead.db"),
            FAIRLEAD_ACCESS_LOG=str(tmp_path / "missing" / "log"),
        )
        assert ended.returncode == 2
        assert "cannot be opened" in ended.stderr
        assert not (tmp_path / "fairlead.sock").exists()

    def test_told_to_stop_twice_it_does_not_wait(
        self, process: Process, upstream: Upstream
    ) -> None:
        client = process.connects()
        client.sends(request("GET /never"))
        upstream.accepts().receives_request()
        process.gets(signal.SIGTERM)
        process.says("draining")
        process.gets(signal.SIGTERM)
        process.says("second stop signal")
        assert process.ends() == 0
        client.sees_end()


def run_edge(**environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "edge"],
        env={
            **os.environ,
            "FAIRLEAD_HTTP_ADDR": "127.0.0.1:0",
            "FAIRLEAD_ADMIN_ADDR": "127.0.0.1:0",
            "FAIRLEAD_WORKERS": "2",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


class TestSlot:
    """One worker slot, with a clock for its signs of life."""

    def test_a_worker_without_a_sign_of_life_is_replaced(self, tmp_path: Path) -> None:
        async def conversation() -> None:
            died = asyncio.Event()
            slot, running = start_slot(tmp_path, died)
            await asyncio.wait_for(slot.serving.wait(), PATIENCE)
            hung = slot.pid
            os.kill(hung, signal.SIGSTOP)
            slot.check(time.monotonic())
            assert is_alive(hung)
            slot.check(time.monotonic() + HEARTBEAT_TIMEOUT + 1)
            await asyncio.wait_for(died.wait(), PATIENCE)
            await asyncio.wait_for(slot.serving.wait(), PATIENCE)
            assert (slot.restarts, slot.pid == hung) == (1, False)
            await end(slot, running)

        asyncio.run(conversation())

    def test_one_that_keeps_dying_waits_before_it_tries_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # For longer than the test, unless the end of the slot ends it.
        monkeypatch.setattr("edge.supervisor.respawn.INITIAL_DELAY", 3600.0)
        monkeypatch.setattr("edge.supervisor.respawn.MAX_SERVED_DELAY", 3600.0)

        async def conversation() -> None:
            died = asyncio.Event()
            slot, running = start_slot(tmp_path, died)
            for _ in range(FREE_RESTARTS + 1):
                await asyncio.wait_for(slot.serving.wait(), PATIENCE)
                died.clear()
                os.kill(slot.pid, signal.SIGKILL)
                await asyncio.wait_for(died.wait(), PATIENCE)
            await asyncio.sleep(0)
            assert slot.restarts == FREE_RESTARTS + 1
            assert slot.state is State.BACKOFF
            await end(slot, running)

        asyncio.run(conversation())

    def test_one_that_cannot_be_started_is_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spawn = Child.start
        failures = [OSError(errno.EMFILE, "too many open files") for _ in range(2)]

        def sometimes(*arguments: Any, **options: Any) -> Child:
            if failures:
                raise failures.pop()
            return spawn(*arguments, **options)

        monkeypatch.setattr("edge.supervisor.slot.Child.start", sometimes)

        async def conversation() -> None:
            died = asyncio.Event()
            slot, running = start_slot(tmp_path, died)
            await asyncio.wait_for(slot.serving.wait(), PATIENCE)
            assert died.is_set()
            assert slot.restarts == 2
            await end(slot, running)

        asyncio.run(conversation())

    def test_one_that_is_not_understood_is_replaced(self, tmp_path: Path) -> None:
        odd = [KeyError("what a later version says")]

        def hears(slot: Slot, message: Message) -> None:
            if odd:
                raise odd.pop()

        async def conversation() -> None:
            died = asyncio.Event()
            slot, running = start_slot(tmp_path, died, hears)
            await asyncio.wait_for(died.wait(), PATIENCE)
            await asyncio.wait_for(slot.serving.wait(), PATIENCE)
            assert slot.restarts == 1
            await end(slot, running)

        asyncio.run(conversation())

    def test_one_that_hangs_is_not_waited_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edge.supervisor.slot.PROMPT_TIMEOUT", 0.01)

        async def conversation() -> None:
            slot, running = start_slot(tmp_path, asyncio.Event())
            await asyncio.wait_for(slot.serving.wait(), PATIENCE)
            os.kill(slot.pid, signal.SIGSTOP)
            with pytest.raises(ChannelError, match="worker 0 does not respond"):
                await slot.request_promptly("targets", {})
            os.kill(slot.pid, signal.SIGCONT)
            await end(slot, running)

        asyncio.run(conversation())

    def test_one_that_does_not_read_is_replaced_before_it_costs_too_much(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edge.supervisor.slot.MAX_UNSENT", 2**20)

        async def conversation() -> None:
            died = asyncio.Event()
            slot, running = start_slot(tmp_path, died)
            await asyncio.wait_for(slot.serving.wait(), PATIENCE)
            stopped = slot.pid
            os.kill(stopped, signal.SIGSTOP)
            slot.notify("undrain_target", {"target": "x" * 2**19})
            slot.check(time.monotonic())
            assert is_alive(stopped)
            slot.notify("undrain_target", {"target": "x" * 2**20})
            slot.check(time.monotonic())
            await asyncio.wait_for(died.wait(), PATIENCE)
            await asyncio.wait_for(slot.serving.wait(), PATIENCE)
            assert (slot.restarts, slot.pid == stopped) == (1, False)
            await end(slot, running)

        asyncio.run(conversation())

    def test_one_that_is_drained_while_it_starts_ends(self, tmp_path: Path) -> None:
        async def conversation() -> None:
            slot, running = start_slot(tmp_path, asyncio.Event())
            await asyncio.sleep(0)
            await end(slot, running)

        asyncio.run(conversation())


def start_slot(
    folder: Path,
    died: asyncio.Event,
    hears: Callable[[Slot, Message], None] = lambda slot, message: None,
) -> "tuple[Slot, asyncio.Task[int]]":
    ((listener,),) = listen_slots([Address("127.0.0.1", 0)], "FAIRLEAD_HTTP_ADDR", 1)
    rates = make_descriptor()
    tables = make_descriptors()

    async def hello(slot: Slot) -> dict[str, object]:
        return {
            "settings": {"db": str(folder / "fairlead.db")},
            "slot": slot.number,
            "leader": True,
            "drained": [],
            "rates": rates,
            "tables": tables,
            "predecessor": None,
            "verdicts": [],
            "names": [],
        }

    slot = Slot(
        0,
        [listener],
        hello,
        hears,
        lambda slot: died.set(),
        Register.open(folder / "fairlead.sock.lock"),
        [rates, *tables],
    )
    return slot, asyncio.get_running_loop().create_task(slot.run())


async def end(slot: Slot, running: "asyncio.Task[int]") -> None:
    slot.drain()
    assert await asyncio.wait_for(running, PATIENCE) == 0
    assert slot.state is State.STOPPED
    for sock in slot.listeners:
        sock.close()
    for descriptor in (*slot.inherited, slot.register.descriptor):
        os.close(descriptor)


class TestUpgrade:
    def test_a_drain_knows_of_what_the_old_process_has_in_flight(
        self, process: Process, upstream: Upstream
    ) -> None:
        client = process.connects()
        client.sends(request("GET /slow"))
        connection = upstream.accepts()
        connection.receives_request()
        pid = process.asks("/upgrade")["pid"]
        answer = process.asks("/drain", target=upstream.target, timeout=0.2)
        assert (answer["cut"], answer["predecessor_exited"]) == (0, False)
        connection.sends(ok("slow"))
        assert client.receives_response().text == "slow"
        client.closes()
        answer = process.asks("/drain", target=upstream.target, timeout=PATIENCE)
        assert answer["predecessor_exited"]
        assert process.ends() == 0
        process.is_succeeded_by(pid)

    @pytest.mark.parametrize("how", ["signal", "command"])
    def test_another_process_takes_over_and_the_old_one_finishes(
        self, process: Process, upstream: Upstream, how: str
    ) -> None:
        before = process.admin("/workers").json()
        client = process.connects()
        client.sends(request("GET /slow"))
        connection = upstream.accepts()
        connection.receives_request()
        if how == "signal":
            process.gets(signal.SIGUSR2)
            process.says("this one drains")
        else:
            assert process.asks("/upgrade")["pid"] != before["pid"]
        # The old one still answers what it has begun, the new one serves whoever comes.
        other = process.connects()
        other.sends(request("GET /new"))
        second = upstream.accepts()
        assert second.receives_request().target == "/new"
        second.sends(ok("new"))
        assert other.receives_response().text == "new"
        connection.sends(ok("slow"))
        assert client.receives_response().text == "slow"
        assert process.ends() == 0
        process.until("/readyz", "ready")
        after = process.admin("/workers").json()
        assert after["pid"] != before["pid"]
        assert process.asks("/reload")["workers"] == 2
        assert 'fairlead_upgrades_total{result="ok"} 1.0' in process.admin("/metrics").text
        process.is_succeeded_by(after["pid"])

    def test_nobody_is_refused_meanwhile(self, process: Process, origin: Origin) -> None:
        process.gets(signal.SIGUSR2)
        served = 0
        while process.popen.poll() is None or served < 20:
            client = process.connects()
            client.sends(request("GET /", "Connection: close", host="origin.test"))
            assert client.receives_response().text == origin.port
            client.closes()
            served += 1
        assert process.popen.returncode == 0
        process.is_succeeded_by(process.admin("/workers").json()["pid"])

    def test_one_that_does_not_come_up_is_given_up(
        self, conversation: Conversation, db: Path, upstream: Upstream, tmp_path: Path
    ) -> None:
        folder = tmp_path / "log"
        folder.mkdir()
        process = Process(conversation, db, access_log=str(folder / "access.log"))
        pids = serving_pids(process)
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(EdgeError, match="the old edge goes on"):
            process.asks("/upgrade")
        assert serving_pids(process) == pids
        exchange(process.connects(), upstream)
        assert 'fairlead_upgrades_total{result="failed"} 1.0' in process.admin("/metrics").text
        assert process.control.exists()
        process.gets(signal.SIGTERM)
        assert process.ends() == 0

    def test_two_at_once_are_one(self, process: Process) -> None:
        process.gets(signal.SIGUSR2)
        process.gets(signal.SIGTERM)
        assert process.ends() == 0
        process.is_succeeded_by_nobody()

    def test_a_drain_that_is_under_way_is_answered(
        self, process: Process, upstream: Upstream
    ) -> None:
        client = process.connects()
        client.sends(request("GET /slow"))
        connection = upstream.accepts()
        connection.receives_request()
        idle = keeps_one_idle(process, upstream)
        with ThreadPoolExecutor(1) as thread:
            drain = thread.submit(process.asks, "/drain", target=upstream.target, timeout=60)
            idle.sees_end()
            pid = process.asks("/upgrade")["pid"]
            # The next one knows of it, too.
            assert "is draining" in refusal(process)
            connection.sends(ok("slow"))
            assert client.receives_response().text == "slow"
            assert drain.result(PATIENCE)["finished"] == 1
        assert process.ends() == 0
        process.is_succeeded_by(pid)

    def test_whoever_asks_for_a_reload_meanwhile_is_answered(self, process: Process) -> None:
        upgraded = threading.Event()

        def asks() -> set[int]:
            workers = set()
            while not upgraded.is_set():
                workers.add(process.asks("/reload", version=2)["workers"])
            return workers

        with ThreadPoolExecutor(4) as threads:
            asking = [threads.submit(asks) for _ in range(4)]
            try:
                pid = process.asks("/upgrade")["pid"]
                process.ends()
            finally:
                upgraded.set()
            assert [each.result(PATIENCE) for each in asking] == [{2}] * 4
        process.is_succeeded_by(pid)


def keeps_one_idle(process: Process, upstream: Upstream) -> UpstreamConnection:
    """A connection that a drain of the target closes as soon as it begins."""
    return exchange(process.connects(), upstream).connection


def refusal(process: Process) -> str:
    """What a client of app.test is told; at once, for its target is drained."""
    client = process.connects()
    client.sends(request("GET /", "Connection: close"))
    return client.receives_response().text


class TestDrainOfTargets:
    def test_a_worker_that_is_just_starting_knows_of_it(
        self, process: Process, origin: Origin
    ) -> None:
        os.kill(process.workers()[0]["pid"], signal.SIGKILL)
        process.says("exited")
        assert process.asks("/drain", target=origin.target)["workers"] == 2
        assert statuses(process) == {503}

    def test_and_of_its_end(self, process: Process, origin: Origin) -> None:
        process.asks("/drain", target=origin.target)
        os.kill(process.workers()[0]["pid"], signal.SIGKILL)
        process.says("exited")
        process.asks("/undrain", target=origin.target)
        process.asks("/reload")
        assert statuses(process) == {200}

    def test_with_a_version_not_before_it_is_served(self, process: Process, origin: Origin) -> None:
        served = process.asks("/reload")["version"]
        with pytest.raises(EdgeError, match=f"not all workers serve version {served + 1}"):
            process.asks("/drain", target=origin.target, version=served + 1)
        assert statuses(process) == {200}
        process.asks("/drain", target=origin.target, version=served)
        assert statuses(process) == {503}

    def test_one_that_dies_meanwhile_is_counted(self, process: Process, upstream: Upstream) -> None:
        clients = [process.connects() for _ in range(8)]
        for client in clients:
            client.sends(request("GET /never"))
            upstream.accepts().receives_request()
        idle = keeps_one_idle(process, upstream)
        with ThreadPoolExecutor(1) as thread:
            drain = thread.submit(process.asks, "/drain", target=upstream.target, timeout=60)
            idle.sees_end()
            for pid in serving_pids(process):
                os.kill(pid, signal.SIGKILL)
            answer = drain.result(PATIENCE)
        assert (answer["workers"], answer["workers_lost"]) == (2, 2)

    def test_an_edge_that_stops_reloads_nothing(
        self, conversation: Conversation, db: Path, upstream: Upstream
    ) -> None:
        process = Process(conversation, db)
        client = process.connects()
        client.sends(request("GET /slow"))
        connection = upstream.accepts()
        connection.receives_request()
        process.gets(signal.SIGTERM)
        process.until("/readyz", "unavailable")
        for path, fields, said in (
            ("/reload", {}, "the edge is stopping"),
            ("/drain", {"target": upstream.target}, "no worker is running to drain"),
        ):
            answer = process.admin(path, "POST", json=fields)
            assert answer.status_code == 503
            assert said in answer.json()["error"]
        connection.sends(ok("slow"))
        assert client.receives_response().text == "slow"
        assert process.ends() == 0


def statuses(process: Process) -> set[int]:
    """What clients of origin.test get, whichever worker serves them."""
    found = set()
    for _ in range(20):
        client = process.connects()
        client.sends(request("GET /", "Connection: close", host="origin.test"))
        found.add(client.receives_response().status)
    return found


def who_answers(process: Process) -> str:
    """The port of the origin behind app.test."""
    client = process.connects()
    client.sends(request("GET /", "Connection: close"))
    return client.receives_response().text


def states(process: Process) -> dict[str, str]:
    """How the targets of all routes are."""
    return {
        target["target"]: target.get("state", "")
        for route in process.admin("/routes").json()["routes"]
        for target in route["targets"]
    }


class TestDrain:
    @pytest.fixture
    def pair(self, process: Process, conversation: Conversation, db: Path) -> tuple[Origin, Origin]:
        """The two targets of app.test."""
        pair = (Origin(conversation), Origin(conversation))
        version = RouteWriter(db).set("app.test", ",".join(each.target for each in pair))
        process.asks("/reload", version=version)
        return pair

    def test_nothing_new_goes_there_from_any_worker_until_it_is_undone(
        self, process: Process, db: Path, pair: tuple[Origin, Origin]
    ) -> None:
        out, rest = pair
        assert {who_answers(process) for _ in range(8)} == {out.port, rest.port}
        told = fairlead("drain", out.target, db=db)
        assert told.startswith(f"{out.target} drained in ")
        assert told.endswith("0 aborted, 0 tunnels closed\n")
        assert {who_answers(process) for _ in range(16)} == {rest.port}
        # Whoever takes the place of a worker, and of all of them, knows it, too.
        victim = process.workers()[0]["pid"]
        os.kill(victim, signal.SIGKILL)
        process.says(f"(pid {victim}) exited")
        process.until("/metrics", "fairlead_workers_serving 2.0")
        assert {who_answers(process) for _ in range(16)} == {rest.port}
        assert fairlead("edge", "upgrade", db=db).startswith("upgraded to process ")
        assert process.ends() == 0
        assert {who_answers(process) for _ in range(16)} == {rest.port}
        assert fairlead("drain", out.target, "--undo", db=db) == (
            f"{out.target} is back in service\n"
        )
        assert {who_answers(process) for _ in range(16)} == {out.port, rest.port}
        process.is_succeeded_by(process.admin("/workers").json()["pid"])

    def test_what_is_in_flight_is_waited_for_and_cut_when_the_time_is_over(
        self, process: Process, upstream: Upstream
    ) -> None:
        client = process.connects()
        client.sends(request("GET /never"))
        upstream.accepts().receives_request()
        answer = process.asks("/drain", target=upstream.target, timeout=0.2)
        assert (answer["finished"], answer["cut"], answer["workers"]) == (0, 1, 2)
        assert client.receives_response().status == 504

    def test_where_no_edge_runs_there_is_nothing_to_drain(self, tmp_path: Path) -> None:
        for words in (("drain", "a:1"), ("edge", "upgrade")):
            result = CliRunner().invoke(main, [*words, "--db", str(tmp_path / "fairlead.db")])
            assert result.exit_code == 1
            assert "no edge is running at" in result.stderr


def fairlead(*words: str, db: Path) -> str:
    """What a command prints that succeeds."""
    result = CliRunner().invoke(main, [*words, "--db", str(db)])
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


class TestDryRun:
    """How many requests a change of a route concerns."""

    def test_those_that_the_route_takes_or_would_take(
        self,
        process: Process,
        db: Path,
        monkeypatch: pytest.MonkeyPatch,
        conversation: Conversation,
    ) -> None:
        origin = Origin(conversation)
        version = RouteWriter(db).set("app.test", origin.target)
        process.asks("/reload", version=version)

        def requests_come(_: float) -> None:
            for _ in range(100):
                who_answers(process)

        monkeypatch.setattr(route_set, "sleep", requests_come)
        text = fairlead("route", "set", "app.test", "a:1", "--dry-run", db=db)
        found = re.search(r"([\d.]+) requests per second take this route$", text.strip())
        assert found is not None
        assert float(found[1]) > 0
        text = fairlead("route", "set", "app.test/x", "a:1", "--dry-run", db=db)
        assert re.search(r"at most [\d.]+ requests .*: those that app.test takes now", text)
        text = fairlead("route", "set", "*.test", "a:1", "--dry-run", db=db)
        assert "no route takes its requests now: they are answered 404" in text
        assert process.asks("/reload", version=0)["version"] == version


class TestHealth:
    def test_a_target_is_out_for_all_workers_and_for_those_that_come_later(
        self, process: Process, conversation: Conversation, db: Path
    ) -> None:
        sick, well = Origin(conversation), Origin(conversation)
        options = {"health_path": "/up", "health_interval": 0.5, "health_fall": 1, "health_rise": 1}
        writer = RouteWriter(db)
        version = writer.set("app.test", f"{sick.target},{well.target}", options)
        process.asks("/reload", version=version)
        sick.status = 503
        process.until("/routes", '"state":"unhealthy"')
        assert states(process)[sick.target] == "unhealthy"
        explained = fairlead("explain", "http://app.test/", db=db)
        assert (
            f"{sick.target}  accepts connections; the edge considers it unhealthy (GET /up: 503)"
            in (explained)
        )
        assert f'fairlead_upstream_up{{target="{sick.target}"}} 0.0' in (
            process.admin("/metrics").text
        )
        assert {who_answers(process) for _ in range(16)} == {well.port}
        for worker in process.workers():
            os.kill(worker["pid"], signal.SIGKILL)
            process.says(f"(pid {worker['pid']}) exited")
            process.until("/metrics", "fairlead_workers_serving 2.0")
            process.until("/routes", '"state":"unhealthy"')
            assert {who_answers(process) for _ in range(16)} == {well.port}
        sick.status = 200
        process.until("/metrics", f'fairlead_upstream_up{{target="{sick.target}"}} 1.0')
        assert {who_answers(process) for _ in range(16)} == {sick.port, well.port}


class TestReload:
    def test_every_worker_has_it_when_the_answer_comes(
        self, process: Process, db: Path, conversation: Conversation
    ) -> None:
        for _ in range(5):
            other = Origin(conversation)
            version = RouteWriter(db).set("app.test", other.target)
            answer = process.asks("/reload", version=version)
            assert (answer["version"], answer["workers"]) == (version, 2)
            assert {who_answers(process) for _ in range(8)} == {other.port}

    def test_the_command_waits_for_it(self, process: Process, db: Path, upstream: Upstream) -> None:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "fairlead"),
                *("route", "set", "b.test", upstream.target, "--db", str(db)),
            ],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert f"b.test -> {upstream.target} (version 3, served by 2/2 workers after" in done.stdout
        exchange(process.connects(), upstream, request("GET /", host="b.test"))

    def test_a_worker_that_is_just_dying_is_waited_for(
        self, process: Process, db: Path, conversation: Conversation
    ) -> None:
        other = Origin(conversation)
        version = RouteWriter(db).set("app.test", other.target)
        os.kill(process.workers()[1]["pid"], signal.SIGKILL)
        assert process.asks("/reload", version=version)["workers"] == 2
        assert {who_answers(process) for _ in range(8)} == {other.port}

    def test_a_version_that_does_not_come_is_waited_for_without_reading_all_again(
        self, process: Process
    ) -> None:
        with pytest.raises(EdgeError, match=r"after 0\.3 s; still behind: worker 0, worker 1"):
            process.asks("/reload", version=99, timeout=0.3)
        # Each of two workers has read the table at its start, and once more.
        process.until("/metrics", 'fairlead_routes_reloads_total{result="ok"} 4.0')

    def test_sighup_reloads_and_reopens_in_every_worker(
        self, conversation: Conversation, db: Path, tmp_path: Path, upstream: Upstream
    ) -> None:
        log = tmp_path / "access.log"
        process = Process(conversation, db, access_log=str(log))
        log.rename(tmp_path / "access.log.1")
        version = RouteWriter(db).set("b.test", upstream.target)
        process.gets(signal.SIGHUP)
        process.until("/workers", f'"version":{version}')
        deadline = time.monotonic() + PATIENCE
        while not log.exists():
            assert time.monotonic() < deadline, "the log was not opened anew"


def is_main_pid(said: bytes) -> bool:
    return said.startswith(b"MAINPID=")


class TestSystemd:
    @pytest.fixture
    def notified(self, tmp_path: Path) -> Iterator[socket.socket]:
        """Where systemd listens."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(tmp_path / "notify"))
            sock.settimeout(PATIENCE)
            yield sock

    def test_it_is_told_of_start_life_upgrade_and_stop(
        self,
        notified: socket.socket,
        conversation: Conversation,
        db: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", notified.getsockname())
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        process = Process(conversation, db)
        assert notified.recv(100) == b"READY=1"
        assert notified.recv(100) == b"WATCHDOG=1"
        process.gets(signal.SIGUSR2)
        said = {notified.recv(100)}
        while b"READY=1" not in said or not any(map(is_main_pid, said)):
            said.add(notified.recv(100))
        assert process.ends() == 0
        assert b"STOPPING=1" not in said
        (pid,) = (int(text[8:]) for text in said if is_main_pid(text))
        # The new one is watched too, although systemd has named only the old one.
        while notified.recv(100) != b"WATCHDOG=1":
            pass
        process.is_succeeded_by(pid)
        while notified.recv(100) != b"STOPPING=1":
            pass

    def test_it_serves_on_the_sockets_that_systemd_opened(
        self, conversation: Conversation, db: Path, upstream: Upstream
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            process = Process(conversation, db, activated_by=listener)
            assert process.port == listener.getsockname()[1]
            exchange(connect(conversation, listener.getsockname()), upstream)
            process.asks("/upgrade")
            assert process.ends() == 0
            exchange(connect(conversation, listener.getsockname()), upstream)
            process.is_succeeded_by(process.admin("/workers").json()["pid"])

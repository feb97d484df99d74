"""Leaving: what is in flight ends well, nothing new begins, and signals reach a real process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.proxy.client import DRAIN_QUIET_PERIOD
from edge.routing.store_writer import RouteWriter
from tests.harness import WAIT, Client, Conversation, Edge, Upstream, exchange
from tests.messages import chunk, ok, request, response
from tests.process import Process


class TestDraining:
    """RFC 9112 section 9.6; issue "The edge serves by Host": SIGTERM and SIGINT."""

    def test_what_is_in_flight_is_finished_with_close(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        drained = edge.drains()
        connection.sends(ok("fine"))
        answer = client.receives_response()
        assert answer.text == "fine"
        assert answer.closes()
        client.sees_eof()
        client.closes()
        assert drained.result(WAIT) is True

    def test_a_body_that_still_comes_is_taken(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("POST /", "Content-Length: 6", body="one"))
        connection = upstream.accepts()
        connection.receives_head()
        edge.drains()
        client.sends(b"two")
        connection.receives_data("onetwo")
        connection.sends(ok("fine"))
        assert client.receives_response().closes()

    def test_a_head_of_which_a_part_has_come_is_answered_with_close(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /")[:10])
        edge.drains()
        client.sends(request("GET /")[10:])
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(ok("fine"))
        assert client.receives_response().closes()
        client.sees_eof()

    def test_a_response_that_has_begun_is_finished(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(response("200 OK", "Transfer-Encoding: chunked", body=chunk("one")))
        client.receives_head()
        edge.drains()
        connection.sends(chunk("two") + chunk(""))
        client.receives_data("onetwo")
        client.receives_end()
        client.sees_eof()

    def test_idle_clients_are_closed_when_they_stay_quiet(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        exchange(client, upstream)
        silent = edge.connects()
        edge.drains()
        edge.advance(DRAIN_QUIET_PERIOD)
        client.sees_eof()
        silent.sees_eof()

    def test_a_request_that_was_on_its_way_is_answered_and_the_connection_closed(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        drained = edge.drains()
        edge.advance(DRAIN_QUIET_PERIOD / 2)
        assert exchange(client, connection).response.closes()
        client.sees_eof()
        client.closes()
        assert drained.result(WAIT) is True

    def test_a_request_that_the_loop_has_not_read_yet_is_no_quiet(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        edge.drains()
        with edge.held():
            client.sends(request("GET /"))
            edge.sweeps_late(DRAIN_QUIET_PERIOD)
        connection.receives_request()
        connection.sends(ok("late"))
        assert client.receives_response().text == "late"

    def test_a_connection_that_was_accepted_at_that_moment_gets_its_answer(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        """Nobody else is there: the drain was over before the worker knew of it."""
        drained = []

        async def drain() -> None:
            drained.append(await edge.worker.drain())

        with edge.held(begins=drain):
            client = edge.connects()
        edge.settle()
        assert drained == []
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(ok("fine"))
        assert client.receives_response().closes()
        client.sees_eof()

    def test_a_connection_that_was_accepted_at_that_moment_is_closed_when_it_stays_quiet(
        self, edge: Edge
    ) -> None:
        with edge.held(begins=edge.worker.drain):
            client = edge.connects()
        edge.advance(DRAIN_QUIET_PERIOD)
        client.sees_eof()

    def test_no_connection_is_accepted(self, edge: Edge, client: Client) -> None:
        client.sends(request("GET /", host="unknown.test"))
        client.receives_response()
        edge.drains()
        with pytest.raises(ConnectionRefusedError):
            edge.connects()

    def test_a_pipelined_request_is_not_begun(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /1") + request("GET /2"))
        connection = upstream.accepts()
        connection.receives_request()
        edge.drains()
        connection.sends(ok("one"))
        assert client.receives_response().closes()
        client.sees_eof()
        upstream.accepts_nothing()

    def test_readiness_says_so(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        client.sends(request("GET /"))
        upstream.accepts().receives_request()
        assert edge.worker.why_not_ready() is None
        edge.drains()
        assert edge.worker.why_not_ready() == "draining"

    @pytest.mark.settings(drain_timeout=20)
    def test_the_timeout_cuts(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        drained = edge.drains()
        edge.advance(19)
        assert not drained.done()
        edge.advance(2)
        assert drained.result(WAIT) is False
        edge.stops()
        client.sees_end()
        connection.sees_end()

    def test_a_tunnel_is_waited_for_and_then_cut(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /", "Connection: upgrade", "Upgrade: x"))
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response("101 X", "Connection: upgrade", "Upgrade: x"))
        client.receives_head()
        drained = edge.drains()
        client.sends(b"still")
        connection.receives(b"still")
        edge.advance(31)
        assert drained.result(WAIT) is False
        edge.stops()
        client.sees_end()
        connection.sees_end()

    def test_nothing_in_flight_drains_at_once(self, edge: Edge) -> None:
        assert edge.drains().result(WAIT) is True


class TestProcess:
    """Issue "The edge serves by Host": signals, with `python -m edge` and real time."""

    @pytest.fixture
    def db(self, tmp_path: Path, upstream: Upstream) -> Path:
        """A database with one route."""
        path = tmp_path / "fairlead.db"
        RouteWriter(path).set("app.test", upstream.target)
        return path

    @pytest.fixture
    def process(self, conversation: Conversation, db: Path) -> Process:
        """A process that serves app.test."""
        return Process(conversation, db, workers="1")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_finishes_what_is_in_flight_and_exits_with_0(
        self, process: Process, upstream: Upstream, number: signal.Signals
    ) -> None:
        client = process.connects()
        connection = exchange(client, upstream).connection
        client.sends(request("GET /last"))
        connection.receives_request()
        process.gets(number)
        process.says("draining")
        with pytest.raises(ConnectionRefusedError):
            process.connects()
        connection.sends(ok("last"))
        answer = client.receives_response()
        assert answer.text == "last"
        assert answer.closes()
        client.sees_eof()
        client.closes()
        assert process.ends() == 0

    def test_it_cuts_what_does_not_end(
        self, conversation: Conversation, db: Path, upstream: Upstream
    ) -> None:
        process = Process(conversation, db, workers="1", drain_timeout="0.1")
        client = process.connects()
        client.sends(request("GET /never"))
        connection = upstream.accepts()
        connection.receives_request()
        process.gets(signal.SIGTERM)
        assert "drain timeout" in process.says("cut")
        assert process.ends() == 0
        client.sees_end()
        connection.sees_end()

    def test_idle_it_exits_at_once(self, process: Process, upstream: Upstream) -> None:
        exchange(process.connects(), upstream)
        process.gets(signal.SIGTERM)
        assert process.ends() == 0

    def test_sighup_makes_it_look_at_the_table(
        self, process: Process, db: Path, conversation: Conversation, upstream: Upstream
    ) -> None:
        client = process.connects()
        exchange(client, upstream)
        other = Upstream(conversation)
        version = RouteWriter(db).set("app.test", other.target)
        process.gets(signal.SIGHUP)
        process.says(f"version {version}")
        exchange(client, other)

    def test_sigusr1_makes_it_reopen_the_log(
        self, conversation: Conversation, db: Path, upstream: Upstream, tmp_path: Path
    ) -> None:
        log = tmp_path / "access.log"
        process = Process(conversation, db, workers="1", access_log=str(log))
        client = process.connects()
        connection = exchange(client, upstream, request("GET /before")).connection
        rotated = log.rename(tmp_path / "access.log.1")
        process.gets(signal.SIGUSR1)
        for number in range(10_000):
            exchange(client, connection, request(f"GET /{number}"))
            if log.exists():
                break
        exchange(client, connection, request("GET /after"))
        process.gets(signal.SIGTERM)
        assert process.ends() == 0
        paths = [
            json.loads(line)["path"]
            for path in (rotated, log)
            for line in path.read_text().splitlines()
        ]
        assert paths[0] == "/before"
        assert paths[-1] == "/after"
        assert paths[1:-1] == [f"/{number}" for number in range(len(paths) - 2)]

    def test_a_bad_setting_is_exit_2(self, db: Path) -> None:
        ended = subprocess.run(
            [sys.executable, "-m", "edge"],
            env={**os.environ, "FAIRLEAD_DB": str(db), "FAIRLEAD_HTTP_ADDR": "nonsense"},
            capture_output=True,
            text=True,
            timeout=2 * WAIT,
        )
        assert ended.returncode == 2
        assert "FAIRLEAD_HTTP_ADDR" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_a_taken_port_is_told(self, process: Process, db: Path) -> None:
        address = f"127.0.0.1:{process.port}"
        ended = subprocess.run(
            [sys.executable, "-m", "edge"],
            env={
                **os.environ,
                "FAIRLEAD_DB": str(db),
                "FAIRLEAD_HTTP_ADDR": address,
                "FAIRLEAD_ADMIN_ADDR": "127.0.0.1:0",
                "FAIRLEAD_CONTROL_SOCKET": str(db.with_name("other.sock")),
            },
            capture_output=True,
            text=True,
            timeout=2 * WAIT,
        )
        assert ended.returncode != 0
        assert str(process.port) in ended.stderr
        assert "Traceback" not in ended.stderr

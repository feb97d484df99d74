"""The route table changes, and its database suffers, while traffic goes on."""

import asyncio
import logging
import resource
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import uvloop

from edge.worker.process import SWITCH_INTERVAL
from tests.edge.conversations.crowd import Crowd
from tests.harness import (
    WAIT,
    Client,
    Conversation,
    Edge,
    Upstream,
    UpstreamConnection,
    exchange,
)
from tests.messages import chunk, ok, request, response


@pytest.fixture
def other(conversation: Conversation) -> Upstream:
    """Where the route leads after the change."""
    return Upstream(conversation)


def tunnel(client: Client, upstream: Upstream) -> UpstreamConnection:
    """The upstream's side of an open tunnel."""
    client.sends(request("GET /", "Connection: upgrade", "Upgrade: websocket"))
    connection = upstream.accepts()
    connection.receives_head()
    connection.sends(response("101 X", "Connection: upgrade", "Upgrade: websocket"))
    assert client.receives_head().status == 101
    return connection


class TestChanges:
    """design.md, "Route store": the whole table is swapped by one assignment."""

    def test_the_next_request_of_an_open_connection_goes_the_new_way(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        exchange(client, upstream)
        edge.routes("app.test", other.target)
        exchange(client, other)

    def test_a_request_in_flight_ends_where_it_began(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        client.sends(request("GET /1"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(response("200 OK", "Transfer-Encoding: chunked", body=chunk("one ")))
        client.receives_head()
        edge.routes("app.test", other.target)
        connection.sends(chunk("two") + chunk(""))
        client.receives_data("one two")
        client.receives_end()
        exchange(client, other)

    def test_an_upload_in_flight_ends_where_it_began(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        client.sends(request("POST /", "Content-Length: 6", body="one"))
        connection = upstream.accepts()
        connection.receives_head()
        edge.routes("app.test", other.target)
        client.sends(b"two")
        connection.receives_data("onetwo")
        connection.sends(ok("fine"))
        assert client.receives_response().text == "fine"

    def test_a_request_whose_target_goes_while_it_connects_is_answered(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        """The deadline holds for a target that is in the table no longer, too."""
        upstream.swallows()
        client.sends(request("GET /"))
        edge.settle()
        edge.routes("app.test", other.target)
        edge.advance(6)
        assert client.receives_response().status == 502
        exchange(client, other)

    def test_a_request_whose_target_goes_and_comes_back_while_it_connects_is_answered(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        upstream.swallows()
        client.sends(request("GET /"))
        edge.settle()
        edge.routes("app.test", other.target)
        edge.routes("app.test", upstream.target)
        edge.advance(6)
        assert client.receives_response().status == 502

    def test_a_pipelined_request_goes_the_new_way(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        client.sends(request("GET /1") + request("GET /2"))
        connection = upstream.accepts()
        connection.receives_request()
        edge.routes("app.test", other.target)
        connection.sends(ok("old"))
        assert client.receives_response().text == "old"
        second = other.accepts()
        assert second.receives_request().target == "/2"
        second.sends(ok("new"))
        assert client.receives_response().text == "new"

    def test_a_tunnel_goes_on(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        edge.routes("app.test", other.target)
        client.sends(b"still")
        connection.receives(b"still")
        edge.unroutes("app.test")
        edge.advance(5)
        connection.sends(b"here")
        client.receives(b"here")

    def test_a_removed_route_is_404_and_what_is_in_flight_ends_well(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        edge.unroutes("app.test")
        connection.sends(ok("fine"))
        assert client.receives_response().text == "fine"
        client.sends(request("GET /"))
        assert client.receives_response().status == 404
        connection.sees_eof()

    def test_a_pool_outlives_the_change_of_another_route(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        edge.routes("other.test", other.target)
        exchange(client, connection)

    def test_a_pool_outlives_a_change_of_its_route_that_keeps_the_target(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        edge.routes("app.test", upstream.target, other.target, balance="least_in_flight")
        exchange(client, connection)

    def test_a_target_that_comes_back_is_served_anew(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        first = exchange(client, upstream).connection
        edge.routes("app.test", other.target)
        first.sees_eof()
        exchange(client, other)
        edge.routes("app.test", upstream.target)
        exchange(client, upstream)

    def test_options_change_without_a_change_of_the_target(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        edge.routes("app.test/api", upstream.target)
        connection = exchange(client, upstream, request("GET /api/x")).connection
        edge.routes("app.test/api", upstream.target, strip=True)
        assert exchange(client, connection, request("GET /api/x")).request.target == "/x"

    @pytest.mark.settings(poll_interval=0.02)
    def test_a_change_is_found_by_looking(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        edge.writes("app.test", other.target)
        for _ in asking(client):
            fresh = other.accepts_if_connected()
            if fresh is not None:
                fresh.receives_request()
                fresh.sends(ok("new"))
                assert client.receives_response().text == "new"
                return
            connection.receives_request()
            connection.sends(ok("old"))
            assert client.receives_response().text == "old"

    def test_a_bad_row_is_answered_503_and_logged_once(
        self, edge: Edge, client: Client, upstream: Upstream, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        with closing(sqlite3.connect(edge.settings.db)) as database, database:
            database.executemany(
                "INSERT INTO proxy_routes (domain, target, updated_at_unix) VALUES (?, ?, 0)",
                [("bad.test", "no-port"), ("worse.test", "127.0.0.1:0"), ("http://x/", "a:1")],
            )
            database.execute("UPDATE proxy_meta SET value = value + 1")
        edge.reloads()
        edge.routes("good.test", upstream.target)
        edge.routes("*", upstream.target)
        edge.reloads()
        for domain in ("bad.test", "worse.test", "http://x/"):
            assert sum(domain in record.getMessage() for record in caplog.records) == 1
        client.sends(request("GET /", host="bad.test"))
        answer = client.receives_response()
        assert (answer.status, answer["Retry-After"]) == (503, "5")
        connection = exchange(client, upstream).connection
        exchange(client, connection, request("GET /", host="good.test"))
        assert edge.metrics()["fairlead_routes_invalid"] == 3

    def test_a_database_of_godeploy_platform_is_served(
        self, make_edge: Callable[..., Edge], upstream: Upstream, tmp_path: Path
    ) -> None:
        path = tmp_path / "godeploy.db"
        with closing(sqlite3.connect(path)) as database, database:
            database.executescript(
                "CREATE TABLE proxy_routes (domain TEXT PRIMARY KEY, target TEXT NOT NULL,"
                " updated_at_unix INTEGER NOT NULL);"
                "CREATE TABLE proxy_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);"
                "INSERT INTO proxy_meta VALUES ('routes_version', 7);"
                f"INSERT INTO proxy_routes VALUES ('app.test', '{upstream.target}', 1700000000);"
            )
        before = path.read_bytes()
        edge = make_edge(db=path)
        assert exchange(edge.connects(), upstream).response.status == 200
        assert edge.reloads() == 7
        assert path.read_bytes() == before


def asking(client: Client) -> "Asking":
    """Turns in each of which the client asks once more, for as long as anything may take."""
    return Asking(client)


class Asking:
    """See `asking`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._until = time.monotonic() + WAIT

    def __iter__(self) -> "Asking":
        return self

    def __next__(self) -> None:
        if time.monotonic() > self._until:
            self._client.conversation.fails(f"nothing changed in {WAIT} s")
        self._client.sends(request("GET /"))


class TestDatabaseTrouble:
    """Issue "The edge serves by Host": the last good table goes on serving."""

    @pytest.fixture
    def connection(self, client: Client, upstream: Upstream) -> UpstreamConnection:
        """What serves while the database is in trouble."""
        return exchange(client, upstream).connection

    def goes_on_and_recovers(
        self,
        edge: Edge,
        client: Client,
        connection: UpstreamConnection,
        other: Upstream,
        repair: Callable[[], object],
    ) -> None:
        """The old table serves, readiness stays, the metric tells; after `repair` all is well."""
        for _ in range(3):
            edge.reloads()
            assert exchange(client, connection).response.status == 200
        assert edge.metrics()["fairlead_routes_last_reload_successful"] == 0
        assert edge.worker.why_not_ready() is None
        repair()
        edge.routes("other.test", other.target)
        exchange(client, other, request("GET /", host="other.test"))
        assert edge.metrics()["fairlead_routes_last_reload_successful"] == 1

    def test_a_missing_database(
        self, edge: Edge, client: Client, connection: UpstreamConnection, other: Upstream
    ) -> None:
        aside = edge.settings.db.with_suffix(".aside")
        edge.settings.db.rename(aside)
        self.goes_on_and_recovers(
            edge, client, connection, other, lambda: aside.rename(edge.settings.db)
        )

    def test_a_locked_database(
        self, edge: Edge, client: Client, connection: UpstreamConnection, other: Upstream
    ) -> None:
        with closing(sqlite3.connect(edge.settings.db, isolation_level=None)) as database:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            database.execute("UPDATE proxy_meta SET value = value + 1")
            self.goes_on_and_recovers(edge, client, connection, other, database.close)

    @pytest.mark.parametrize("damage", [b"", b"not a database at all" * 500, b"\x00" * 20_000])
    def test_a_damaged_database(
        self,
        edge: Edge,
        client: Client,
        connection: UpstreamConnection,
        other: Upstream,
        damage: bytes,
    ) -> None:
        path = edge.settings.db
        whole = path.read_bytes()
        path.write_bytes(damage)
        self.goes_on_and_recovers(edge, client, connection, other, lambda: path.write_bytes(whole))

    def test_damaged_pages(
        self, edge: Edge, client: Client, connection: UpstreamConnection, other: Upstream
    ) -> None:
        """The header is whole, so it opens; what is in it is not."""
        path = edge.settings.db
        whole = path.read_bytes()
        path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
        self.goes_on_and_recovers(edge, client, connection, other, lambda: path.write_bytes(whole))

    def test_a_database_without_the_tables(
        self, edge: Edge, client: Client, connection: UpstreamConnection, other: Upstream
    ) -> None:
        path = edge.settings.db
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("ALTER TABLE proxy_routes RENAME TO aside")
            database.execute("UPDATE proxy_meta SET value = value + 1")

        def repair() -> None:
            with closing(sqlite3.connect(path)) as database, database:
                database.execute("ALTER TABLE aside RENAME TO proxy_routes")

        self.goes_on_and_recovers(edge, client, connection, other, repair)

    def test_a_folder_in_its_place(
        self, edge: Edge, client: Client, connection: UpstreamConnection, other: Upstream
    ) -> None:
        path = edge.settings.db
        aside = path.with_suffix(".aside")
        path.rename(aside)
        path.mkdir()

        def repair() -> None:
            path.rmdir()
            aside.rename(path)

        self.goes_on_and_recovers(edge, client, connection, other, repair)

    def test_an_older_backup_of_the_database_is_served(
        self, edge: Edge, client: Client, connection: UpstreamConnection, other: Upstream
    ) -> None:
        """Its version is lower, and still it is the one to serve."""
        path = edge.settings.db
        edge.unroutes("app.test")
        edge.routes("new.test", other.target)
        backup = path.read_bytes()
        for _ in range(3):
            edge.routes("app.test", other.target)
        path.with_suffix(".new").write_bytes(backup)
        path.with_suffix(".new").replace(path)
        edge.reloads(3)
        exchange(client, other, request("GET /", host="new.test"))
        client.sends(request("GET /"))
        assert client.receives_response().status == 404
        connection.sees_eof()

    def test_another_database_in_its_place_is_served_once_it_is_adopted(
        self, edge: Edge, client: Client, connection: UpstreamConnection, other: Upstream
    ) -> None:
        """Its version is lower, and then it is the one to serve."""
        for _ in range(3):
            edge.routes("app.test", other.target)
        replacement = edge.settings.db.with_suffix(".new")
        with closing(sqlite3.connect(replacement)) as database, database:
            database.executescript(
                "CREATE TABLE proxy_routes (domain TEXT PRIMARY KEY, target TEXT NOT NULL,"
                " updated_at_unix INTEGER NOT NULL);"
                "CREATE TABLE proxy_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);"
                "INSERT INTO proxy_meta VALUES ('routes_version', 1);"
                f"INSERT INTO proxy_routes VALUES ('new.test', '{other.target}', 0);"
            )
        for suffix in ("-wal", "-shm"):
            edge.settings.db.with_name(edge.settings.db.name + suffix).unlink(missing_ok=True)
        replacement.replace(edge.settings.db)
        for _ in range(2):
            edge.reloads(4)
        assert "fairlead route adopt" in (edge.worker.routes.error or "")
        assert "last good table (version 4)" in (edge.worker.routes.problem or "")
        assert edge.calls(edge.worker.routes.adopt())
        assert edge.worker.routes.problem is None
        edge.reloads(1)
        exchange(client, other, request("GET /", host="new.test"))
        client.sends(request("GET /"))
        assert client.receives_response().status == 404
        connection.sees_eof()

    def test_trouble_is_logged_once_and_its_end_too(
        self, edge: Edge, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        aside = edge.settings.db.with_suffix(".aside")
        for _ in range(2):
            edge.settings.db.rename(aside)
            caplog.clear()
            for _ in range(5):
                edge.reloads()
            assert len(caplog.records) == 1
            assert str(edge.settings.db) in caplog.text
            aside.rename(edge.settings.db)
            caplog.clear()
            for _ in range(5):
                edge.reloads()
            assert len(caplog.records) == 1

    def test_trouble_at_the_start_is_503_until_the_table_comes(
        self, make_edge: Callable[..., Edge], upstream: Upstream
    ) -> None:
        edge = make_edge()
        client = edge.connects()
        client.sends(request("GET /"))
        answer = client.receives_response()
        assert answer.status == 503
        assert str(edge.settings.db) not in answer.text
        assert str(edge.settings.db) in (edge.worker.why_not_ready() or "")
        edge.routes("app.test", upstream.target)
        assert exchange(client, upstream).response.status == 200
        assert edge.worker.why_not_ready() is None

    def test_looking_at_a_missing_database_does_not_make_it(
        self, make_edge: Callable[..., Edge]
    ) -> None:
        edge = make_edge()
        edge.reloads()
        assert not edge.settings.db.exists()

    def test_looking_leaks_no_descriptors(self, edge: Edge) -> None:
        edge.settings.db.write_bytes(b"not a database" * 1000)
        edge.reloads()
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(50):
            edge.reloads()
        assert len(list(Path("/proc/self/fd").iterdir())) <= before


class TestManyClients:
    """Issue "The edge serves by Host": requests in flight and all sockets go on untouched."""

    CLIENTS = 1000

    @pytest.fixture(autouse=True)
    def _room_for_sockets(self) -> None:
        """Both ends of both connections of every client are in this process."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 5 * self.CLIENTS
        if soft < wanted:
            if hard < wanted:
                pytest.skip(f"needs {wanted} file descriptors, the limit is {hard}: ulimit -Hn")
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

    @pytest.fixture(autouse=True)
    def _short_turns(self) -> Iterator[None]:
        """Clients, edge and writer share the interpreter, as `worker.process` shares it."""
        usual = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        yield
        sys.setswitchinterval(usual)

    @pytest.mark.timeout(240)
    @pytest.mark.parametrize("swaps", [8, pytest.param(50, marks=pytest.mark.chaos)])
    def test_1000_keep_alive_clients_do_not_notice_swaps(
        self, make_edge: Callable[..., Edge], swaps: int
    ) -> None:
        edge = make_edge()
        crowd = Crowd(self.CLIENTS)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._swaps_under(crowd, edge, swaps))
        assert crowd.failures == []
        assert sum(crowd.answered_by.values()) == self.CLIENTS * swaps
        assert set(crowd.answered_by) == {b"one", b"two"}

    async def _swaps_under(self, crowd: Crowd, edge: Edge, swaps: int) -> None:
        """Every client has a request under way at each swap."""
        async with crowd.upstream(b"one") as one, crowd.upstream(b"two") as two:
            await asyncio.to_thread(edge.routes, "app.test", one)
            async with crowd.connects(edge.worker.addresses[0]):
                for swap in range(swaps):
                    crowd.all_ask()
                    target = one if swap % 2 else two
                    version = await asyncio.to_thread(edge.routes, "app.test", target)
                    assert version == swap + 2
                    await crowd.all_are_answered()
                    if crowd.failures:
                        return

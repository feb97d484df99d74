"""Proves the commands of the orchestrator: what they say, and their exit codes.

What they talk to is a stand-in with the paths of the API, on a real socket.
"""

import os
import socket
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner, Result
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from edge.net.listener import listen_unix
from edge.peer import Peer
from fairlead.__main__ import main
from orchestrator.errors import OrchestratorError
from orchestrator.model import Deploy, DeployState, Step
from orchestrator.store.backup import back_up

PATIENCE = 30.0
TOKEN = "0123456789abcdef"


class Standin:
    """An orchestrator with one deploy; what it was asked is in `asked`."""

    def __init__(self) -> None:
        self.deploy = Deploy(
            id=7,
            app="hello",
            state=DeployState.LIVE,
            step=Step.RETIRE,
            provider="cli",
            repository="r",
            clone_url="https://example.com/r.git",
            branch="main",
            commit="a" * 40,
            domains=["hello.local"],
            health_path="/",
            created_at=0.0,
            started_at=1.0,
            finished_at=3.5,
            target="127.0.0.1:4915",
            image_tag="fairlead/hello:1",
        )
        self.down = ""
        self.log: list[dict[str, Any]] = [
            {"number": 1, "t": 0.0, "step": "clone", "line": "fetching\x1b[2J"},
            {"number": 2, "t": 0.0, "step": "build", "line": "built"},
        ]
        self.asked: list[tuple[str, str, Any]] = []
        self.tokens: list[str] = []
        self.breaks_once = False
        self.token = ""
        self.place = ""

    def app(self) -> Starlette:
        """Its paths."""
        return Starlette(
            routes=[
                Route("/api/deploys", self._deploys, methods=["GET", "POST"]),
                Route("/api/deploys/{id}", self._deploy),
                Route("/api/deploys/{id}/cancel", self._cancel, methods=["POST"]),
                Route("/api/webhooks", self._webhooks),
                Route("/api/webhooks/{id}", self._webhook),
                Route("/api/webhooks/{id}/replay", self._replay, methods=["POST"]),
                Route("/api/apps", self._apps),
                Route("/api/apps/{name}", self._apps, methods=["DELETE"]),
                Route("/api/apps/{name}", self._set_app, methods=["PATCH"]),
                Route("/api/apps/{name}/links/{to}", self._link, methods=["PUT", "DELETE"]),
                WebSocketRoute("/api/ws/deploys/{id}/log", self._follow),
                WebSocketRoute("/api/ws/logs", self._container),
            ]
        )

    async def _note(self, request: Request) -> None:
        body = await request.body()
        self.tokens.append(request.headers.get("authorization", ""))
        self.asked.append((request.method, str(request.url.path), body.decode()))

    async def _deploys(self, request: Request) -> Response:
        await self._note(request)
        if self.token and self.tokens[-1] != f"Bearer {self.token}":
            return JSONResponse({"error": "which token?"}, 401)
        if request.method == "POST":
            return JSONResponse({"deploy_id": 7}, 202)
        return JSONResponse({"deploys": [{**self.deploy.as_json(), "down": self.down}]})

    async def _deploy(self, _: Request) -> Response:
        return JSONResponse({**self.deploy.as_json(), "down": self.down, "steps": []})

    async def _cancel(self, _: Request) -> Response:
        return JSONResponse({"error": "deploy 7 has ended"}, 409)

    async def _webhooks(self, _: Request) -> Response:
        delivery = {
            "id": 3,
            "received_at": 0.0,
            "provider": "github",
            "event": "push",
            "decision": "ignored",
            "status": 202,
            "deploy_id": None,
            "reason": "a tag\x9b31m",
        }
        return JSONResponse({"webhooks": [delivery]})

    async def _webhook(self, _: Request) -> Response:
        return JSONResponse({"id": 3, "body": "line\x7f"})

    async def _replay(self, _: Request) -> Response:
        return PlainTextResponse("pong")

    async def _apps(self, request: Request) -> Response:
        await self._note(request)
        app = {
            "name": "hello",
            "live_deploy": 7,
            "branch": "main",
            "domains": ["hello.local"],
            "links": ["api"],
            "read_only": "on",
            "written_bytes": 3 * 2**30,
            "clone_url": "https://example.com/r.git",
        }
        return JSONResponse({"apps": [app]})

    async def _set_app(self, request: Request) -> Response:
        await self._note(request)
        return JSONResponse({"app": request.path_params["name"], **await request.json()})

    async def _link(self, request: Request) -> Response:
        await self._note(request)
        applied = request.method == "PUT"
        return JSONResponse(
            {**request.path_params, "app": "web", "address": "", "applied": applied}
        )

    async def _follow(self, websocket: WebSocket) -> None:
        await websocket.accept()
        if self.breaks_once:
            self.breaks_once = False
            await websocket.send_json(self.log[0])
            await websocket.close(1012)
            return
        for message in self.log:
            await websocket.send_json(message)
        if self.deploy.state.is_final:
            await websocket.close()
        else:
            await websocket.receive()

    async def _container(self, websocket: WebSocket) -> None:
        if websocket.query_params["container"] != "hello":
            await websocket.send_denial_response(JSONResponse({"error": "no such container"}, 404))
            return
        await websocket.accept()
        await websocket.send_text("ready\x1b]0;title\x07")
        await websocket.close()


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Standin]:
    """One that serves at the socket beside the database, and the environment that leads to it."""
    found = Standin()
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        listen_unix(tmp_path / "f.api.sock", "FAIRLEAD_API_SOCKET") as here,
    ):
        config = uvicorn.Config(found.app(), log_config=None, ws="websockets-sansio")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening, here]})
        thread.start()
        for name in [name for name in os.environ if name.startswith(("FAIRLEAD_", "GODEPLOY_"))]:
            monkeypatch.delenv(name)
        found.place = f"127.0.0.1:{listening.getsockname()[1]}"
        # Where it listens for others, as its own settings have it: commands here go by the socket.
        monkeypatch.setenv("FAIRLEAD_ADDR", "0.0.0.0:1")
        monkeypatch.setenv("GODEPLOY_LOG_WS_URL", "ws://127.0.0.1:1/api/ws/logs")
        monkeypatch.setenv("FAIRLEAD_DB", str(tmp_path / "f.db"))
        yield found
        server.should_exit = True
        thread.join(PATIENCE)


def run(*words: str) -> Result:
    """`fairlead` with these words."""
    return CliRunner().invoke(main, words)


class TestDeploy:
    def test_it_shows_log_and_result_and_nothing_that_moves_the_cursor(
        self, standin: Standin
    ) -> None:
        result = run("deploy", "hello", "--repo", "https://example.com/r.git", "--ref", "main")
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            "deploy 7 of hello",
            "clone:",
            "  fetching\\x1b[2J",
            "build:",
            "  built",
            "deploy 7 is live after 2.5 s: hello.local -> 127.0.0.1:4915, fairlead/hello:1",
        ]
        wanted = '{"app":"hello","repo":"https://example.com/r.git","ref":"main"}'
        assert standin.asked == [("POST", "/api/deploys", wanted)]

    @pytest.mark.parametrize(
        ("state", "code"),
        [
            (DeployState.RETIRED, 0),
            (DeployState.FAILED, 1),
            (DeployState.SUPERSEDED, 3),
            (DeployState.CANCELLED, 3),
        ],
    )
    def test_the_exit_code_is_the_result(
        self, standin: Standin, state: DeployState, code: int
    ) -> None:
        standin.deploy.state = state
        assert run("deploy", "hello").exit_code == code

    def test_a_failure_tells_its_step_and_cause(self, standin: Standin) -> None:
        standin.deploy.state, standin.deploy.step = DeployState.FAILED, Step.HEALTH
        standin.deploy.error = "it died\nlast words\x1b[1m"
        assert (
            "deploy 7 failed in step health: it died\nlast words\\x1b[1m\n"
            in run("deploy", "hello").stderr
        )

    def test_one_that_has_not_ended_in_time_is_told_apart(self, standin: Standin) -> None:
        standin.deploy.state, standin.deploy.finished_at = DeployState.RUNNING, None
        for wait in ("0", "0.2"):
            result = run("deploy", "hello", "--wait", wait)
            assert (result.exit_code, "deploy 7 is running" in result.stderr) == (4, True)

    def test_a_log_that_breaks_off_goes_on_where_it_was(
        self, standin: Standin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("orchestrator.cli.watch.RETRY", 0.0)
        standin.breaks_once = True
        standin.deploy.state = DeployState.RUNNING
        ended = standin.deploy.as_json

        def ends_when_all_is_shown() -> dict[str, Any]:
            record = ended()
            standin.deploy.state = DeployState.LIVE
            return record

        monkeypatch.setattr(Deploy, "as_json", lambda _: ends_when_all_is_shown())
        result = run("deploy", "hello")
        assert result.exit_code == 0
        assert result.stdout.count("fetching") == 1
        assert "  built" in result.stdout


class TestOthers:
    def test_deploys_webhooks_and_apps_are_tables(self, standin: Standin) -> None:
        assert "hello  live" in run("deploys").stdout
        assert "127.0.0.1:4915" in run("deploys").stdout
        standin.down = "container is gone"
        assert "down: container is gone" in run("deploys").stdout
        assert "a tag\\x9b31m" in run("webhooks", "ls").stdout
        assert "hello.local  api      on         3.0 GiB  https" in run("apps").stdout
        assert run("apps").stdout == run("apps", "ls").stdout

    def test_json_is_harmless_too(self, standin: Standin) -> None:
        assert '"body": "line\\x7f"' in run("webhooks", "show", "3").stdout
        assert '"deploys"' in run("deploys", "hello", "--json").stdout

    def test_a_replay_shows_the_answer(self, standin: Standin) -> None:
        assert run("webhooks", "replay", "3").stdout == "pong\n"

    def test_a_refusal_is_the_servers_own_word(self, standin: Standin) -> None:
        result = run("cancel", "7")
        assert (result.exit_code, result.stderr) == (1, "fairlead: deploy 7 has ended\n")

    def test_an_app_is_removed_only_once_that_is_confirmed(self, standin: Standin) -> None:
        assert run("apps", "rm", "hello").exit_code == 1
        assert standin.asked == []
        assert run("apps", "rm", "hello", "--yes").exit_code == 0
        assert standin.asked == [("DELETE", "/api/apps/hello", "")]

    def test_an_app_is_told_whether_its_containers_are_read_only(self, standin: Standin) -> None:
        said = run("apps", "set", "hello", "--read-only", "on")
        assert said.stdout == "hello: read-only on, from its next deploy\n"
        assert standin.asked == [("PATCH", "/api/apps/hello", '{"read_only":"on"}')]
        assert run("apps", "set", "hello", "--read-only", "yes").exit_code == 2
        assert run("apps", "set", "hello").exit_code == 2

    def test_an_app_is_linked_and_unlinked(self, standin: Standin) -> None:
        linked = run("apps", "link", "web", "api")
        assert linked.stdout == "web reaches api at http://api:PORT, once it is live\n"
        assert linked.stderr == ""
        unlinked = run("apps", "unlink", "web", "api")
        assert unlinked.stdout == "web does not reach api any more\n"
        assert unlinked.stderr.startswith("not yet: the Docker Engine does not answer")
        assert [each[:2] for each in standin.asked] == [
            ("PUT", "/api/apps/web/links/api"),
            ("DELETE", "/api/apps/web/links/api"),
        ]

    def test_a_containers_log_is_followed_to_its_end(self, standin: Standin) -> None:
        result = run("logtail", "hello")
        assert (result.exit_code, result.stdout) == (0, "ready\\x1b]0;title\\x07\n")
        result = run("logtail", "other")
        assert (result.exit_code, result.stderr) == (1, "fairlead: no such container\n")

    def test_the_token_is_shown_where_an_address_is_named_and_not_at_the_socket(
        self, standin: Standin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        standin.token = TOKEN
        refused = run("deploys", "--addr", standin.place)
        assert refused.exit_code == 1
        assert "which token? (set FAIRLEAD_API_TOKEN" in refused.stderr
        monkeypatch.setenv("FAIRLEAD_API_TOKEN", TOKEN)
        assert run("deploys", "--addr", standin.place).exit_code == 0
        assert run("logtail", "hello", "--addr", standin.place).stdout.startswith("ready")
        run("deploys")
        assert standin.tokens == ["", f"Bearer {TOKEN}", ""]

    def test_nothing_is_said_to_another_user_at_the_socket(
        self, standin: Standin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "orchestrator.cli.client.peer_of", lambda _: Peer(1, 65534, frozenset())
        )
        for words in (("deploys",), ("deploy", "hello"), ("logtail", "hello")):
            result = run(*words)
            assert result.exit_code == 1
            assert "is served by user 65534" in result.stderr
        assert standin.asked == []

    def test_where_nobody_listens_it_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.socket() as taken:  # bound and not listening: connections are refused
            taken.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{taken.getsockname()[1]}"
            result = run("deploys", "--addr", place)
            assert result.exit_code == 1
            assert f"no orchestrator at http://{place}: start one with" in result.stderr
            monkeypatch.setenv("FAIRLEAD_LOG_WS_URL", "ws://nowhere.invalid:1/api/ws/logs")
            assert "FAIRLEAD_LOG_WS_URL" in run("logtail", "x").stderr
            monkeypatch.setenv("FAIRLEAD_DB", str(tmp_path / "f.db"))
            assert f"no orchestrator at {tmp_path}/f.api.sock" in run("deploys").stderr
            monkeypatch.setenv("FAIRLEAD_LOG_WS_URL", "ws://127.0.0.1:1/elsewhere")
            result = run("logtail", "x", "--addr", place)
            assert f"no orchestrator at http://{place}: start one with" in result.stderr
            assert "--addr or FAIRLEAD_ADDR" in result.stderr

    def test_a_bad_setting_is_named_with_exit_code_2(self) -> None:
        result = run("deploys", "--addr", "nowhere")
        assert (result.exit_code, "--addr: 'nowhere' is not" in result.stderr) == (2, True)


class TestBackup:
    def test_a_database_in_use_is_copied_whole_for_its_owner_alone(self, tmp_path: Path) -> None:
        db, copy = tmp_path / "f.db", tmp_path / "copy.db"
        copy.write_text("an older one")
        with sqlite3.connect(db, isolation_level=None) as writer:
            writer.execute("PRAGMA journal_mode = WAL")
            writer.execute("CREATE TABLE t(x)")
            writer.execute("INSERT INTO t VALUES (1)")
            assert run("backup", str(copy), "--db", str(db)).exit_code == 0
        writer.close()
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        made = sqlite3.connect(copy)
        assert made.execute("SELECT x FROM t").fetchall() == [(1,)]
        made.close()
        assert sorted(each.name for each in tmp_path.iterdir()) == ["copy.db", "f.db"]

    def test_both_databases_are_copied(self, tmp_path: Path) -> None:
        db, state = tmp_path / "f.db", tmp_path / "elsewhere.db"
        into = tmp_path / "copies"
        into.mkdir()
        for path, table in ((db, "r"), (state, "s")):
            with closing(sqlite3.connect(path)) as connection:
                connection.execute(f"CREATE TABLE {table}(x)")
        words = ("backup", str(into / "copy.db"), "--db", str(db))
        done = run(*words, "--state-db", str(state))
        assert done.exit_code == 0, done.stderr
        for name, table in (("copy.db", "r"), ("copy.state.db", "s")):
            with closing(sqlite3.connect(into / name)) as connection:
                query = "SELECT name FROM sqlite_master"
                assert connection.execute(query).fetchall() == [(table,)]
            assert stat.S_IMODE((into / name).stat().st_mode) == 0o600
        # What cannot be seen is not left out in silence.
        loop = tmp_path / "loop.db"
        loop.symlink_to(loop)
        refused = run(*words, "--state-db", str(loop))
        assert (refused.exit_code, "cannot read" in refused.stderr) == (1, True)

    def test_a_damaged_database_leaves_the_copy_that_was_there(self, tmp_path: Path) -> None:
        db, copy = tmp_path / "f.db", tmp_path / "copy.db"
        db.write_bytes(b"no database" * 1000)
        copy.write_text("an older one")
        with pytest.raises(OrchestratorError, match="cannot back up"):
            back_up(db, copy)
        assert copy.read_text() == "an older one"
        assert len(list(tmp_path.iterdir())) == 2

    def test_what_cannot_be_is_refused(self, tmp_path: Path) -> None:
        db = tmp_path / "f.db"
        with pytest.raises(OrchestratorError, match="no database"):
            back_up(db, tmp_path / "copy.db")
        db.touch()
        with pytest.raises(OrchestratorError, match="the database itself"):
            back_up(db, db)
        with pytest.raises(OrchestratorError, match="cannot write to"):
            back_up(db, tmp_path / "missing" / "copy.db")

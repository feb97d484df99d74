"""Owns the real orchestrator in the tests: `python -m orchestrator`, and what it has made."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import docker
import httpx
from docker.errors import APIError, NotFound

from edge.routing.store_writer import RouteWriter
from orchestrator.engine.container import LABEL_APP, LABEL_INSTANCE
from tests.harness import Conversation
from tests.orchestrator.docker_engine import app_subnets
from tests.orchestrator.repository import Repository
from tests.process import PATIENCE, TOKEN, ask
from tests.programs import free_port

LOOK_SECONDS = 0.05

MODULE = ("-m", "orchestrator")


class Daemon:
    """An orchestrator with its own database and instance, on the engine at `engine_host`.

    `settings` are those of the environment, without FAIRLEAD_.
    """

    def __init__(
        self,
        conversation: Conversation,
        db: Path,
        engine_host: str,
        **settings: str,
    ) -> None:
        self._conversation = conversation
        self.db = db
        self.state = db.with_suffix(".state.db")
        self.engine_host = engine_host
        self.note = ""  # in each push, beside what it is about
        self.settings = settings
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = db.with_suffix(".log")
        self.popen: subprocess.Popen[bytes] | None = None
        self.engine = docker.DockerClient(engine_host)
        conversation.closes_at_end(self._cleans_up)

    def starts(self, arguments: Sequence[str] = MODULE, **settings: str) -> "Daemon":
        """Returns when it answers."""
        given = {**self.settings, **settings}
        environment = {
            "FAIRLEAD_DB": str(self.db),
            "FAIRLEAD_ADDR": f"127.0.0.1:{self.port}",
            "FAIRLEAD_IMAGE_PREFIX": "fairlead-test",
            "FAIRLEAD_NETWORK": "fairlead-test",
            "FAIRLEAD_APP_SUBNETS": app_subnets(self.engine_host),
            "FAIRLEAD_STOP_TIMEOUT": "1",
            "FAIRLEAD_ROLLBACK_WINDOW": "0",
            "FAIRLEAD_API_TOKEN": TOKEN,
            "FAIRLEAD_LOCAL_REPOS": str(self.db.parent.parent),
            "DOCKER_HOST": self.engine_host,
        }
        environment.update({f"FAIRLEAD_{name.upper()}": text for name, text in given.items()})
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [sys.executable, *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stderr=log,
                stdout=log,
            )
        self.until(lambda: self.answers() or self.popen_ended(), "answers")
        if self.popen_ended():
            self._conversation.fails(f"the orchestrator ended at once; it said:\n{self.said()}")
        return self

    def answers(self) -> bool:
        """Whether it serves."""
        try:
            return self.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def popen_ended(self) -> bool:
        """Whether its process has ended."""
        return self.popen is not None and self.popen.poll() is not None

    def ends(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal; its exit code."""
        assert self.popen is not None
        self.popen.send_signal(number)
        return self.popen.wait(PATIENCE)

    def was_killed(self) -> None:
        """Wait until it has killed itself."""
        assert self.popen is not None
        assert self.popen.wait(PATIENCE) == -signal.SIGKILL, self.said()

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")

    def until(self, condition: Callable[[], object], wanted: str) -> None:
        """Returns when the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                self._conversation.fails(f"never: {wanted}; it said:\n{self.said()}")
            time.sleep(LOOK_SECONDS)

    # HTTP

    def get(self, path: str, **options: Any) -> httpx.Response:
        """A GET, of an admin."""
        return self.asks("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """A POST, of an admin."""
        return self.asks("POST", path, **options)

    def asks(self, method: str, path: str, **options: Any) -> httpx.Response:
        """What it answers to an admin, unless `headers` say otherwise."""
        token = self.settings.get("api_token", TOKEN)
        headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
        return ask(method, self.url + path, headers=headers, **options)

    def is_pushed(
        self, repository: Repository, app: str, commit: str = "", **query: str | int
    ) -> httpx.Response:
        """What a webhook of GitHub gets for the newest commit, or another one."""
        payload = {
            "ref": "refs/heads/main",
            "after": commit or repository.git("rev-parse", "HEAD"),
            "repository": {"name": app, "clone_url": repository.url},
            "note": self.note,
        }
        headers = {"X-GitHub-Event": "push"}
        return self.post("/webhook", params=query, headers=headers, json=payload)

    def deploys(self, repository: Repository, app: str, **query: str | int) -> dict[str, Any]:
        """Push, and wait until it is live; the answer."""
        answer = self.is_pushed(repository, app, "", **{"wait": 30, **query})
        if answer.status_code != 200:
            self._conversation.fails(f"{answer.status_code} {answer.text}; {self.said()}")
        found: dict[str, Any] = answer.json()
        return found

    def deploy(self, number: int) -> dict[str, Any]:
        """The record of a deploy."""
        found: dict[str, Any] = self.get(f"/api/deploys/{number}").json()
        return found

    def ended(self, number: int) -> dict[str, Any]:
        """The record of a deploy when it has ended."""
        self.until(
            lambda: self.deploy(number)["state"] not in ("queued", "running"), f"{number} ends"
        )
        return self.deploy(number)

    # What it has made

    def instance(self) -> str:
        """Its own id."""
        with contextlib.closing(sqlite3.connect(self.state)) as connection:
            row = connection.execute(
                "SELECT value FROM orchestrator_meta WHERE key = 'instance'"
            ).fetchone()
        return str(row[0])

    def containers(self, app: str | None = None) -> list[Any]:
        """Its containers, running or not."""
        labels = [f"{LABEL_INSTANCE}={self.instance()}"]
        if app is not None:
            labels.append(f"{LABEL_APP}={app}")
        return self.engine.containers.list(all=True, filters={"label": labels}, ignore_removed=True)

    def networks(self) -> list[Any]:
        """Its networks."""
        label = f"{LABEL_INSTANCE}={self.instance()}"
        return self.engine.networks.list(filters={"label": label})

    def routes(self) -> dict[str, str]:
        """The routes in its database."""
        with contextlib.closing(sqlite3.connect(self.db)) as connection:
            return dict(connection.execute("SELECT domain, target FROM proxy_routes"))

    def suspended(self) -> dict[str, str]:
        """Those that answer 503, and why."""
        found = RouteWriter(self.db).routes(self.routes()).items()
        return {name: route.unavailable for name, route in found if route and route.unavailable}

    def _cleans_up(self) -> None:
        if self.popen is not None and self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        if self.state.exists():
            self._removes_containers_and_images()
        self.engine.close()

    def _removes_containers_and_images(self) -> None:
        try:
            instance = self.instance()
        except (sqlite3.Error, TypeError):
            return  # it never came so far
        for container in self.containers():
            with contextlib.suppress(NotFound, APIError):
                container.remove(force=True)
        for network in self.networks():
            with contextlib.suppress(NotFound, APIError):
                network.remove()
        for image in self.engine.images.list(filters={"label": f"{LABEL_INSTANCE}={instance}"}):
            for tag in image.tags:
                with contextlib.suppress(NotFound, APIError):
                    self.engine.images.remove(tag)

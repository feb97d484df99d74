"""security.md 7, from end to end: secrets come in by every way there is, deploys say them in every
spelling and fail in every step, and then whatever the programs wrote is searched for them."""

import contextlib
import json
import socket
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from click.testing import CliRunner
from websockets.sync.client import connect

from fairlead.__main__ import main
from orchestrator.engine.container import LABEL_INSTANCE
from tests.harness import Conversation
from tests.orchestrator.canaries import Canaries, Canary, script_that_says, watched
from tests.orchestrator.daemon import Daemon
from tests.orchestrator.git_server import GitServer, make_certificate, serving
from tests.orchestrator.repository import Repository
from tests.orchestrator.webhooks import deliveries
from tests.process import ask
from tests.programs import free_port

COMMANDS = [
    ["apps", "ls", "--json"],
    ["deploys", "--json"],
    ["deploys", "app", "--json"],
    ["webhooks", "ls", "--json"],
    ["webhooks", "show", "1"],
    ["webhooks", "show", "2"],
    ["webhooks", "show", "3"],
    ["webhooks", "show", "4"],
    ["tokens", "ls", "--json"],
    ["route", "ls", "--json"],
    ["explain", "http://app.test/"],
]


class Scene:
    """Edge and orchestrator under one supervisor, a git server that asks for a password, and all
    that they were told and said. `said` is by where it was said."""

    def __init__(self, conversation: Conversation, folder: Path, engine_host: str) -> None:
        self.canaries = Canaries()
        self.folder = folder
        self.said: dict[str, bytes] = {}
        self.edge_port, self.admin_port = free_port(), free_port()
        self.runs = folder / "run"
        self.runs.mkdir()
        self.daemon = Daemon(
            conversation,
            self.runs / "fairlead.db",
            engine_host,
            api_token=self.canaries["FAIRLEAD_API_TOKEN"],
            webhook_secret=self.canaries["FAIRLEAD_WEBHOOK_SECRET"],
            affinity_secret=self.canaries["FAIRLEAD_AFFINITY_SECRET"],
            http_addr=f"127.0.0.1:{self.edge_port}",
            admin_addr=f"127.0.0.1:{self.admin_port}",
            access_log=str(self.runs / "access.log"),
            workers="1",
            health_timeout="3",
        )

    # What comes in

    def pushes(self, app: str, url: str, commit: str, **more: Any) -> Any:
        """A signed push of GitHub's; the answer."""
        payload = {
            "ref": "refs/heads/main",
            "after": commit,
            "repository": {"name": app, "clone_url": url},
            **more,
        }
        return self.delivers(orjson.dumps(payload), app)

    def delivers(self, body: bytes, name: str, **query: str) -> Any:
        secret = self.canaries["FAIRLEAD_WEBHOOK_SECRET"]
        headers = {
            **deliveries.github(body, secret=secret),
            "x-github-delivery": name,
            "x-api-key": self.canaries["a header of a webhook"],
        }
        url = f"{self.daemon.url}/webhook"
        answer = ask("POST", url, params={"wait": "30", **query}, content=body, headers=headers)
        self.hears(f"the answer to the push of {name}", answer.content)
        return answer

    def runs_command(self, *words: str) -> str:
        """`fairlead` with these words, at the socket."""
        result = CliRunner().invoke(main, words, env={"FAIRLEAD_DB": str(self.daemon.db)})
        self.hears(f"fairlead {words[0]}", result.output.encode())
        return result.output

    def asks_the_edge(self, path: str = "/", body: str = "", **headers: str) -> None:
        url = f"http://127.0.0.1:{self.edge_port}{path}"
        answer = ask("POST", url, content=body, headers={"Host": "app.test", **headers})
        self.hears(f"the edge on {path}", answer.content + str(answer.headers).encode())

    def hears(self, where: str, data: bytes) -> None:
        self.said[where] = self.said.get(where, b"") + data

    # What is asked for

    def collects_answers(self) -> None:
        """Every GET of both APIs."""
        bearer = {"Authorization": f"Bearer {self.canaries['FAIRLEAD_API_TOKEN']}"}
        for base in (self.daemon.url, f"http://127.0.0.1:{self.admin_port}"):
            described = ask("GET", f"{base}/openapi.json", headers=bearer)
            for template, methods in described.json().get("paths", {}).items():
                if "get" not in methods or template.startswith("/api/ws/"):
                    continue
                path = template.replace("{name}", "app")
                for number in range(1, 12) if "{id}" in path else (0,):
                    answer = ask("GET", base + path.format(id=number), headers=bearer)
                    self.hears(f"GET {path}", answer.content)

    def collects_a_containers_log(self, container: str) -> None:
        url = f"{self.daemon.url.replace('http', 'ws')}/api/ws/logs?container={container}"
        token = self.canaries["FAIRLEAD_API_TOKEN"]
        headers = {"Authorization": f"Bearer {token}"}
        with connect(url, additional_headers=headers) as websocket:
            for message in websocket:
                self.hears("the log of the container", str(message).encode())
                if "said all" in str(message):
                    break

    def collects_what_the_engine_knows(self) -> None:
        """Of our images and containers: labels, environment, commands, history."""
        engine = self.daemon.engine
        label = {"label": f"{LABEL_INSTANCE}={self.daemon.instance()}"}
        for image in engine.images.list(filters=label):
            self.hears("an image", json.dumps([image.attrs, image.history()]).encode())
        for container in self.daemon.containers():
            self.hears("a container", json.dumps(container.attrs).encode())

    def collects_files(self) -> None:
        """All that was written beside the database, as it is on the disk."""
        for path in self.runs.rglob("*"):
            if path.is_file() and path.parent.suffix != ".credentials":
                self.hears(str(path.relative_to(self.runs)), path.read_bytes())

    def leaks(self) -> dict[str, set[str]]:
        found = {where: self.canaries.found_in(data) for where, data in self.said.items()}
        return {where: ways for where, ways in found.items() if ways}


def files(script: str, *, build: str = "sh /say.sh", command: str) -> dict[str, str]:
    """An app that says all while it is built, and before `command` runs."""
    return {
        "Dockerfile": f"FROM busybox\nCOPY say.sh /\nRUN {build}\n"
        "RUN mkdir /www && echo ok > /www/index.html\nEXPOSE 8080\n"
        f"CMD sh /say.sh; {command}\n",
        "say.sh": script,
    }


def private(server: GitServer, canary: Canary, app: str, user: str = "deployer:") -> str:
    """The clone URL with the password that the server asks for from now on."""
    server.password = f"{user or ':'}{canary}" if user else f"{canary}:"
    return server.url.replace("https://", f"https://{user}{canary.quoted}@") + f"/{app}/.git"


@pytest.mark.timeout(240)
def test_no_secret_leaves(
    conversation: Conversation, tmp_path: Path, engine_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(conversation, tmp_path, engine_host)
    canaries, daemon = scene.canaries, scene.daemon
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(certificate[1]))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    proxy = f"http://proxy:{canaries['the password of a proxy'].quoted}@127.0.0.1:9"
    monkeypatch.setenv("https_proxy", proxy)
    daemon.starts(("-P", "-m", "fairlead", "up"))
    seen: dict[str, set[str]] = {}

    def look(program: str, arguments: bytes, environment: bytes) -> None:
        scene.hears(f"arguments of {program}", arguments)
        if environment:
            seen.setdefault(program, set()).update(canaries.found_in(environment))

    with serving(tmp_path / "git", certificate) as server:
        assert daemon.popen is not None
        with watched(daemon.popen.pid, look):
            _tells_everything(scene, server, tmp_path / "git")
    scene.collects_answers()
    for words in COMMANDS:
        scene.runs_command(*words)
    scene.runs_command("backup", str(scene.runs / "copy.db"))
    scene.collects_what_the_engine_knows()
    scene.collects_files()
    assert len(canaries.planted) == 26  # as docs/security.md says
    # Of a query, the access log has what was asked; docs/behaviour.md says so.
    leaks = scene.leaks()
    assert leaks.pop("access.log", set()) == {"the query of a request"}
    assert leaks == {}, daemon.said()
    assert "***" in daemon.get("/api/deploys/1/log").text
    # Ours have their settings. Of git, only what speaks with the server has a password.
    passwords = {way for way in canaries.planted if way.startswith("the clone URL")}
    settings = {way for way in canaries.planted if way.startswith("FAIRLEAD_")}
    assert passwords & seen["git"], "git was never seen"
    for program, ways in seen.items():
        if not program.startswith(("python", "fairlead")):
            assert not ways & settings, program
        if not program.startswith(("git", "sh", "prlimit")):  # which becomes git
            assert not ways & passwords, program


def _fails_late(scene: Scene, server: GitServer, repository: Repository, says: str) -> None:
    """In the drain, whose error has what the container said last; then in the switch."""
    daemon = scene.daemon
    url = private(server, scene.canaries["the clone URL of the API"], "late")

    def deploys(command: str, more: str = "") -> int:
        content = files(says, command=command)
        content["Dockerfile"] += more
        repository.commits(content)
        asked = daemon.post("/api/deploys", json={"app": "late", "repo": url})
        return int(asked.json()["deploy_id"])

    slow = (
        "RUN mkdir /www/cgi-bin && printf '#!/bin/sh\\nsleep 60\\n' > /www/cgi-bin/slow"
        " && chmod +x /www/cgi-bin/slow\n"
    )
    first = deploys("exec httpd -f -p 8080 -h /www", slow)
    assert daemon.ended(first)["state"] == "live", daemon.said()
    with socket.create_connection(("127.0.0.1", scene.edge_port)) as client:
        # In flight on the old container, it keeps the drain waiting.
        client.sendall(b"GET /cgi-bin/slow HTTP/1.1\r\nHost: late.local\r\n\r\n")
        number = deploys("httpd -p 8080 -h /www; until [ -e /die ]; do usleep 20000; done; exit 3")
        daemon.until(lambda: daemon.deploy(number)["step"] == "drain", "it drains")
        daemon.engine.containers.get(daemon.deploy(number)["container_id"]).exec_run("touch /die")
        drained = daemon.ended(number)
    assert (drained["state"], drained["error_kind"]) == ("failed", "died_after_switch")
    assert "***" in drained["error"]
    with contextlib.closing(sqlite3.connect(daemon.db)) as connection, connection:
        connection.execute(
            """UPDATE proxy_routes SET options = '{"later": 1}' WHERE domain = 'late.local'"""
        )
    switched = daemon.ended(deploys("exec httpd -f -p 8080 -h /www"))
    assert (switched["state"], switched["step"]) == ("failed", "switch"), switched


def _tells_everything(scene: Scene, server: GitServer, root: Path) -> None:
    canaries, daemon = scene.canaries, scene.daemon
    known = [
        canaries[way]
        for way in (
            "FAIRLEAD_WEBHOOK_SECRET",
            "FAIRLEAD_API_TOKEN",
            "the password of a proxy",
            "the clone URL of a push",
        )
    ]
    serves = "exec httpd -f -p 8080 -h /www"

    def commits(app: str, content: dict[str, str]) -> str:
        return Repository(root / app).commits(content)

    # One that is live.
    commit = commits("app", files(script_that_says(known), command=serves))
    url = private(server, canaries["the clone URL of a push"], "app")
    other = canaries["another URL of a push"]
    hook = f"https://user:{other.quoted}@hooks.test/"
    answer = scene.pushes("app", url, commit, hook={"url": hook}, note=str(known[0]))
    assert answer.status_code == 200, daemon.said()
    scene.collects_a_containers_log(answer.json()["new_container_id"])
    assert daemon.post("/api/webhooks/1/replay", params={"wait": "30"}).status_code == 200

    # One that ends in each step before the switch. Its credentials come in by other ways.
    says = script_that_says([*known, canaries["the clone URL of the API"]])
    commits("early", files(says, command="exit 3"))
    commits("sick", files(says, command="rm /www/*; " + serves))
    commits("unbuilt", files(says, build="sh /say.sh && exit 1", command=serves))
    commits("unknown", {"README": "no runtime"})
    for app in ("early", "sick", "unbuilt", "unknown"):
        url = private(server, canaries["the clone URL of the API"], app)
        number = daemon.post("/api/deploys", json={"app": app, "repo": url}).json()["deploy_id"]
        assert daemon.ended(number)["state"] == "failed"
    _fails_late(scene, server, Repository(root / "late"), says)
    url = private(server, canaries["the clone URL of a command"], "app", user="")
    scene.runs_command("deploy", "typed", "--repo", url)
    server.password = "another"
    scene.runs_command("deploy", "wrong", "--repo", url)
    far = f"https://user:{canaries['the clone URL behind a proxy'].quoted}@git.invalid/app.git"
    scene.runs_command("deploy", "far", "--repo", far)

    # What is refused.
    slash = f"https://user:{canaries['a clone URL with a slash in its password']}@git.test/a.git"
    scene.pushes("slash", slash, commit)
    ssh = f"ssh://git:{canaries['a clone URL of ssh'].quoted}@git.test/a.git"
    scene.pushes("ssh", ssh, commit)
    broken = f'{{"clone_url": "https://u:{canaries["a body that is no JSON"].quoted}@git.test/a"'
    scene.delivers(broken.encode(), "broken")
    scene.delivers(b'{"zen": 1}', "query", token=canaries["the query of a webhook"])
    body = b"{}"
    for secret in (canaries["X-Gitlab-Token"], canaries["FAIRLEAD_WEBHOOK_SECRET"]):
        headers = deliveries.gitlab(body, secret=secret)
        ask("POST", f"{daemon.url}/webhook", content=body, headers=headers)
    wrong = {"Authorization": f"Bearer {canaries['a wrong token']}"}
    for url in (daemon.url, f"http://127.0.0.1:{scene.admin_port}"):
        for path in ("/api/deploys", "/routes", "/webhook"):
            scene.hears("a refusal", ask("GET", url + path, headers=wrong).content)
    query = {"access_token": canaries["the query of the API"]}
    scene.hears("a refusal", daemon.get("/api/deploys", params=query).content)
    created = CliRunner().invoke(
        main, ["tokens", "create", "ci", "--scope", "read"], env={"FAIRLEAD_DB": str(daemon.db)}
    )
    token = Canary(next(word for word in created.output.split() if word.startswith("fl_")))
    canaries.plant("a token that was created", token)
    ask("GET", f"{daemon.url}/api/deploys", headers={"Authorization": f"Bearer {token}"})

    # Requests to the edge.
    password = canaries["the password of a route"]
    printed = CliRunner().invoke(main, ["route", "password", "alice"], input=f"{password}\n")
    line = next(each for each in printed.output.split() if each.startswith("alice:"))
    target = daemon.routes()["app.local"]
    scene.runs_command("route", "set", "app.test", target, "--basic-auth", line)
    for text in (password, canaries["a wrong password"]):
        request = httpx.Request("GET", "http://x/")
        (field,) = (
            sent.headers["Authorization"]
            for sent in httpx.BasicAuth("alice", text).auth_flow(request)
        )
        scene.asks_the_edge(Authorization=field)
    scene.asks_the_edge(Authorization=f"Bearer {canaries['Authorization']}")
    scene.asks_the_edge(**{"Proxy-Authorization": f"Basic {canaries['Proxy-Authorization']}"})
    scene.asks_the_edge(Cookie=f"session={canaries['a cookie']}")
    scene.asks_the_edge(body=f"password={canaries['the body of a request'].quoted}")
    scene.asks_the_edge(f"/?token={canaries['the query of a request'].quoted}")
    with contextlib.suppress(httpx.HTTPError):
        scene.asks_the_edge(**{"X-Broken": f"{canaries['a field that is refused']}\x01"})

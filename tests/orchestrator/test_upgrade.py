"""An upgrade of `fairlead up` replaces edge and orchestrator in the middle of a deploy: the next
orchestrator goes on with it, every worker that serves acknowledges it, and no request is lost."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import Conversation
from tests.messages import request
from tests.orchestrator.daemon import Daemon
from tests.orchestrator.docker_engine import app_subnets
from tests.orchestrator.repository import Repository, serving
from tests.process import PATIENCE, Process

UP = ("-m", "fairlead", "up")

# An app that is healthy, and answers /cgi-bin/slow, once it has this file.
WAITS = "until [ -e /go ]; do usleep 20000; done"


def app(text: str, *, waits: bool) -> dict[str, str]:
    """One that serves `text`, at once or when it is let."""
    files = serving(text)
    before = f"{WAITS}; " if waits else ""
    head, _, _ = files["Dockerfile"].partition("CMD")
    files["Dockerfile"] = (
        f"{head}COPY slow /www/cgi-bin/\nRUN chmod 755 /www/cgi-bin/slow\n"
        f"CMD {before}exec httpd -f -p 8080 -h /www\n"
    )
    files["slow"] = f"#!/bin/sh\n{WAITS}\nprintf 'Content-Type: text/plain\\r\\n\\r\\nslow'\n"
    return files


def known(daemon: Daemon, number: int) -> dict[str, Any]:
    """Its record; of nothing, while one orchestrator has ended and the next does not serve."""
    try:
        return daemon.deploy(number)
    except httpx.TransportError:
        return {"step": None, "state": None}


def test_a_deploy_goes_on_through_an_upgrade(
    conversation: Conversation,
    tmp_path: Path,
    engine_host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine_host)
    daemon = Daemon(conversation, tmp_path / "fairlead.db", engine_host)
    process = Process(
        conversation,
        daemon.db,
        program=UP,
        addr=f"127.0.0.1:{daemon.port}",
        image_prefix="fairlead-test",
        network="fairlead-test",
        app_subnets=app_subnets(engine_host),
        stop_timeout="1",
        rollback_window="0",
        local_repos=str(tmp_path),
    )
    process.says("the orchestrator is running")
    daemon.until(daemon.answers, "answers")
    repository = Repository(tmp_path / "app")
    repository.commits(app("one", waits=False))
    old = daemon.deploys(repository, "app", domain="app.test")["new_container_id"]
    slow = process.connects()
    slow.sends(request("GET /cgi-bin/slow"))
    repository.commits(app("two", waits=True))
    number = daemon.is_pushed(repository, "app", domain="app.test", wait=0).json()["deploy_id"]
    daemon.until(lambda: daemon.deploy(number)["step"] == "health", "it waits for the new one")

    with ThreadPoolExecutor(1) as thread:
        upgrade = thread.submit(process.asks, "/upgrade")
        new = daemon.engine.containers.get(daemon.deploy(number)["container_id"])
        new.exec_run("touch /go")
        pid = upgrade.result(PATIENCE)["pid"]
    daemon.until(lambda: known(daemon, number)["step"] == "drain", "it drains")
    # What the edge before has in flight on the old container keeps that alive.
    assert {each.id for each in daemon.containers()} == {old, new.id}
    daemon.engine.containers.get(old).exec_run("touch /go")
    assert slow.receives_response().text == "slow"

    daemon.until(lambda: known(daemon, number)["state"] == "live", "it is live")
    cutover = daemon.deploy(number)["cutover"]
    assert (cutover["acknowledged"], cutover["workers"], cutover["cut"]) == (True, 2, 0)
    assert {each["version"] for each in process.workers()} == {cutover["route_version"]}
    client = process.connects()
    client.sends(request("GET /"))
    assert client.receives_response().text == "two\n"
    assert process.ends() == 0
    process.is_succeeded_by(pid)

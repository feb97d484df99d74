"""What a deploy that fails leaves: the old version serving, no new container, and the cause."""

import contextlib
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest

from edge.routing.store_writer import RouteWriter
from orchestrator.engine.container import LABEL_INSTANCE
from tests.harness import Conversation
from tests.orchestrator.daemon import Daemon
from tests.orchestrator.docker_engine import EngineProcess
from tests.orchestrator.repository import Repository, running, serving
from tests.process import Process, ask


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "app")


@pytest.fixture
def edge(conversation: Conversation, tmp_path: Path) -> Process:
    return Process(conversation, tmp_path / "fairlead.db", workers="1")


@pytest.fixture
def daemon(conversation: Conversation, edge: Process, tmp_path: Path, engine_host: str) -> Daemon:
    settings = {"health_timeout": "5", "drain_timeout": "8"}
    return Daemon(conversation, edge.db, engine_host, **settings).starts()


def answer(edge: Process) -> str:
    """What a client of app.test gets."""
    url = f"http://127.0.0.1:{edge.port}/"
    return ask("GET", url, headers={"Host": "app.test"}).text.strip()


SICK: list[tuple[str, dict[str, str], str, str]] = [
    (
        "ends at once",
        running("echo bang; echo stderr error >&2; exit 42"),
        "early_exit",
        "code 42",
    ),
    (
        "answers 404",
        {**running("mkdir -p /empty; exec httpd -f -p 8080 -h /empty")},
        "unhealthy",
        "404",
    ),
    (
        "listens on another port",
        running("exec httpd -f -p 3000 -h /bin"),
        "unhealthy",
        "3000",
    ),
    (
        "listens on loopback only",
        running("exec httpd -f -p 127.0.0.1:8080 -h /bin"),
        "unhealthy",
        "127.0.0.1 only",
    ),
    ("cannot be built", {"Dockerfile": "FROM busybox\nRUN exit 7\n"}, "build_failed", "7"),
    (
        "has no base image",
        {"Dockerfile": "FROM nowhere.invalid/none:1\n"},
        "unsafe_dockerfile",
        "nowhere.invalid",
    ),
]


@pytest.mark.parametrize(("what", "files", "kind", "text"), SICK, ids=[row[0] for row in SICK])
def test_an_app_that(
    what: str,
    files: dict[str, str],
    kind: str,
    text: str,
    daemon: Daemon,
    edge: Process,
    repository: Repository,
) -> None:
    repository.commits(serving("one"))
    first = daemon.deploys(repository, "app", domain="app.test")
    repository.git("rm", "--quiet", "-r", ".")
    repository.commits(files)
    refused = daemon.is_pushed(repository, "app", domain="app.test", wait=30)
    assert refused.status_code == 500
    assert refused.json()["error"] == "deploy failed"
    assert text not in refused.text
    failed = daemon.deploy(refused.json()["deploy_id"])
    assert (failed["state"], failed["error_kind"]) == ("failed", kind)
    assert text in failed["error"]
    assert "pipeline failed" in daemon.said()
    assert [each.id for each in daemon.containers()] == [first["new_container_id"]]
    assert daemon.routes() == {"app.test": first["routed_target"]}
    assert answer(edge) == "one"


def test_a_first_deploy_that_fails_leaves_neither_route_nor_container(
    daemon: Daemon, repository: Repository
) -> None:
    repository.commits(running("exit 1"))
    assert daemon.is_pushed(repository, "app", wait=30).status_code == 500
    assert daemon.containers() == []


def test_a_container_that_dies_right_after_the_switch_gives_way_to_the_old_one(
    conversation: Conversation,
    daemon: Daemon,
    edge: Process,
    repository: Repository,
) -> None:
    slow = serving("one")
    slow["cgi-bin/slow"] = "#!/bin/sh\nsleep 60\n"
    slow["Dockerfile"] = slow["Dockerfile"].replace("EXPOSE", "COPY cgi-bin /www/cgi-bin\nEXPOSE")
    repository.commits(slow)
    (repository.folder / "cgi-bin" / "slow").chmod(0o755)
    repository.commits({})
    daemon.deploys(repository, "app", domain="app.test")
    # A request in flight on the old container keeps the drain waiting, until it is cut after 8 s.
    client = edge.connects()
    client.sends(b"GET /cgi-bin/slow HTTP/1.1\r\nHost: app.test\r\n\r\n")
    dying = serving("two")
    dying["Dockerfile"] = dying["Dockerfile"].replace(
        'CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]',
        "CMD httpd -p 8080 -h /www; until [ -e /die ]; do usleep 20000; done; exit 3",
    )
    repository.commits(dying)
    RouteWriter(edge.db).set("hand.test", "127.0.0.1:9")
    number = daemon.post(
        "/api/deploys", json={"app": "app", "repo": repository.url, "domain": "hand.test"}
    ).json()["deploy_id"]
    daemon.until(lambda: daemon.deploy(number)["step"] == "drain", "it drains")
    new = daemon.deploy(number)["target"]
    assert daemon.routes() == {"app.test": new, "hand.test": new}
    daemon.engine.containers.get(daemon.deploy(number)["container_id"]).exec_run("touch /die")
    failed = daemon.ended(number)
    assert failed["error_kind"] == "died_after_switch", failed
    assert answer(edge) == "one"
    # A domain that this deploy was to take over is back where it was, too.
    assert daemon.routes()["hand.test"] == "127.0.0.1:9"
    assert len(daemon.containers()) == 1


def test_a_container_that_dies_within_the_window_gives_way_to_the_old_one(
    conversation: Conversation, edge: Process, repository: Repository, engine_host: str
) -> None:
    """Nothing is in flight: it is the old container that is kept, and the new one watched."""
    daemon = Daemon(conversation, edge.db, engine_host, rollback_window="300").starts()
    repository.commits(serving("one"))
    first = daemon.deploys(repository, "app", domain="app.test")
    repository.commits(serving("two"))
    number = daemon.is_pushed(repository, "app", domain="app.test", wait=0).json()["deploy_id"]
    daemon.until(lambda: serves(edge, "two"), "the new one serves")
    daemon.until(lambda: daemon.deploy(number)["step"] == "drain", "it is watched")
    # A restart of ours in the window changes nothing: it is the step that is done again.
    daemon.ends(signal.SIGKILL)
    daemon.starts()
    log = f"/api/deploys/{number}/log"
    daemon.until(lambda: "resuming after an interruption" in daemon.get(log).text, "it goes on")
    daemon.engine.containers.get(daemon.deploy(number)["container_id"]).kill()
    failed = daemon.ended(number)
    assert failed["error_kind"] == "died_after_switch", failed
    assert "code 137" in failed["error"]
    daemon.until(lambda: serves(edge, "one"), "the old one serves again")
    assert [each.id for each in daemon.containers()] == [first["new_container_id"]]
    assert daemon.get("/api/apps/app").json()["live_deploy"] == first["deploy_id"]


def test_images_of_old_releases_are_removed(
    conversation: Conversation, edge: Process, repository: Repository, engine_host: str
) -> None:
    daemon = Daemon(conversation, edge.db, engine_host, keep_releases="2").starts()
    tags = []
    for text in ("one", "two", "three", "four"):
        repository.commits(serving(text))
        tags.append(daemon.deploys(repository, "app", domain="app.test")["image_tag"])

    def kept() -> list[str]:
        ours = {"label": f"{LABEL_INSTANCE}={daemon.instance()}"}
        return [
            tag for image in daemon.engine.api.images(filters=ours) for tag in image["RepoTags"]
        ]

    daemon.until(lambda: sorted(kept()) == sorted(tags[2:]), "two are left")
    assert serves(edge, "four")
    # The image of a deploy that failed is kept to be looked into, until a newer one is live.
    repository.commits(running("exit 1"))
    assert daemon.is_pushed(repository, "app", domain="app.test", wait=30).status_code == 500
    daemon.until(lambda: len(kept()) == 3, "it is kept")
    repository.git("rm", "--quiet", "-r", ".")
    repository.commits(serving("five"))
    tags.append(daemon.deploys(repository, "app", domain="app.test")["image_tag"])
    daemon.until(lambda: sorted(kept()) == sorted(tags[3:]), "two are left again")


def test_an_engine_that_is_killed_in_a_build_leaves_nothing_of_it(
    own_engine: EngineProcess, conversation: Conversation, edge: Process, repository: Repository
) -> None:
    daemon = Daemon(conversation, edge.db, own_engine.host).starts()
    daemon.until(lambda: daemon.get("/readyz").status_code == 200, "it is ready")

    def left() -> tuple[int, int]:
        images = daemon.engine.images.list(all=True)
        # A build container that goes while they are looked at is not an error.
        return len(daemon.engine.containers.list(all=True, ignore_removed=True)), len(images)

    before = left()
    layers = "FROM busybox\nRUN echo one > /one\nRUN echo it runs; sleep 3600\n"
    repository.commits({"Dockerfile": layers})
    number = daemon.is_pushed(repository, "app", domain="app.test", wait=0).json()["deploy_id"]
    daemon.until(lambda: "it runs" in daemon.get(f"/api/deploys/{number}/log").text, "it builds")
    own_engine.is_killed()
    assert daemon.ended(number)["state"] == "failed"
    own_engine.starts()
    daemon.until(lambda: left() == before, "nothing of the build is left")


def test_without_an_edge_a_deploy_goes_on_and_says_so(
    conversation: Conversation, tmp_path: Path, repository: Repository, engine_host: str
) -> None:
    daemon = Daemon(conversation, tmp_path / "alone.db", engine_host).starts()
    repository.commits(serving("one"))
    live = daemon.deploys(repository, "app", domain="app.test")
    assert live["cutover"]["acknowledged"] is False
    assert daemon.routes() == {"app.test": live["routed_target"]}
    assert "no edge is running" in daemon.get(f"/api/deploys/{live['deploy_id']}/log").text


def test_a_deploy_is_cancelled_inside_its_build(
    daemon: Daemon, edge: Process, repository: Repository
) -> None:
    repository.commits(serving("one"))
    daemon.deploys(repository, "app", domain="app.test")
    repository.commits({"Dockerfile": "FROM busybox\nRUN sleep 3600\n"})
    accepted = daemon.is_pushed(repository, "app", domain="app.test", wait=0)
    assert accepted.status_code == 202
    number = accepted.json()["deploy_id"]
    assert accepted.headers["location"] == f"/api/deploys/{number}"
    daemon.until(lambda: "sleep 3600" in daemon.get(f"/api/deploys/{number}/log").text, "builds")
    assert daemon.post(f"/api/deploys/{number}/cancel").status_code == 200
    assert daemon.deploy(number)["state"] == "cancelled"
    assert answer(edge) == "one"
    again = daemon.post(f"/api/deploys/{number}/cancel")
    assert again.status_code == 409


def test_a_container_that_ends_during_a_build_is_started_again(
    daemon: Daemon, edge: Process, repository: Repository
) -> None:
    """The build may take many minutes yet."""
    repository.commits(serving("one"))
    daemon.deploys(repository, "app", domain="app.test")
    repository.commits({"Dockerfile": "FROM busybox\nRUN sleep 3600\n"})
    number = daemon.is_pushed(repository, "app", domain="app.test", wait=0).json()["deploy_id"]
    daemon.until(lambda: "sleep 3600" in daemon.get(f"/api/deploys/{number}/log").text, "builds")
    (container,) = daemon.containers()
    before = daemon.routes()
    container.kill()
    daemon.until(lambda: "app is down" in daemon.said(), "it is missed")
    daemon.until(lambda: serves(edge, "one"), "it serves again")
    assert daemon.routes() == before
    assert daemon.deploy(number)["step"] == "build"
    assert daemon.post(f"/api/deploys/{number}/cancel").status_code == 200


def test_a_stop_finishes_the_running_step_and_leaves_the_rest_to_the_next_start(
    daemon: Daemon, edge: Process, repository: Repository
) -> None:
    slow = serving("one")
    slow["Dockerfile"] = slow["Dockerfile"].replace("RUN mkdir", "RUN sleep 2; mkdir")
    repository.commits(slow)
    number = daemon.is_pushed(repository, "app", domain="app.test", wait=0).json()["deploy_id"]
    daemon.until(lambda: "sleep 2" in daemon.get(f"/api/deploys/{number}/log").text, "builds")
    assert daemon.ends(signal.SIGTERM) == 0
    daemon.starts()
    ended = daemon.ended(number)
    # A stop in order is no attempt that failed.
    assert (ended["state"], ended["attempts"]) == ("live", 1)
    steps = {each["step"]: each["state"] for each in daemon.deploy(number)["steps"]}
    assert set(steps.values()) == {"done"}
    assert daemon.get(f"/api/deploys/{number}/log").text.count("RUN sleep 2") == 1
    assert answer(edge) == "one"


@pytest.mark.timeout(180)
def test_an_engine_that_goes_and_comes_back(
    own_engine: EngineProcess,
    conversation: Conversation,
    edge: Process,
    repository: Repository,
) -> None:
    daemon = Daemon(conversation, edge.db, own_engine.host).starts()
    repository.commits(serving("one"))
    first = daemon.deploys(repository, "app", domain="app.test")
    own_engine.stops()
    daemon.until(lambda: daemon.get("/readyz").status_code == 503, "it is not ready")
    assert daemon.get("/readyz").text == "unavailable"
    assert "Docker" in daemon.get("/api/stats").json()["error"]
    assert daemon.get("/healthz").text == "ok"
    refused = daemon.is_pushed(repository, "app", domain="app.test", wait=30)
    assert refused.status_code == 500
    failed = daemon.deploy(refused.json()["deploy_id"])
    assert failed["error_kind"] == "engine_unavailable"

    own_engine.starts()
    daemon.until(lambda: daemon.get("/readyz").status_code == 200, "it is ready")
    daemon.until(lambda: serves(edge, "one"), "the old version serves again")
    assert [each.id for each in daemon.containers()] == [first["new_container_id"]]
    repository.commits(serving("two"))
    daemon.deploys(repository, "app", domain="app.test")
    assert answer(edge) == "two"

    # The machine goes down inside a deploy, and comes back with us before the engine.
    daemon.ends()
    daemon.starts(["-m", "tests.orchestrator.killed", "after:start"])
    repository.commits(serving("three"))
    with pytest.raises(httpx.TransportError):
        daemon.is_pushed(repository, "app", domain="app.test", wait=30)
    daemon.was_killed()
    own_engine.stops()
    daemon.starts()
    daemon.until(lambda: daemon.get("/readyz").status_code == 503, "it has looked for the engine")
    begun = daemon.get("/api/deploys").json()["deploys"][0]
    assert (begun["state"], begun["attempts"]) == ("running", 1)
    own_engine.starts()
    ended = daemon.ended(begun["id"])
    assert (ended["state"], ended["attempts"]) == ("live", 2)
    assert answer(edge) == "three"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_said_and_stops_neither_daemon(
    small_disk: Path, conversation: Conversation, repository: Repository, engine_host: str
) -> None:
    edge = Process(conversation, small_disk / "fairlead.db", workers="1")
    daemon = Daemon(conversation, edge.db, engine_host, min_free="0").starts()
    repository.commits(serving("one"))
    daemon.deploys(repository, "app", domain="app.test")
    filling = small_disk / "filling"
    with pytest.raises(OSError, match="No space"):
        filling.write_bytes(b"x" * 4 * 2**20)
    repository.commits(serving("two"))
    # What could not be stored was not accepted: the sender tries again.
    refused = daemon.is_pushed(repository, "app", domain="app.test", wait=30)
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    assert str(small_disk) not in refused.text
    assert "database or disk is full" in daemon.said()
    assert answer(edge) == "one"
    assert daemon.get("/healthz").text == "ok"
    filling.unlink()
    daemon.deploys(repository, "app", domain="app.test")
    assert answer(edge) == "two"
    assert len(daemon.containers()) == 1


def test_a_start_without_an_engine(
    conversation: Conversation, edge: Process, repository: Repository, engine_host: str
) -> None:
    daemon = Daemon(conversation, edge.db, engine_host)
    daemon.engine_host = f"unix://{edge.db.parent}/none.sock"
    daemon.starts()
    assert daemon.get("/healthz").text == "ok"
    assert daemon.get("/readyz").status_code == 503
    repository.commits(serving("one"))
    assert daemon.is_pushed(repository, "app", wait=30).status_code == 500
    daemon.ends()
    daemon.engine_host = engine_host


def serves(edge: Process, text: str) -> bool:
    try:
        return answer(edge) == text
    except httpx.TransportError:
        return False


def test_a_container_that_was_stopped_on_purpose_stays_stopped(
    daemon: Daemon, edge: Process, repository: Repository
) -> None:
    repository.commits(serving("one"))
    first = daemon.deploys(repository, "app", domain="app.test")
    (container,) = daemon.containers()
    container.restart(timeout=0)
    daemon.until(lambda: serves(edge, "one"), "it serves after a restart")
    container.stop(timeout=0)
    daemon.until(lambda: "on purpose" in daemon.suspended().get("app.test", ""), "it is suspended")

    def asked() -> httpx.Response:
        return ask("GET", f"http://127.0.0.1:{edge.port}/", headers={"Host": "app.test"})

    daemon.until(lambda: asked().status_code == 503, "the edge says so")
    assert "retry-after" in asked().headers
    assert daemon.routes() == {"app.test": first["routed_target"]}
    assert "on purpose" in daemon.get("/api/apps/app").json()["down"]
    # A restart of ours, and the looks that follow another deploy, change nothing.
    daemon.ends()
    daemon.starts()
    daemon.until(lambda: daemon.get("/readyz").status_code == 200, "it is ready")
    daemon.deploys(repository, "other", domain="other.test")
    container.reload()
    assert container.status == "exited"
    container.start()
    daemon.until(lambda: serves(edge, "one"), "it serves again")
    assert daemon.get("/api/apps/app").json()["down"] == ""


def test_a_container_that_was_stopped_while_we_were_away_stays_stopped(
    daemon: Daemon, edge: Process, repository: Repository
) -> None:
    repository.commits(serving("one"))
    daemon.deploys(repository, "app", domain="app.test")
    (container,) = daemon.containers()
    daemon.ends()
    container.stop(timeout=0)
    daemon.starts()
    daemon.until(lambda: "on purpose" in daemon.suspended().get("app.test", ""), "it is suspended")
    container.reload()
    assert container.status == "exited"


@pytest.mark.parametrize("how", ["killed", "removed"])
def test_an_app_serves_again_when_its_container_was(
    how: str, daemon: Daemon, edge: Process, repository: Repository
) -> None:
    repository.commits(serving("one"))
    first = daemon.deploys(repository, "app", domain="app.test")
    (container,) = daemon.containers()
    if how == "killed":
        container.kill()
    else:
        container.remove(force=True)
    daemon.until(lambda: "app is down" in daemon.said(), "it is missed")
    daemon.until(lambda: serves(edge, "one"), "it serves again")
    (again,) = daemon.containers()
    assert (again.id == container.id) == (how == "killed")
    assert daemon.deploy(first["deploy_id"])["container_id"] == again.id
    assert daemon.routes() == {"app.test": first["routed_target"]}
    daemon.until(lambda: "app runs again" in daemon.said(), "that is said")


def test_containers_of_others_are_never_touched(
    conversation: Conversation, daemon: Daemon, repository: Repository, engine_host: str
) -> None:
    stranger = daemon.engine.containers.run(
        "busybox", ["sleep", "3600"], detach=True, labels={"fairlead.managed": "true"}
    )
    conversation.closes_at_end(lambda: stranger.remove(force=True))
    repository.commits(serving("one"))
    daemon.deploys(repository, "app", domain="app.test")
    daemon.ends()
    daemon.starts()
    daemon.until(lambda: daemon.get("/readyz").status_code == 200, "it is ready")
    repository.commits(serving("two"))
    daemon.deploys(repository, "app", domain="app.test")
    stranger.reload()
    assert stranger.status == "running"


def test_an_app_that_is_removed_leaves_neither_container_nor_image_and_no_route_that_serves(
    daemon: Daemon, repository: Repository
) -> None:
    repository.commits(serving("one"))
    daemon.deploys(repository, "app", domain="app.test")
    repository.commits(serving("two"))
    daemon.deploys(repository, "app", domain="app.test")
    ours = {"label": f"{LABEL_INSTANCE}={daemon.instance()}"}
    assert len(daemon.engine.images.list(filters=ours)) == 2
    gone = daemon.asks("DELETE", "/api/apps/app")
    assert gone.status_code == 200, gone.text
    assert daemon.suspended().keys() == daemon.routes().keys() == {"app.test"}
    assert daemon.containers() == []
    assert daemon.engine.images.list(filters=ours) == []


def test_an_operator_takes_a_route_over_on_purpose_and_its_old_target_is_on_record(
    daemon: Daemon, edge: Process, repository: Repository
) -> None:
    RouteWriter(edge.db).set("hand.test", "127.0.0.1:9", {"retries": 1})
    repository.commits(serving("one"))
    refused = daemon.is_pushed(repository, "app", domain="hand.test", wait=30)
    assert (refused.status_code, "claim it with" in refused.text) == (409, True)
    number = daemon.post(
        "/api/deploys", json={"app": "app", "repo": repository.url, "domain": "hand.test"}
    ).json()["deploy_id"]
    taken = daemon.ended(number)
    assert (taken["state"], taken["old_target"]) == ("live", "127.0.0.1:9")
    assert daemon.routes() == {"hand.test": taken["target"]}


def test_the_rules_of_a_route_outlive_its_app_and_no_wider_route_takes_its_host(
    daemon: Daemon, edge: Process, repository: Repository
) -> None:
    """security.md, High 2: after `apps rm` and a push, basic auth and deny lists were gone."""
    writer = RouteWriter(edge.db)
    repository.commits(serving("one"))
    daemon.deploys(repository, "app", domain="app.test")
    writer.change("app.test", {"deny": ["192.0.2.0/24"], "set_fields": {"X-Rule": "kept"}})
    writer.set("*", daemon.routes()["app.test"])
    removed = daemon.asks("DELETE", "/api/apps/app")
    assert removed.status_code in (200, 204), removed.text
    assert daemon.containers() == []
    assert daemon.get("/api/apps").json()["apps"] == []
    client = edge.connects()
    client.sends(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    refused = client.receives_response()
    assert (refused.status, refused["Retry-After"]) == (503, "5")
    daemon.deploys(repository, "app")
    client = edge.connects()
    client.sends(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    assert client.receives_response()["X-Rule"] == "kept"
    with contextlib.closing(sqlite3.connect(edge.db)) as connection:
        ((options,),) = connection.execute(
            "SELECT options FROM proxy_routes WHERE domain = 'app.test'"
        )
    assert orjson.loads(options)["deny"] == ["192.0.2.0/24"]

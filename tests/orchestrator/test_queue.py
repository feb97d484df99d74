"""Which deploy runs when: apps side by side, one at a time for each, the newest wins."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness import Conversation
from tests.orchestrator.daemon import Daemon
from tests.orchestrator.repository import Repository, serving
from tests.process import Process, ask


@pytest.fixture
def edge(conversation: Conversation, tmp_path: Path) -> Process:
    return Process(conversation, tmp_path / "fairlead.db", workers="1")


@pytest.fixture
def daemon(conversation: Conversation, edge: Process, engine_host: str) -> Daemon:
    return Daemon(conversation, edge.db, engine_host, webhook_burst="100").starts()


def answer(edge: Process, host: str) -> str:
    """What a client of `host` gets."""
    url = f"http://127.0.0.1:{edge.port}/"
    return ask("GET", url, headers={"Host": host}).text.strip()


def test_two_apps_of_one_runtime_at_once(daemon: Daemon, edge: Process, tmp_path: Path) -> None:
    """godeploy-platform published both on the port of their runtime, and the second one failed."""
    repositories = {name: Repository(tmp_path / name) for name in ("left", "right")}
    for name, repository in repositories.items():
        repository.commits(serving(name))
    with ThreadPoolExecutor(2) as pool:
        answers = list(
            pool.map(lambda name: daemon.deploys(repositories[name], name), repositories)
        )
    assert {each["app"] for each in answers} == {"left", "right"}
    for name in repositories:
        assert answer(edge, f"{name}.local") == name


def test_thirty_pushes_in_a_burst_end_with_the_newest_commit_after_two_builds_at_most(
    daemon: Daemon, edge: Process, tmp_path: Path
) -> None:
    repository = Repository(tmp_path / "app")
    commits = []
    for number in range(30):
        files = serving(str(number))
        # All pushes are there before the first build is done; no other test has it in the cache.
        files["Dockerfile"] = files["Dockerfile"].replace("RUN", f"RUN sleep 4; : {tmp_path};")
        commits.append(repository.commits(files))
    numbers = []
    for commit in commits:
        pushed = daemon.is_pushed(repository, "app", commit, wait=0)
        assert pushed.status_code in (200, 202), pushed.text
        numbers.append(pushed.json()["deploy_id"])
    newest = daemon.ended(numbers[-1])
    assert newest["state"] == "live"
    assert answer(edge, "app.local") == "29"
    deploys = [daemon.deploy(number) for number in numbers]
    built = [each for each in deploys if each["image_id"]]
    assert len(built) <= 2, [each["state"] for each in deploys]
    for each in deploys:
        if each["state"] == "superseded":
            assert each["superseded_by"] in numbers
    assert {each["state"] for each in deploys} <= {"live", "retired", "superseded"}
    assert len(daemon.containers("app")) == 1

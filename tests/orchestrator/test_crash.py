"""security.md 9: kill -9 at every point of a deploy, and the next start goes on from there.

Whatever the point, afterwards the newest commit is live, its container is the only one of its app,
and the route points to it; in between, the old version serves.
"""

from pathlib import Path

import httpx
import pytest

from orchestrator.deploy import Step
from tests.harness import Conversation
from tests.orchestrator.daemon import Daemon
from tests.orchestrator.repository import Repository, serving
from tests.process import Process

POINTS = [
    *(f"{when}:{step}" for step in Step for when in ("before", "after", "saved")),
    "inside:build",
    "inside:start",
    "inside:switch",
]


@pytest.mark.parametrize("point", POINTS)
def test_a_deploy_that_was_killed_is_finished_by_the_next_start(
    point: str, conversation: Conversation, tmp_path: Path, engine_host: str
) -> None:
    db = tmp_path / "fairlead.db"
    edge = Process(conversation, db, workers="1")
    repository = Repository(tmp_path / "app")
    repository.commits(serving("one"))
    daemon = Daemon(conversation, db, engine_host).starts()
    first = daemon.deploys(repository, "app", domain="app.test")
    assert daemon.ends() == 0

    daemon.starts(["-m", "tests.orchestrator.killed", point])
    repository.commits(serving("two"))
    with pytest.raises(httpx.TransportError):
        daemon.is_pushed(repository, "app", domain="app.test", wait=30)
    daemon.was_killed()
    assert answer(edge) in ("one", "two")

    daemon.starts()
    second = daemon.ended(2)
    assert second["state"] == "live", daemon.said()
    daemon.until(lambda: len(daemon.containers()) == 1, "one container is left")
    (container,) = daemon.containers()
    assert container.id == second["container_id"] != first["new_container_id"]
    (published,) = container.ports["8080/tcp"]
    assert daemon.routes() == {"app.test": f"127.0.0.1:{published['HostPort']}"}
    assert answer(edge) == "two"
    assert not list(db.with_suffix(".work").iterdir())


def answer(edge: Process) -> str:
    """What a client of app.test gets."""
    url = f"http://127.0.0.1:{edge.port}/"
    return httpx.get(url, headers={"Host": "app.test"}, trust_env=False).text.strip()

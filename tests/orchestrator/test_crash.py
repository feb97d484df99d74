"""security.md 9: kill -9 at every point of a deploy, and the next start goes on from there.

Whatever the point, afterwards the newest commit is live, its container is the only one of its app,
and the route points to it; in between, the old version serves.
"""

from pathlib import Path

import httpx
import pytest

from orchestrator.model import Step
from tests.harness import Conversation
from tests.orchestrator.daemon import Daemon
from tests.orchestrator.repository import Repository, serving
from tests.process import Process, ask

INSIDE = (Step.BUILD, Step.START, Step.SWITCH)
# The point of each step where the most is half done; the others take minutes.
WORST = [(step, ["inside" if step in INSIDE else "after"]) for step in Step]
ALL = [
    pytest.param(
        step,
        ["before", "after", "saved", *(["inside"] if step in INSIDE else [])],
        marks=pytest.mark.chaos,
    )
    for step in Step
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("step", "points"), [*WORST, *ALL])
def test_a_deploy_that_was_killed_is_finished_by_the_next_start(
    step: Step, points: list[str], conversation: Conversation, tmp_path: Path, engine_host: str
) -> None:
    edge = Process(conversation, tmp_path / "fairlead.db", workers="1")
    repository = Repository(tmp_path / "app")
    repository.commits(serving("0"))
    daemon = Daemon(conversation, edge.db, engine_host).starts()
    daemon.deploys(repository, "app", domain="app.test")
    for number, point in enumerate(points, 1):
        conversation.says("test", f"kills {point} {step}")
        assert daemon.ends() == 0
        daemon.starts(["-m", "tests.orchestrator.killed", f"{point}:{step}"])
        repository.commits(serving(str(number)))
        with pytest.raises(httpx.TransportError):
            daemon.is_pushed(repository, "app", domain="app.test", wait=30)
        daemon.was_killed()
        assert answer(edge) in (str(number - 1), str(number))

        daemon.starts()
        deploy = daemon.ended(number + 1)
        assert deploy["state"] == "live", daemon.said()
        daemon.until(lambda: len(daemon.containers()) == 1, "one container is left")
        (container,) = daemon.containers()
        assert container.id == deploy["container_id"]
        assert daemon.routes() == {"app.test": deploy["target"]}
        assert deploy["target"] == f"{deploy['address']}:8080"
        assert answer(edge) == str(number)
        assert not list(edge.db.with_suffix(".work").iterdir())


def answer(edge: Process) -> str:
    """What a client of app.test gets."""
    url = f"http://127.0.0.1:{edge.port}/"
    return ask("GET", url, headers={"Host": "app.test"}).text.strip()

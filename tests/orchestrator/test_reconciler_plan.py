"""What the reconciler decides, for every way in which containers, routes and store can disagree."""

from collections.abc import Sequence
from typing import Any

from orchestrator.deploys.reconciler import AppState, Plan, plan
from orchestrator.engine.container import Container
from orchestrator.model import App, Deploy, DeployState


def app(name: str = "app", **fields: Any) -> App:
    return App(name, f"team/{name}", "", "main", "", 0.0, domains=[f"{name}.test"], **fields)


def live(number: int = 7, container: str = "new", name: str = "app") -> Deploy:
    deploy = Deploy(
        id=number,
        app=name,
        state=DeployState.LIVE,
        step=None,
        provider="github",
        repository="",
        clone_url="",
        branch="",
        commit="",
        domains=[f"{name}.test"],
        health_path="/",
        created_at=0.0,
    )
    deploy.container_id, deploy.port = container, 8080
    return deploy


def container(
    name: str = "new", deploy: int = 7, address: str | None = "127.0.0.1:1", **fields: Any
) -> Container:
    given: dict[str, Any] = {
        "id": name,
        "name": name,
        "app": "app",
        "deploy": deploy,
        "release": "",
        "instance": "i",
        "state": "running" if address else "exited",
        "exit_code": 0,
        "oom_killed": False,
        "pid": 1,
        "ports": {8080: address} if address else {},
        "image": "",
        "image_id": "",
        "started_at": "",
        "restart_count": 0,
        "memory": 0,
        "labels": {},
    }
    return Container(**{**given, **fields})


def decided(
    facts: Sequence[AppState],
    containers: Sequence[Container],
    routes: dict[str, str | None],
    at_work: tuple[str, ...] = (),
) -> Plan:
    return plan(facts, at_work, containers, routes)


LIVE = AppState(app(), live(), "", {"127.0.0.1:1"})


def test_what_agrees_is_left_alone() -> None:
    assert decided([LIVE], [container()], {"app.test": "127.0.0.1:1"}) == Plan()


def test_a_route_follows_a_container_that_has_got_another_address() -> None:
    wanted = decided([LIVE], [container(address="127.0.0.1:2")], {"app.test": "127.0.0.1:1"})
    assert wanted == Plan(targets={"app.test": "127.0.0.1:2"})


def test_containers_of_other_deploys_of_the_app_are_orphans() -> None:
    orphan = container("old", deploy=6)
    wanted = decided([LIVE], [container(), orphan], {"app.test": "127.0.0.1:1"})
    assert wanted == Plan(remove=[orphan])


def test_containers_of_an_app_that_is_at_work_are_left_to_its_deploy() -> None:
    wanted = decided([], [container("half", deploy=8)], {}, at_work=("app",))
    assert wanted == Plan()


def test_containers_of_an_app_that_was_removed_are_orphans() -> None:
    orphan = container()
    assert decided([], [orphan], {}) == Plan(remove=[orphan])


def test_a_route_to_a_container_that_is_gone_is_withdrawn_with_the_reason() -> None:
    wanted = decided([LIVE], [], {"app.test": "127.0.0.1:1"})
    assert wanted == Plan(targets={"app.test": None}, withdrawn={"app": "container is gone"})


def test_a_route_to_a_container_that_was_stopped_is_withdrawn_with_the_reason() -> None:
    wanted = decided([LIVE], [container(address=None)], {"app.test": "127.0.0.1:1"})
    assert wanted == Plan(targets={"app.test": None}, withdrawn={"app": "container is exited"})


def test_a_route_to_a_container_that_is_coming_back_stays() -> None:
    crashed = container(address=None, state="restarting")
    assert decided([LIVE], [crashed], {"app.test": "127.0.0.1:1"}) == Plan()


def test_a_route_never_points_to_another_apps_container() -> None:
    crashed = container(address=None, state="restarting")
    other = container("other", deploy=9, address="127.0.0.1:1", app="other")
    facts = [LIVE, AppState(app("other"), live(9, "other", "other"), "", ())]
    routes: dict[str, str | None] = {"app.test": "127.0.0.1:1", "other.test": "127.0.0.1:1"}
    wanted = decided(facts, [crashed, other], routes)
    assert wanted == Plan(targets={"app.test": None}, withdrawn={"app": "container is restarting"})


def test_withdrawn_routes_come_back_with_their_container() -> None:
    facts = AppState(app(), live(), "container is exited", ())
    wanted = decided([facts], [container(address="127.0.0.1:5")], {"app.test": None})
    assert wanted == Plan(targets={"app.test": "127.0.0.1:5"}, withdrawn={"app": ""})


def test_a_route_that_an_operator_removed_stays_away() -> None:
    assert decided([LIVE], [container()], {"app.test": None}) == Plan()


def test_a_domain_that_was_asked_for_since_stays_whose_it_was() -> None:
    """The deploy that is to take it over runs, or has failed."""
    wider = app()
    wider.domains.append("hand.test")
    facts = AppState(wider, live(), "", {"127.0.0.1:1"})
    routes: dict[str, str | None] = {"app.test": "127.0.0.1:1", "hand.test": "10.0.0.1:80"}
    assert decided([facts], [container()], routes) == Plan()
    wanted = decided([facts], [], routes)
    assert wanted == Plan(targets={"app.test": None}, withdrawn={"app": "container is gone"})


def test_of_an_app_that_was_never_live_only_our_own_routes_go() -> None:
    facts = AppState(app(), None, "", {"127.0.0.1:1"})
    assert decided([facts], [], {"app.test": "10.0.0.1:80"}) == Plan()
    assert decided([facts], [], {"app.test": "127.0.0.1:1"}) == Plan(targets={"app.test": None})

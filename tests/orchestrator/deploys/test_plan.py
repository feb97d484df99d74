"""What is decided for every way in which containers, routes and store can disagree."""

from collections.abc import Sequence
from typing import Any

import pytest

from edge.routing.store_writer import StoredRoute
from orchestrator.deploys.plan import NEVER_LIVE, AppState, Plan, plan
from orchestrator.deploys.stops import End
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


def container(name: str = "new", deploy: int = 7, ip: str = "10.0.0.2", **fields: Any) -> Container:
    given: dict[str, Any] = {
        "id": name,
        "name": name,
        "app": "app",
        "deploy": deploy,
        "release": "",
        "instance": "i",
        "state": "running",
        "exit_code": 0,
        "oom_killed": False,
        "pid": 1,
        "network": "app",
        "ip": ip,
        "port": 8080,
        "ports": {},
        "image": "",
        "image_id": "",
        "started_at": "",
        "restart_count": 0,
        "memory": 0,
        "labels": {},
    }
    return Container(**{**given, **fields})


BOOT = "this-boot"
SERVED = StoredRoute("10.0.0.2:8080", BOOT, "")
LIVE = AppState(app(), live(), {"10.0.0.2:8080"})
EXITED = container(state="exited", exit_code=3)
EXITED_REASON = "container exited with code 3"


def decided(
    states: Sequence[AppState],
    containers: Sequence[Container],
    routes: dict[str, StoredRoute | None],
    at_work: tuple[str, ...] = (),
) -> Plan:
    return plan(states, at_work, containers, routes, BOOT)


def test_what_agrees_is_left_alone() -> None:
    assert decided([LIVE], [container()], {"app.test": SERVED}) == Plan()


class TestRoutes:
    def test_follow_a_container_that_is_elsewhere(self) -> None:
        wanted = decided([LIVE], [container(ip="10.0.0.3")], {"app.test": SERVED})
        assert wanted == Plan(targets={"app.test": "10.0.0.3:8080"})

    def test_follow_a_container_that_is_published(self) -> None:
        published = container(ports={8080: "127.0.0.1:20000"})
        wanted = decided([LIVE], [published], {"app.test": SERVED})
        assert wanted == Plan(targets={"app.test": "127.0.0.1:20000"})

    def test_of_another_boot_are_confirmed(self) -> None:
        before = SERVED._replace(boot="the boot before")
        wanted = decided([LIVE], [container()], {"app.test": before})
        assert wanted == Plan(targets={"app.test": "10.0.0.2:8080"})

    def test_of_another_boot_are_suspended_where_the_container_does_not_run(self) -> None:
        before = SERVED._replace(boot="the boot before")
        wanted = decided([LIVE], [EXITED], {"app.test": before})
        assert wanted.targets == {}
        assert wanted.suspended == {"app.test": EXITED_REASON}

    def test_that_were_suspended_serve_again_with_their_container(self) -> None:
        state = AppState(app(down=EXITED_REASON), live(), ())
        suspended = SERVED._replace(unavailable=EXITED_REASON)
        wanted = decided([state], [container()], {"app.test": suspended})
        assert wanted == Plan(targets={"app.test": "10.0.0.2:8080"}, down={"app": ""})

    def test_that_were_suspended_wait_for_a_container_that_is_starting(self) -> None:
        state = AppState(app(down=EXITED_REASON), live(), (), starting="starting")
        suspended = SERVED._replace(unavailable=EXITED_REASON)
        wanted = decided([state], [container()], {"app.test": suspended})
        assert wanted == Plan(suspended={"app.test": "starting"}, down={"app": "starting"})

    def test_that_an_operator_removed_stay_away(self) -> None:
        assert decided([LIVE], [container()], {"app.test": None}) == Plan()
        assert decided([LIVE], [EXITED], {"app.test": None}).suspended == {}

    def test_of_a_domain_that_was_asked_for_since_stay_whose_they_were(self) -> None:
        """The deploy that is to take it over runs, or has failed."""
        wider = app()
        wider.domains.append("hand.test")
        state = AppState(wider, live(), {"10.0.0.2:8080"})
        by_hand = StoredRoute("192.0.2.1:80", "", "")
        routes: dict[str, StoredRoute | None] = {"app.test": SERVED, "hand.test": by_hand}
        assert decided([state], [container()], routes) == Plan()
        assert decided([state], [], routes).suspended == {"app.test": "container is gone"}

    def test_of_an_app_that_was_never_live_are_suspended_if_they_are_our_own(self) -> None:
        state = AppState(app(), None, {"10.0.0.2:8080"})
        by_hand = StoredRoute("192.0.2.1:80", "", "")
        assert decided([state], [], {"app.test": by_hand}) == Plan()
        assert decided([state], [], {"app.test": SERVED}) == Plan(
            suspended={"app.test": NEVER_LIVE}
        )
        withdrawn = SERVED._replace(unavailable="app app was removed")
        assert decided([state], [], {"app.test": withdrawn}) == Plan()


class TestContainers:
    def test_that_ended_are_started_again(self) -> None:
        wanted = decided([LIVE], [EXITED], {"app.test": SERVED})
        assert LIVE.live is not None
        assert wanted == Plan(
            suspended={"app.test": EXITED_REASON},
            start=[(LIVE.live, EXITED)],
            down={"app": EXITED_REASON},
        )

    def test_that_are_gone_are_made_anew(self) -> None:
        wanted = decided([LIVE], [], {"app.test": SERVED})
        assert wanted == Plan(
            suspended={"app.test": "container is gone"},
            create=[LIVE.live] if LIVE.live else [],
            down={"app": "container is gone"},
        )

    def test_that_were_made_anew_and_not_noted_are_known_by_their_deploy(self) -> None:
        again = container("another-id")
        assert decided([LIVE], [again], {"app.test": SERVED}) == Plan()
        spare = container("yet-another")
        assert decided([LIVE], [container(), spare], {"app.test": SERVED}) == Plan(remove=[spare])

    @pytest.mark.parametrize("state", ["restarting", "paused", "removing"])
    def test_that_the_engine_is_at_work_on_are_left_to_it(self, state: str) -> None:
        wanted = decided([LIVE], [container(state=state)], {"app.test": SERVED})
        assert (wanted.start, wanted.create, wanted.remove) == ([], [], [])
        assert "app.test" in wanted.suspended

    @pytest.mark.parametrize("end", [End.STOPPED, End.UNKNOWN])
    @pytest.mark.parametrize("containers", [[EXITED], []])
    def test_that_were_stopped_on_purpose_stay_stopped(
        self, containers: list[Container], end: End
    ) -> None:
        stopped = AppState(app(), live(), (), end)
        wanted = decided([stopped], containers, {"app.test": SERVED})
        assert (wanted.start, wanted.create) == ([], [])
        assert ("on purpose" in wanted.suspended["app.test"]) == (end is End.STOPPED)

    def test_that_were_taken_out_of_their_network_are_not_reached(self) -> None:
        wanted = decided([LIVE], [container(ip="")], {"app.test": SERVED})
        reason = "container was taken out of the network of its app"
        assert wanted == Plan(suspended={"app.test": reason}, down={"app": reason})

    def test_that_could_not_be_started_say_why(self) -> None:
        state = AppState(app(), live(), (), start_error="no such image")
        wanted = decided([state], [EXITED], {"app.test": SERVED})
        assert wanted.down == {"app": f"{EXITED_REASON}; no such image"}
        assert wanted.suspended == {"app.test": f"{EXITED_REASON}; no such image"}

    def test_of_an_app_whose_deploy_builds_are_started_all_the_same(self) -> None:
        wanted = decided([LIVE], [EXITED], {"app.test": SERVED}, at_work=("app",))
        assert [found for _, found in wanted.start] == [EXITED]

    def test_of_other_deploys_of_the_app_are_orphans(self) -> None:
        orphan = container("old", deploy=6)
        assert decided([LIVE], [container(), orphan], {"app.test": SERVED}) == Plan(remove=[orphan])

    def test_of_an_app_that_is_at_work_are_left_to_its_deploy(self) -> None:
        assert decided([], [container("half", deploy=8)], {}, at_work=("app",)) == Plan()

    def test_of_an_app_that_was_removed_are_orphans(self) -> None:
        orphan = container()
        assert decided([], [orphan], {}) == Plan(remove=[orphan])

    def test_of_another_app_are_never_taken_for_its_own(self) -> None:
        other = container("other", deploy=7, app="other")
        state = AppState(app("other"), live(9, "x", "other"), ())
        wanted = decided([LIVE, state], [other], {"app.test": SERVED})
        assert wanted.create[0].app == "app"
        assert wanted.targets == {}

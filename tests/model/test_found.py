"""What the model has found, each as the few operations that show it."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.routing.store_writer import RouteWriter
from tests.model.test_model import simulated_machine
from tests.model.world import World

__all__ = ["simulated_machine"]

LOOK = 0.01
"""Seconds between two looks whether something has happened."""


@pytest.fixture
def world(
    simulated_machine: None, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[World]:
    world = World(tmp_path, getattr(request, "param", 1))
    yield world
    world.close()


def await_(world: World, happens: Callable[[], bool]) -> None:
    for _ in range(2000):
        if happens():
            return
        world.run(LOOK)
    raise AssertionError("it does not happen")


def test_the_route_of_an_app_outlives_a_reboot_right_after_the_switch(world: World) -> None:
    """The new container is given up, and the old one does not run yet: 404 for ever, once."""
    world.deploy("ant")
    world.come_to_rest()
    (old,) = world.docker.boxes
    world.deploy("ant")
    await_(world, lambda: world.live()["ant"] != old)
    world.docker.policies_work = False
    world.reboot()
    world.docker.starts()
    world.start_orchestrator()
    world.come_to_rest()
    assert world.settled == {"ant"}


def test_a_worker_that_is_stopped_in_the_first_start_of_an_edge_is_replaced(world: World) -> None:
    """The edge waited for it, and watched nobody yet."""
    (edge,) = world.kernel.living("edge")
    edge.signal(signal.SIGKILL)
    await_(world, lambda: edge not in world.kernel.living("edge"))
    await_(world, lambda: any(each.parent is not None for each in world.kernel.living("worker")))
    world.kernel.living("worker")[-1].signal(signal.SIGSTOP)
    world.come_to_rest()


def test_a_target_is_not_drained_in_a_worker_that_follows_one_which_was_stopped(
    world: World,
) -> None:
    """What the stopped one had said of it counted, and that it was over was not heard."""
    world.deploy("ant")
    world.come_to_rest()
    (box,) = world.docker.boxes.values()
    world.disturb()
    world.ask_edge("/drain", target=f"{box.address}:{box.port}", timeout=1.0, tunnel_timeout=1.0)
    world.run(3.0)
    world.kernel.living("worker")[-1].signal(signal.SIGSTOP)
    world.ask_edge("/undrain", target=f"{box.address}:{box.port}")
    world.run(20.0)
    world.come_to_rest()
    assert world.settled == {"ant"}


def test_a_drain_that_is_undone_is_not_repeated_in_a_worker_that_follows(world: World) -> None:
    """It went on for the sake of a stopped worker, and reached the one in its place."""
    world.deploy("ant")
    world.come_to_rest()
    (box,) = world.docker.boxes.values()
    world.disturb()
    world.kernel.living("worker")[-1].signal(signal.SIGSTOP)
    world.ask_edge("/drain", target=f"{box.address}:{box.port}", timeout=1.0, tunnel_timeout=1.0)
    world.run(1.0)
    world.ask_edge("/undrain", target=f"{box.address}:{box.port}")
    world.run(20.0)
    world.come_to_rest()
    assert world.settled == {"ant"}


def test_an_edge_that_serves_an_older_table_does_not_drain_what_that_leads_to(
    world: World,
) -> None:
    """It was down at the switch, and the database was lost before it came back."""
    world.deploy("ant")
    world.come_to_rest()
    (old,) = world.docker.boxes.values()
    world.respawns = False
    (edge,) = world.kernel.living("edge")
    edge.signal(signal.SIGKILL)
    world.deploy("ant")
    routes = RouteWriter(world.db)
    await_(world, lambda: routes.targets(["ant.local"])["ant.local"] != f"{old.address}:{old.port}")
    world.lose_database("empty")
    world.respawns = True
    world.start_edge()
    world.run(30.0)
    assert world.settled == {"ant"}


@pytest.mark.parametrize("world", [2, 3], indirect=True)
def test_the_host_of_an_app_that_is_removed_while_a_deploy_of_it_is_asked_for_answers_503(
    world: World,
) -> None:
    """Both were accepted: the new container was served, and then removed as nobody's: 502."""
    world.deploy("ant")
    world.come_to_rest()
    world.disturb()
    world.deploy("ant")
    world.run(0.0)
    world.remove_app("ant")
    world.come_to_rest()


def test_an_app_whose_route_an_adopted_database_lacks_is_served_with_its_next_deploy(
    world: World,
) -> None:
    """Not before: who was kept from it by the rules of the route that is gone would come in."""
    world.deploy("ant")
    world.come_to_rest()
    world.lose_database("other")
    world.run(1.0)
    world.adopt_database()
    world.come_to_rest()
    assert world.settled == set()
    world.deploy("ant")
    world.run(3.0)
    world.come_to_rest()
    assert world.settled == {"ant"}

"""Owns what must hold of a world that has come to rest: no process, container or network without an
owner, and the right answer everywhere.
"""

from typing import TYPE_CHECKING

from edge.routing.store_writer import RouteWriter
from edge.routing.table import Normalized, RouteTable
from orchestrator.engine.container import LABEL_APP, LABEL_INSTANCE
from tests.model import boundary
from tests.model.names import APPS, HOSTS, WIDER, host_of
from tests.model.programs import WORKERS

if TYPE_CHECKING:
    from tests.model.world import World


class Violation(AssertionError):  # noqa: N818  what the model looks for
    """Something that must hold does not."""


def check_processes(world: "World") -> None:
    living = world.kernel.living()
    edges = [each for each in living if each.program == "edge"]
    workers = [each for each in living if each.program == "worker"]
    others = [each for each in living if each.program == "command"]
    if len(edges) != 1 or len(workers) != WORKERS or others:
        raise Violation(f"processes at rest: {living}")
    if any(worker.parent is not edges[0] for worker in workers):
        raise Violation(f"a worker without its supervisor: {living}")
    for listener in world.kernel.listeners.get(boundary.HTTP, []):
        if not any(process.is_running for process in listener.acceptors):
            raise Violation("a socket that nobody accepts from")


def check_containers(world: "World") -> None:
    if world.queue is None:
        raise Violation("the orchestrator does not run")
    live = world.live()
    for box in world.docker.boxes.values():
        if box.labels.get(LABEL_INSTANCE) == world.instance and box.id not in live.values():
            raise Violation(f"a container without an owner: {box.name} ({box.state})")
    for network in world.docker.networks.values():
        if network.labels.get(LABEL_INSTANCE) == world.instance:
            app = network.labels[LABEL_APP]
            if app not in world.apps() and not _is_used(world, network.name):
                raise Violation(f"a network without an owner: {network.name}")


def _is_used(world: "World", network: str) -> bool:
    """By a stranger's container, which kept it when its app went."""
    return any(box.network == network for box in world.docker.boxes.values())


def check_answers(world: "World") -> None:
    answering = set()
    for app, container in world.live().items():
        if container in world.stopped_by_hand:
            continue
        answers = {world.answer(worker, app) for _, worker in world.serving()}
        if _has_lost_its_route(world, app) and answers <= {"404", WIDER}:
            continue
        if answers != {app}:
            raise Violation(f"at rest, {app} is answered {answers}")
        answering.add(app)
    for app in set(APPS) - world.live().keys():
        for _, worker in world.serving():
            answer = world.answer(worker, app)
            if answer not in ("404", "503", WIDER):
                raise Violation(f"at rest, {app}, which is not live, is answered {answer}")
    for process, worker in world.serving():
        if worker.why_not_ready() is not None:
            raise Violation(f"at rest, {process} is not ready: {worker.why_not_ready()}")
        for host in HOSTS:
            assert worker.state.table is not None
            target = target_of(worker.state.table, host)
            if target != world.routes.final(host):
                raise Violation(f"at rest, {host} leads to {target}")
    world.settled |= answering


def _has_lost_its_route(world: "World", app: str) -> bool:
    """With a database that was given up, and its rules: none is made before the next deploy."""
    ((live,),) = world.read(f"SELECT live_deploy FROM apps WHERE name = '{app}'")
    host = host_of(app)
    return bool(live <= world.given_up) and RouteWriter(world.db).routes([host])[host] is None


def target_of(table: RouteTable, host: str) -> str | None:
    """Of the host's own route."""
    route = table.match(host, b"/")
    assert not isinstance(route, Normalized)  # the path is clean
    return None if route is None or route.key == WIDER else route.targets[0]

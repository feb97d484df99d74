"""Owns what makes containers and routes agree with the store, in every way that they can differ.

Pure: the reconciler looks, and does what is decided here.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from edge.routing.store_writer import StoredRoute
from orchestrator.deploys.readiness import exit_code_hint
from orchestrator.deploys.stops import End
from orchestrator.engine.container import Container
from orchestrator.model import App, Deploy

# States of a container that the engine, or whoever paused it, brings to an end by itself.
_TRANSIENT: Final = ("restarting", "paused", "removing")
NEVER_LIVE: Final = "no deploy of the app has gone live"


@dataclass(frozen=True, slots=True)
class AppState:
    """The state of one app whose routes no deploy is switching."""

    app: App
    live: Deploy | None
    own_targets: Collection[str]  # targets that its deploys ever had
    end: End = End.DIED  # of its container, if that does not run
    start_error: str = ""  # why it could not be started again
    starting: str = ""  # why its container, which runs, is not to be served yet


@dataclass(slots=True)
class Plan:
    """The changes that make containers and routes right."""

    remove: list[Container] = field(default_factory=list)
    targets: dict[str, str] = field(default_factory=dict)  # of routes, by domain
    suspended: dict[str, str] = field(default_factory=dict)  # routes by domain; why
    start: list[tuple[Deploy, Container]] = field(default_factory=list)
    create: list[Deploy] = field(default_factory=list)  # whose container is gone
    down: dict[str, str] = field(default_factory=dict)  # apps; why, empty: they run again


def live_container(live: Deploy, containers: Sequence[Container]) -> Container | None:
    """That of a live deploy; also one that was made anew, and whose id was not noted any more."""
    own = [each for each in containers if each.app == live.app and each.deploy == live.id]
    return next((each for each in own if each.id == live.container_id), own[0] if own else None)


def plan(
    states: Sequence[AppState],
    deploying: Collection[str],
    containers: Sequence[Container],
    routes: Mapping[str, StoredRoute | None],
    boot: str,
) -> Plan:
    """What makes containers and routes agree with what is live.

    Containers of apps at work are not removed, and nothing is done about apps that `states` says
    nothing of. `boot` is that of the machine: a route of another one is confirmed.
    """
    changes = Plan()
    live = {each.app.name: each.live for each in states}
    for container in containers:
        if container.app in deploying:
            continue
        counts = live.get(container.app)
        if counts is None or container is not live_container(counts, containers):
            changes.remove.append(container)
    for each in states:
        if each.live is None:
            _never_live(each, routes, changes)
            continue
        found = live_container(each.live, containers)
        domains = own_domains(each.app, each.live, each.own_targets, routes)
        target = found.target if found is not None and found.is_running else None
        if target is not None and not each.starting:
            for domain in domains:
                if routes[domain] != StoredRoute(target, boot, ""):
                    changes.targets[domain] = target
            reason = ""
        else:
            reason = why_down(found, each.end) if target is None else each.starting
            if each.start_error:
                reason += f"; {each.start_error}"
            for domain in domains:
                route = routes[domain]
                if route is not None and route.unavailable != reason:
                    changes.suspended[domain] = reason
            if each.end is End.DIED:
                _revive(each.live, found, changes)
        if reason != each.app.down:
            changes.down[each.app.name] = reason
    return changes


def own_domains(
    app: App,
    live: Deploy | None,
    own_targets: Collection[str],
    routes: Mapping[str, StoredRoute | None],
) -> list[str]:
    """The domains of an app whose routes are its own.

    Others are an operator's, and one that was asked for since still is whose it was: its deploy
    runs, or has failed.
    """
    lived = live.domains if live else ()
    return [
        domain
        for domain in app.domains
        if (route := routes.get(domain)) is not None
        and (domain in lived or route.target in own_targets)
    ]


def _never_live(each: AppState, routes: Mapping[str, StoredRoute | None], changes: Plan) -> None:
    for domain in own_domains(each.app, None, each.own_targets, routes):
        route = routes[domain]
        if route is not None and not route.unavailable:
            changes.suspended[domain] = NEVER_LIVE


def _revive(live: Deploy, found: Container | None, changes: Plan) -> None:
    if found is None:
        changes.create.append(live)
    elif not found.is_running and found.state not in _TRANSIENT:
        changes.start.append((live, found))


def why_down(found: Container | None, end: End) -> str:
    """Why an app does not answer, to the operator."""
    if end is End.STOPPED:
        return "stopped on purpose: `docker start` its container, or deploy the app again"
    if found is None:
        return "container is gone"
    if found.is_running:
        return "container was taken out of the network of its app"
    if found.state in ("exited", "restarting", "dead"):
        hint = exit_code_hint(found)
        return f"container exited with code {found.exit_code}{hint}"
    return f"container is {found.state}"

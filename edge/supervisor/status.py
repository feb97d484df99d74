"""Owns what is shown of the edge: readiness, workers, routes and their targets."""

import asyncio
import os
from pathlib import Path

from edge.boot import boot_id
from edge.control.channel import Message
from edge.routing.explain import explain, parse_url
from edge.routing.snapshot_file import SnapshotFile
from edge.routing.store_reader import Loaded, RouteReader
from edge.routing.table import Candidate
from edge.supervisor.fleet import Fleet


class Status:
    """Of `fleet`, and of the routes in the database `db`."""

    def __init__(self, fleet: Fleet, db: Path) -> None:
        self._fleet = fleet
        self._db = db

    def why_not_ready(self) -> str | None:
        """None if every worker serves a table, else the reason."""
        if self._fleet.stopping:
            return "draining"
        for slot in self._fleet.slots:
            if slot.why_not_ready is not None:
                return f"worker {slot.number}: {slot.why_not_ready}"
        return None

    def describe_workers(self) -> Message:
        """What `/workers` says."""
        return {
            "pid": os.getpid(),
            "workers": [
                {
                    "worker": slot.number,
                    "pid": slot.pid,
                    "state": slot.state.value,
                    "version": slot.version,
                    "codec": slot.codec,
                    "conversation": slot.conversation,
                    "why_pure": slot.why_pure,
                    "restarts": slot.restarts,
                    "connections": slot.metrics.connections_open,
                    "tunnels": slot.metrics.tunnels_open,
                    "descriptors": slot.metrics.descriptors_used,
                    "descriptors_limit": slot.metrics.descriptors_limit,
                    "problem": slot.why_not_ready or slot.problem,
                }
                for slot in self._fleet.slots
            ],
        }

    async def describe_routes(self) -> Message:
        """What `/routes` says: the routes of the database, and how their targets are."""
        loaded = await asyncio.to_thread(self._load_routes)
        states = await self._fleet.target_states()
        return {
            "version": loaded.table.version,
            "served_version": min((slot.version for slot in self._fleet.slots), default=0),
            "routes": [
                {
                    "route": each.key,
                    "targets": [states.get(target, {"target": target}) for target in each.targets],
                    "weights": each.weights,
                    "options": each.options.public(),
                    "unavailable": each.why_unavailable(boot_id()) or None,
                }
                for each in loaded.table
            ],
            "problems": loaded.problems,
        }

    async def explain(self, url: str) -> Message:
        """What `/explain` says of `url`. Raises RouteError, StoreError."""
        host, path = parse_url(url)
        loaded = await asyncio.to_thread(self._load_routes)
        found = explain(loaded.table, host, path)
        states = await self._fleet.target_states()

        def described(candidate: Candidate) -> Message:
            return {"route": candidate.route.key, "reason": candidate.reason}

        answer: Message = {"url": url, "version": found.version, "route": None}
        answer["refused"] = found.refused or None
        if found.chosen is None:
            answer |= {"targets": [], "requests": 0}
        else:
            route = found.chosen.route
            answer |= described(found.chosen)
            answer["upstream_target"] = found.target.decode("latin-1")
            answer["options"] = route.options.public()
            answer["unavailable"] = route.why_unavailable(boot_id()) or None
            answer["targets"] = [states.get(target, {"target": target}) for target in route.targets]
            answer["requests"] = await self._answered(route.key)
        return answer | {"others": [described(other) for other in found.others]}

    async def _answered(self, key: str) -> int:
        """The requests that a route has answered since the edge was started."""
        counters = (await self._fleet.total_metrics()).routes.get(key)
        return sum(counters.requests) if counters else 0

    def _load_routes(self) -> Loaded:
        loaded = RouteReader(self._db).poll(expected_id=SnapshotFile(self._db).database_id)
        assert loaded is not None  # noqa: S101  the first look of a reader is always news
        return loaded

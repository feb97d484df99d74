"""Whose a subnet or a port is, and when it is another app's."""

from pathlib import Path

from edge.routing.store_writer import RouteWriter
from orchestrator.store.leases import REST, Lease, longest_unused
from orchestrator.store.store import Store
from tests.orchestrator.store.opened import in_store


def free(resource: str) -> bool:
    return True


class TestChoice:
    def test_is_what_was_never_lent_first(self) -> None:
        known = {"1": Lease("", 0.0), "2": Lease("app", 0.0)}
        assert longest_unused("123", known, 2 * REST, free) == "3"

    def test_is_then_what_was_released_first(self) -> None:
        known = {"1": Lease("", 20.0), "2": Lease("", 10.0), "3": Lease("app", 0.0)}
        assert longest_unused("123", known, 2 * REST, free) == "2"
        assert longest_unused("123", known, 2 * REST, lambda one: one != "2") == "1"

    def test_is_nothing_that_was_released_just_now(self) -> None:
        known = {"1": Lease("", 100.0)}
        assert longest_unused("1", known, 99.0 + REST, free) is None
        assert longest_unused("1", known, 100.0 + REST, free) == "1"

    def test_is_nothing_that_is_in_use(self) -> None:
        assert longest_unused("12", {}, 0.0, lambda one: False) is None


class TestLeases:
    def test_are_one_apps_until_it_is_gone_and_rest_then(self, db: Path) -> None:
        async def use(store: Store) -> None:
            assert await store.leases.take("a", "12", free) == "1"
            assert await store.leases.take("b", "12", free) == "2"
            assert await store.leases.take("c", "12", free) is None
            assert (await store.leases.held("a"), await store.leases.holders()) == (
                ["1"],
                {"a", "b"},
            )
            await store.leases.release("a")
            assert await store.leases.holders() == {"b"}
            assert await store.leases.take("c", "12", free) is None

        async def after_a_restart(store: Store) -> None:
            assert await store.leases.held("b") == ["2"]
            await store.leases.take("b", "3", free)
            await store.leases.release("b", "2")
            assert await store.leases.held("b") == ["3"]

        in_store(db, use)
        in_store(db, after_a_restart)

    def test_know_what_routes_point_to(self, db: Path) -> None:
        async def use(store: Store) -> None:
            assert await store.leases.routed_hosts() == set()
            RouteWriter(db).set("a.test", "127.0.0.1:9,127.0.0.1:10")
            assert await store.leases.routed_hosts() == {"127.0.0.1:9", "127.0.0.1:10"}

        in_store(db, use)

"""Which delivery was the first, and what was decided about it."""

from pathlib import Path

from orchestrator.store.store import Store
from tests.orchestrator.store.opened import in_store, request


class TestDeliveries:
    def test_the_same_id_again_is_the_first_delivery(self, db: Path) -> None:
        async def use(store: Store) -> None:
            first, is_new = await store.deliveries.add("github", "d1", "push", {"host": "h"}, b"{}")
            assert is_new
            await store.deliveries.set_decision(first.id, "ignored", "another branch", 202)
            again, is_new = await store.deliveries.add("github", "d1", "push", {}, b"other")
            assert not is_new
            assert (again.id, again.body, again.reason) == (first.id, b"{}", "another branch")
            _, is_new = await store.deliveries.add("gitlab", "d1", "push", {}, b"{}")
            assert is_new

        in_store(db, use)

    def test_the_newest_come_first_a_page_at_a_time(self, db: Path) -> None:
        async def use(store: Store) -> None:
            for number in range(5):
                await store.deliveries.add("github", str(number), "push", {}, b"")
            newest = await store.deliveries.page(limit=2)
            assert [each.delivery_id for each in newest] == ["4", "3"]
            older = await store.deliveries.page(limit=2, before=newest[-1].id)
            assert [each.delivery_id for each in older] == ["2", "1"]

        in_store(db, use)

    def test_a_deploy_is_noted_with_its_delivery_in_one_transaction(self, db: Path) -> None:
        async def use(store: Store) -> None:
            delivery, _ = await store.deliveries.add("github", "d1", "push", {}, b"{}")
            deploy = await store.deploys.add(request(delivery=delivery.id), "/")
            found = await store.deliveries.get(delivery.id)
            assert found is not None
            assert found.deploy == deploy.id

        in_store(db, use)

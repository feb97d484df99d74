"""Which app reaches which other one, and for how long."""

from pathlib import Path

import pytest

from orchestrator.errors import RefusedError
from orchestrator.model import Link
from orchestrator.store.store import Store
from tests.orchestrator.store.opened import in_store, request


def test_links_stay_until_they_are_removed(db: Path) -> None:
    async def use(store: Store) -> None:
        for app in ("web", "api", "db"):
            await store.deploys.add(request(app), "/")
        for link in (Link("web", "api"), Link("api", "db"), Link("web", "api"), Link("api", "web")):
            await store.links.add(link)
        assert not await store.links.remove(Link("db", "api"))
        assert await store.links.remove(Link("api", "web"))

    async def use_again(store: Store) -> None:
        assert await store.links.all() == [Link("api", "db"), Link("web", "api")]

    in_store(db, use)
    in_store(db, use_again)


def test_a_link_needs_both_apps(db: Path) -> None:
    async def use(store: Store) -> None:
        await store.deploys.add(request("web"), "/")
        for link in (Link("web", "api"), Link("api", "web")):
            with pytest.raises(RefusedError, match="no such app: api") as refused:
                await store.links.add(link)
            assert refused.value.status == 404
        assert await store.links.all() == []

    in_store(db, use)


def test_the_links_of_an_app_that_goes_go_in_both_directions(db: Path) -> None:
    async def use(store: Store) -> None:
        for app in ("web", "api", "db"):
            await store.deploys.add(request(app), "/")
        for link in (Link("web", "api"), Link("api", "db"), Link("db", "web")):
            await store.links.add(link)
        await store.links.remove_app("api")
        assert await store.links.all() == [Link("db", "web")]

    in_store(db, use)


def test_a_link_is_told_from_an_app_by_its_name() -> None:
    assert Link("web", "api").holder == "web_api"
    assert Link.is_holder("web_api")
    assert not Link.is_holder("web-api")

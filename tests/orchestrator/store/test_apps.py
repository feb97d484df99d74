"""Which app is of which repository, and who owns a domain."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge.errors import StoreError
from edge.routing.store_writer import RouteWriter
from orchestrator.errors import RefusedError
from orchestrator.store.store import Store
from tests.orchestrator.store.opened import in_store, request


class TestOwnership:
    """security.md 5: one owner for each domain."""

    def test_a_first_deploy_without_a_domain_takes_the_local_one(self, db: Path) -> None:
        async def use(store: Store) -> None:
            assert (await store.deploys.add(request(), "/")).domains == ["app.local"]
            # And the ones that it has from then on.
            assert (await store.deploys.add(request(), "/")).domains == ["app.local"]

        in_store(db, use)

    def test_an_app_may_have_several_domains(self, db: Path) -> None:
        async def use(store: Store) -> None:
            await store.deploys.add(request(domain="b.test"), "/")
            assert (await store.deploys.add(request(domain="a.test"), "/")).domains == [
                "a.test",
                "b.test",
            ]

        in_store(db, use)

    def test_the_domain_of_another_app_is_refused_also_to_an_operator(self, db: Path) -> None:
        async def use(store: Store) -> None:
            await store.deploys.add(request(domain="a.test"), "/")
            for operator in (False, True):
                with pytest.raises(RefusedError, match=r"a\.test belongs to app app") as caught:
                    await store.deploys.add(
                        request("thief", domain="a.test", operator=operator), "/"
                    )
                assert caught.value.status == 409
            assert await store.apps.get("thief") is None

        in_store(db, use)

    def test_a_released_domain_is_taken_only_on_purpose(self, db: Path) -> None:
        async def use(store: Store) -> None:
            await store.deploys.add(request(domain="a.test"), "/")
            await store.apps.remove("app")
            with pytest.raises(RefusedError, match="claim it with"):
                await store.deploys.add(request("next", domain="a.test"), "/")
            taken = await store.deploys.add(request("next", domain="a.test", operator=True), "/")
            assert taken.domains == ["a.test"]
            owner = await store.apps.get("next")
            assert owner is not None
            assert owner.domains == ["a.test"]

        in_store(db, use)

    def test_a_route_that_an_operator_made_is_taken_only_on_purpose(self, db: Path) -> None:
        RouteWriter(db).set("hand.test", "127.0.0.1:9")

        async def use(store: Store) -> None:
            with pytest.raises(RefusedError, match="no app created"):
                await store.deploys.add(request(domain="hand.test"), "/")
            taken = await store.deploys.add(request(domain="hand.test", operator=True), "/")
            assert taken.domains == ["hand.test"]

        in_store(db, use)

    @pytest.mark.parametrize(
        ("route", "domain"),
        [
            ("hand.test/admin", "hand.test"),
            ("Hand.Test./admin", "hand.test"),
            ("*.test", "hand.test"),
            ("*.Test.", "a.hand.test"),
            ("*.hand.test/x", "a.hand.test"),
            ("*", "hand.test"),
            ("*/x", "hand.test"),
            ("*.local", ""),
        ],
    )
    def test_so_is_what_a_wider_or_narrower_route_of_an_operator_serves(
        self, db: Path, route: str, domain: str
    ) -> None:
        """security.md, Medium 6."""
        RouteWriter(db).set("other.test", "127.0.0.1:9")
        with closing(sqlite3.connect(db)) as connection, connection:
            connection.execute("UPDATE proxy_routes SET domain = ?", (route,))

        async def use(store: Store) -> None:
            with pytest.raises(RefusedError, match="no app created") as caught:
                await store.deploys.add(request(domain=domain), "/")
            assert (caught.value.status, route in str(caught.value)) == (409, True)
            wanted = domain or "app.local"
            taken = await store.deploys.add(request(domain=wanted, operator=True), "/")
            assert taken.domains == [wanted]

        in_store(db, use)

    @pytest.mark.parametrize(
        ("route", "domain"),
        [
            ("hand.test", "a.hand.test"),
            ("*.hand.test", "hand.test"),
            ("*.hand.test", "xhand.test"),
            ("and.test/x", "hand.test"),
            # What nobody else has is for apps that ask for nothing.
            ("*", ""),
        ],
    )
    def test_a_route_that_is_beside_it_is_in_nobodys_way(
        self, db: Path, route: str, domain: str
    ) -> None:
        RouteWriter(db).set(route, "127.0.0.1:9")

        async def use(store: Store) -> None:
            added = await store.deploys.add(request(domain=domain), "/")
            assert added.domains == [domain or "app.local"]

        in_store(db, use)

    def test_where_the_routes_cannot_be_read_nothing_is_given_away(self, db: Path) -> None:
        async def use(store: Store) -> None:
            db.with_suffix(".last-good").write_bytes(b"what an edge has served")
            with pytest.raises(StoreError, match="but routes were served from it"):
                await store.deploys.add(request(domain="hand.test"), "/")
            assert await store.apps.all() == []
            assert await store.deploys.page() == []

        in_store(db, use)

    def test_a_name_of_this_machine_is_taken_only_on_purpose(self, db: Path) -> None:
        """RFC 6761 section 6.3."""

        async def use(store: Store) -> None:
            with pytest.raises(RefusedError, match="a name of this machine"):
                await store.deploys.add(request(domain="foo.localhost"), "/")
            taken = await store.deploys.add(request(domain="foo.localhost", operator=True), "/")
            assert taken.domains == ["foo.localhost"]

        in_store(db, use)

    def test_another_repository_of_the_same_name_is_refused(self, db: Path) -> None:
        async def use(store: Store) -> None:
            await store.deploys.add(request(), "/")
            other = request(repository="evil/app", clone_url="https://git.test/evil/app.git")
            with pytest.raises(RefusedError, match="deployed from team/app") as caught:
                await store.deploys.add(other, "/")
            assert caught.value.status == 409

        in_store(db, use)

    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.test/team/app.git",
            "ssh://git@evil.test/team/app.git",
            "git@evil.test:team/app.git",
            "https://evil.test:443/git.test/team/app.git",
            "file:///git.test/team/app.git",
        ],
    )
    def test_one_of_the_same_owner_and_name_elsewhere_is_another(self, db: Path, url: str) -> None:
        async def use(store: Store) -> None:
            await store.deploys.add(request(), "/")
            with pytest.raises(RefusedError, match="not from team/app"):
                await store.deploys.add(request(provider="gitlab", clone_url=url), "/")
            # Of the same server, whichever way it is cloned.
            for same in ("git@git.test:team/app.git", "ssh://git@GIT.test:22/team/app"):
                await store.deploys.add(request(clone_url=same), "/")

        in_store(db, use)

    def test_an_operators_deploy_and_the_webhook_mean_the_same_repository(self, db: Path) -> None:
        async def use(store: Store) -> None:
            url = "https://git.test/team/app"
            await store.deploys.add(
                request(provider="cli", repository=url, clone_url=url, operator=True), "/"
            )
            await store.deploys.add(request(), "/")  # ... /app.git
            await store.deploys.add(
                request(provider="cli", repository=url, clone_url=url, operator=True), "/"
            )
            app = await store.apps.get("app")
            assert app is not None
            assert app.repository == "team/app"

        in_store(db, use)

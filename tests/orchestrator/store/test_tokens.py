"""Proves the rows of the tokens."""

import asyncio
import time
from pathlib import Path

import pytest

from edge.api.permission import Scope
from edge.api.token_form import make_token
from orchestrator.errors import RefusedError
from orchestrator.store.store import Store


def test_a_token_grants_what_it_was_made_for_until_it_is_revoked(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await Store.open(tmp_path / "f.db", tmp_path / "r.db")
        token = make_token()
        await store.tokens.add("ci", token, {Scope.DEPLOY, Scope.READ}, {"hello", "other"}, None)
        grant = await store.tokens.find(token)
        assert grant is not None
        assert grant.scopes == {Scope.DEPLOY, Scope.READ}
        assert grant.apps == {"hello", "other"}
        assert not grant.is_operator
        assert await store.tokens.find(make_token()) is None
        assert await store.tokens.find("") is None
        assert await store.tokens.remove("ci")
        assert not await store.tokens.remove("ci")
        assert await store.tokens.find(token) is None
        assert await store.tokens.all() == []
        await store.close()

    asyncio.run(scenario())


def test_only_its_hash_is_in_the_database(tmp_path: Path) -> None:
    async def scenario() -> str:
        store = await Store.open(tmp_path / "f.db", tmp_path / "r.db")
        token = make_token()
        await store.tokens.add("ci", token, {Scope.READ}, (), None)
        await store.tokens.find(token)
        await store.close()
        return token

    token = asyncio.run(scenario()).encode()
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert token not in content
        assert token[3:30] not in content


def test_one_that_has_expired_grants_nothing_and_is_still_listed(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await Store.open(tmp_path / "f.db", tmp_path / "r.db")
        old, new = make_token(), make_token()
        await store.tokens.add("old", old, {Scope.READ}, (), time.time() - 1)
        await store.tokens.add("new", new, {Scope.READ}, (), time.time() + 3600)
        assert await store.tokens.find(old) is None
        assert await store.tokens.find(new) is not None
        listed = await store.tokens.all()
        assert [(each.name, each.used_at is None) for each in listed] == [
            *(("new", False), ("old", True))
        ]
        await store.close()

    asyncio.run(scenario())


def test_its_last_use_is_noted_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = await Store.open(tmp_path / "f.db", tmp_path / "r.db")
        token = make_token()
        await store.tokens.add("ci", token, {Scope.READ}, (), None)
        seen = []
        for now in (1000.0, 1059.0, 1060.0, 500.0):
            monkeypatch.setattr("time.time", lambda now=now: now)
            await store.tokens.find(token)
            (listed,) = await store.tokens.all()
            seen.append(listed.used_at)
        assert seen == [1000.0, 1000.0, 1060.0, 500.0]
        await store.close()

    asyncio.run(scenario())


def test_a_name_is_there_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await Store.open(tmp_path / "f.db", tmp_path / "r.db")
        await store.tokens.add("ci", make_token(), {Scope.READ}, (), None)
        with pytest.raises(RefusedError, match="revoke it first"):
            await store.tokens.add("ci", make_token(), {Scope.ADMIN}, (), None)
        (listed,) = await store.tokens.all()
        assert listed.scopes == (Scope.READ,)
        await store.close()

    asyncio.run(scenario())

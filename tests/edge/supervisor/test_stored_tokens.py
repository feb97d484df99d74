"""The named tokens beside the routes: what the edge takes, also where it cannot read."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge.api.permission import Grant, Scope
from edge.api.token_form import hash_of, make_token
from edge.routing.store_reader import RouteReader
from edge.routing.store_writer import RouteWriter
from edge.routing.token_store import StoredToken
from edge.supervisor.stored_tokens import StoredTokens

TOKEN = make_token()
READERS = frozenset({Scope.METRICS, Scope.READ})


def stored(
    token: str = TOKEN,
    *,
    name: str = "prometheus",
    scopes: str = "metrics read",
    apps: str = "",
    expires_at: float | None = None,
) -> StoredToken:
    return StoredToken(hash_of(token), name, scopes, apps, expires_at)


def find(tokens: StoredTokens, token: str = TOKEN) -> Grant | None:
    return asyncio.run(tokens.find(token))


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "fairlead.db"


@pytest.fixture
def routes(db: Path) -> RouteWriter:
    writer = RouteWriter(db)
    writer.set("app.test", "a:1")
    return writer


def test_a_token_grants_what_is_stored_of_it(db: Path, routes: RouteWriter) -> None:
    routes.replace_tokens([stored(), stored(make_token(), name="other", apps="shop blog")])
    assert find(StoredTokens(db)) == Grant("token prometheus", READERS)


def test_a_token_of_some_apps_stays_limited_to_them(db: Path, routes: RouteWriter) -> None:
    routes.replace_tokens([stored(apps="shop blog")])
    grant = find(StoredTokens(db))
    assert grant is not None
    assert grant.apps == {"shop", "blog"}


def test_what_is_not_stored_any_more_grants_nothing(db: Path, routes: RouteWriter) -> None:
    tokens = StoredTokens(db)
    routes.replace_tokens([stored()])
    assert find(tokens) is not None
    routes.replace_tokens([])
    assert find(tokens) is None


@pytest.mark.parametrize("age", [0.0, 10.0])
def test_an_expired_one_grants_nothing(db: Path, routes: RouteWriter, age: float) -> None:
    routes.replace_tokens([stored(expires_at=time.time() - age)])
    assert find(StoredTokens(db)) is None


def test_one_that_expires_later_counts(db: Path, routes: RouteWriter) -> None:
    routes.replace_tokens([stored(expires_at=time.time() + 60)])
    assert find(StoredTokens(db)) is not None


@pytest.mark.parametrize(
    "token",
    ["", "fl_", TOKEN[:-1], TOKEN + "0", "x" * 512],
    ids=["empty", "prefix", "short", "long", "other"],
)
def test_what_has_not_the_form_of_a_token_is_not_looked_up(tmp_path: Path, token: str) -> None:
    assert find(StoredTokens(tmp_path / "a folder that is not there" / "db"), token) is None


def test_a_scope_of_a_newer_version_makes_that_token_void_and_is_said(
    db: Path, routes: RouteWriter, caplog: pytest.LogCaptureFixture
) -> None:
    routes.replace_tokens([stored(scopes="read fly")])
    assert find(StoredTokens(db)) is None
    assert "token prometheus is not taken" in caplog.text


@pytest.mark.parametrize(
    "row",
    [
        (hash_of(TOKEN), b"prometheus", 7, 7.5, "soon"),
        (hash_of(TOKEN), None, "read", "", None),
        (None, "prometheus", "read", "", None),
        (hash_of(TOKEN), "prometheus", None, "", 1e18),
    ],
    ids=["other types", "no name", "no hash", "no scopes"],
)
def test_what_another_program_has_written_grants_nothing_and_breaks_nothing(
    db: Path, routes: RouteWriter, row: tuple[object, ...]
) -> None:
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("CREATE TABLE proxy_tokens (hash, name, scopes, apps, expires_at)")
        connection.execute("INSERT INTO proxy_tokens VALUES (?, ?, ?, ?, ?)", row)
        connection.commit()
    assert find(StoredTokens(db)) is None


def delete(db: Path) -> None:
    db.unlink()


def overwrite(db: Path) -> None:
    db.write_bytes(b"this is no database" * 1000)


@pytest.mark.parametrize("break_it", [delete, overwrite])
def test_where_the_database_is_gone_the_tokens_of_the_last_time_count(
    db: Path,
    routes: RouteWriter,
    caplog: pytest.LogCaptureFixture,
    break_it: Callable[[Path], None],
) -> None:
    tokens = StoredTokens(db)
    routes.replace_tokens([stored()])
    assert find(tokens) is not None
    break_it(db)
    for _ in range(3):
        assert find(tokens) == Grant("token prometheus", READERS)
    assert caplog.text.count("tokens are as they were read last") == 1, "said once"
    assert find(tokens, make_token()) is None


def test_a_database_that_never_had_tokens_has_none_and_stays_as_it_is(
    db: Path, routes: RouteWriter
) -> None:
    before = db.read_bytes()
    routes.replace_tokens([])
    assert find(StoredTokens(db)) is None
    assert db.read_bytes() == before


def test_where_there_is_no_database_none_is_made(tmp_path: Path) -> None:
    RouteWriter(tmp_path / "db").replace_tokens([stored()])
    assert not (tmp_path / "db").exists()


def test_the_routes_and_their_version_stay(db: Path, routes: RouteWriter) -> None:
    reader = RouteReader(db)
    assert reader.poll() is not None
    routes.replace_tokens([stored()])
    assert reader.poll() is None, "no worker is asked to take a table"


def test_the_same_tokens_are_not_written_again(db: Path, routes: RouteWriter) -> None:
    routes.replace_tokens([stored()])
    with closing(sqlite3.connect(db)) as holder:
        holder.execute("BEGIN IMMEDIATE")  # a change would wait for it, and fail
        routes.replace_tokens([stored()])

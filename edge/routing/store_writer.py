"""Owns changing the routes on disk, which commands and the orchestrator do."""

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from edge.errors import RouteError, StoreError, quote
from edge.routing.change import OF_TARGETS, Change, changed
from edge.routing.opening import begin_reading, begin_writing, checkpoint
from edge.routing.options import check_options
from edge.routing.route import Route, parse_key, parse_route
from edge.routing.shared_file import is_there, make_file
from edge.routing.snapshot_file import SnapshotFile
from edge.routing.store import (
    HAS_ROUTES,
    database_id,
    has_options_column,
    make_identity,
    make_tables,
    missing,
    other_database,
    store_error,
    without_tables,
)
from edge.routing.table_builder import winner
from edge.routing.token_store import StoredToken, read_tokens, replace_tokens

WRITE_TIMEOUT: Final = 5.0  # seconds that a change waits for its turn
_NEXT_VERSION: Final = (
    "INSERT INTO proxy_meta (key, value) VALUES ('routes_version', 1)"
    " ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value"
)

# An operator's route has no boot to be confirmed in.
_MANAGED: Final = (
    "SELECT CAST(domain AS TEXT) FROM proxy_routes"
    " WHERE CASE WHEN json_valid(options) THEN json_extract(options, '$.boot') END IS NOT NULL"
    " ORDER BY domain LIMIT 1"
)


class _Row(NamedTuple):
    """What is stored of one route."""

    domain: str
    target: str
    options: str | None


class StoredRoute(NamedTuple):
    """What the orchestrator reads of a route; `boot` and `unavailable` are empty if not set."""

    target: str
    boot: str
    unavailable: str


class InvalidRowsError(RouteError):
    """Rows whose rules cannot be kept, for they are not valid; `rows` says why, by domain."""

    def __init__(self, rows: Mapping[str, str]) -> None:
        super().__init__("; ".join(rows.values()))
        self.rows = rows


Judge = Callable[[Change], None]


def _agree(_change: Change) -> None:
    """To whatever is asked for."""


class RouteWriter:
    """Changes routes. Every change is one transaction of its own, and counts the version up.

    Where routes were served (`SnapshotFile`), only the database that had them is changed: neither
    another one, nor one that would be made anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last_good = SnapshotFile(path)

    def set(
        self,
        domain: str,
        target: str,
        options: Mapping[str, object] | None = None,
        judge: Judge = _agree,
    ) -> int:
        """Insert or replace a route; returns the new version. Makes the database if there is none.

        `target` is `host:port`, several with commas between; `options` as of
        `RouteOptions.non_default`. `judge` is shown the change before it is made, while nobody can
        make another one, and raises RouteError if it must not be.
        Raises RouteError (nothing was changed) or StoreError.
        """
        text = orjson.dumps(options).decode() if options else None
        route = parse_route(domain, target, text)
        with self._transaction(makes=True) as connection:
            make_tables(connection)
            judge(_change_to(route, _served_row(connection, route.key)))
            _upsert(connection, {route.key: route})
            return _bump_version(connection)

    def change(
        self,
        domain: str,
        options: Mapping[str, object],
        targets: str | None = None,
        judge: Judge = _agree,
    ) -> int:
        """Change some options of a route that exists and leave the rest; returns the new version.

        None brings an option back to its default. With `targets` it leads there, and loses what was
        said of the old ones (`change.OF_TARGETS`). Of a route that is stored in several spellings
        it is the row that is served. `judge` as of `set`.
        Raises RouteError (nothing was changed) or StoreError.
        """
        with self._transaction() as connection:
            row = _served_row(connection, domain)
            if row is None:
                raise RouteError(
                    f"there is no route {quote(domain)}: create it with `fairlead route set`"
                )
            old = parse_route(*row)
            new = changed(old, options, targets)
            judge(Change(old, new))
            _upsert(connection, {row.domain: new})
            return _bump_version(connection)

    def remove(self, domain: str) -> int:
        """Delete a route, in every spelling that it is stored in; returns the new version.

        A row that is not a valid route is deleted by its exact text. Raises RouteError if there is
        no such route, or StoreError.
        """
        with self._transaction() as connection:
            rows = _spellings(connection, [domain])[domain]
            if not rows:
                raise RouteError(f"there is no route {quote(domain)}")
            _delete(connection, rows)
            return _bump_version(connection)

    def targets(self, domains: Iterable[str]) -> dict[str, str | None]:
        """The targets of the routes that are stored under `domains`; None where there is no route.

        Raises as `routes`.
        """
        found = self.routes(domains)
        return {domain: route.target if route else None for domain, route in found.items()}

    def routes(self, domains: Iterable[str]) -> dict[str, StoredRoute | None]:
        """The routes that are stored under `domains`; None where there is none.

        Raises RouteError for what is no domain, or StoreError: also where routes were served, and
        the database is gone or is another one, which says nothing of what is served.
        """
        found: dict[str, StoredRoute | None] = dict.fromkeys(domains)
        with self._snapshot() as connection:
            if connection is not None:
                rows = _served_rows(connection, _spellings(connection, found))
                found |= {domain: _stored(row) for domain, row in rows.items()}
        return found

    def all_targets(self) -> frozenset[str]:
        """What any route points to, as "host:port". Raises StoreError."""
        rows = self._select("SELECT CAST(target AS TEXT) FROM proxy_routes")
        return frozenset(target.strip() for (text,) in rows for target in str(text).split(","))

    def route_of(self, hosts: Sequence[str]) -> str | None:
        """A route, on any path, of one of these hosts; None if there is none. Raises StoreError."""
        marks = ", ".join("?" * len(hosts))
        rows = self._select(
            "SELECT CAST(domain AS TEXT) FROM proxy_routes"  # noqa: S608  marks only
            " WHERE rtrim(lower(substr(domain, 1, instr(domain || '/', '/') - 1)), '.')"
            f" IN ({marks}) ORDER BY domain LIMIT 1",
            *hosts,
        )
        return next((str(row) for (row,) in rows), None)

    def managed_route(self) -> str | None:
        """A route that an orchestrator has pointed to a container, or None. Raises StoreError."""
        with self._snapshot() as connection:
            if connection is None or not has_options_column(connection):
                return None
            row = connection.execute(_MANAGED).fetchone()
        return str(row[0]) if row else None

    def retarget(self, targets: Mapping[str, str], boot: str = "") -> int:
        """Point the routes of some domains elsewhere, all in one change; returns the new version.

        `targets` are by domain, as in `set`. A route keeps its options, but not its weights, which
        name the targets that it had, nor that it was unavailable; where there is none, one is made.
        In another boot of the machine than `boot`, if that is given, the edge answers 503 until the
        routes are pointed again (`Route.why_unavailable`).
        Raises RouteError, InvalidRowsError among them (nothing was changed), or StoreError.
        """
        return self.restore(
            {domain: StoredRoute(target, boot, "") for domain, target in targets.items()}
        )

    def restore(self, routes: Mapping[str, StoredRoute]) -> int:
        """As `retarget`, to what `routes` once said of these domains, and as available as then."""
        with self._transaction(makes=True) as connection:
            make_tables(connection)
            spellings = _spellings(connection, routes)
            rows = _served_rows(connection, spellings)
            restored: dict[str, Route] = {}
            invalid: dict[str, str] = {}
            for domain, wanted in routes.items():
                route = parse_route(domain, wanted.target)
                try:
                    restored[route.key] = _restored(route, wanted, rows.get(domain))
                except RouteError as error:
                    invalid[domain] = str(error)
            if invalid:
                raise InvalidRowsError(invalid)
            found = {row for spelled in spellings.values() for row in spelled}
            _delete(connection, found - restored.keys())
            _upsert(connection, restored)
            return _bump_version(connection)

    def suspend(self, reasons: Mapping[str, str]) -> int:
        """Have the edge answer 503 for the routes of some domains; returns the new version.

        `reasons` are by domain, and shown to operators. A route keeps its targets and options, also
        those that only another version knows, so that no request takes a wider one meanwhile, and
        serves again by `retarget`; a domain without one is left alone, and so is a row that no
        version can read: it is answered 503. Raises RouteError (nothing was changed) or StoreError.
        """
        for reason in reasons.values():
            check_options({"unavailable": reason})
        with self._transaction() as connection:
            suspended: list[tuple[str, int, str]] = []
            now = int(time.time())
            for domain, row in _served_rows(connection, _spellings(connection, reasons)).items():
                try:
                    options = _options_of(row)
                except RouteError:
                    continue
                options["unavailable"] = reasons[domain]
                suspended.append((orjson.dumps(options).decode(), now, row.domain))
            if suspended:
                _add_options_column(connection)
                connection.executemany(
                    "UPDATE proxy_routes SET options = ?, updated_at_unix = ? WHERE domain = ?",
                    suspended,
                )
            return _bump_version(connection)

    def replace_tokens(self, tokens: Collection[StoredToken]) -> bool:
        """Have the edge take these named tokens and no others; whether it does. The routes' version
        stays.

        It does not where there is no database yet: there is nothing to guard, and nothing is made.
        Raises StoreError.
        """
        if not is_there(self._path):
            return False
        with self._snapshot() as connection:
            if connection is not None and read_tokens(connection) == set(tokens):
                return True
        with self._transaction() as connection:
            replace_tokens(connection, tokens)
        return True

    def _select(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        with self._snapshot() as connection:
            return [] if connection is None else connection.execute(sql, values).fetchall()

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection | None]:
        """One state of the database to be read; None where there never were routes."""
        if not is_there(self._path):
            if self._last_good.binds:
                raise missing(self._path)
            yield None
            return
        try:
            with closing(begin_reading(self._path, WRITE_TIMEOUT)) as connection:
                self._check_identity(connection)
                has_routes = connection.execute(HAS_ROUTES).fetchone() is not None
                yield connection if has_routes else None
        except sqlite3.Error as error:
            raise store_error(self._path, error) from error

    @contextmanager
    def _transaction(self, *, makes: bool = False) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, durable when it is left; with `makes`, of a new one if need be."""
        if not self._path.parent.is_dir():
            raise StoreError(f"the folder {self._path.parent} does not exist: create it first")
        if not is_there(self._path) and (not makes or self._last_good.binds):
            raise missing(self._path)
        try:
            if makes:
                make_file(self._path)
            with closing(begin_writing(self._path, WRITE_TIMEOUT)) as connection:
                self._check_identity(connection)
                yield connection
                make_identity(connection)
                connection.execute("COMMIT")
                checkpoint(connection)
        except sqlite3.Error as error:
            raise store_error(self._path, error) from error

    def _check_identity(self, connection: sqlite3.Connection) -> None:
        if not self._last_good.binds:
            return
        if connection.execute(HAS_ROUTES).fetchone() is None:
            raise without_tables(self._path)
        if self._last_good.database_id not in {0, database_id(connection)}:
            raise other_database(self._path)


def _restored(route: Route, wanted: StoredRoute, row: _Row | None) -> Route:
    """`route` as `wanted`, with the options of the row in whose place it comes, if there is one.

    Raises RouteError for a row that is not valid.
    """
    options = _options_of(row) if row else {}
    for name in OF_TARGETS:
        options.pop(name, None)
    options |= {"boot": wanted.boot or None, "unavailable": wanted.unavailable or None}
    try:
        return parse_route(route.key, wanted.target, orjson.dumps(options).decode())
    except RouteError as error:
        raise RouteError(f"the route {quote(route.key)} is not valid: {error}") from None


def _delete(connection: sqlite3.Connection, rows: Iterable[str]) -> None:
    connection.executemany("DELETE FROM proxy_routes WHERE domain = ?", [(row,) for row in rows])


def _upsert(connection: sqlite3.Connection, routes: Mapping[str, Route]) -> None:
    """Insert or replace the rows of routes, which are by the spelling of their domain.

    The column `options` is made when the first route needs it.
    """
    kept = {row: route.options.non_default() for row, route in routes.items()}
    if any(kept.values()):
        _add_options_column(connection)
    names = ["domain", "target", "updated_at_unix"]
    if has_options_column(connection):
        names.append("options")
    now = int(time.time())
    values: list[tuple[object, ...]] = [
        (
            *(row, ",".join(route.targets), now),
            orjson.dumps(kept[row]).decode() if kept[row] else None,
        )[: len(names)]
        for row, route in routes.items()
    ]
    marks = ", ".join("?" * len(names))
    changes = ", ".join(f"{name} = excluded.{name}" for name in names)
    connection.executemany(
        f"INSERT INTO proxy_routes ({', '.join(names)}) VALUES ({marks})"  # noqa: S608  names of ours
        f" ON CONFLICT (domain) DO UPDATE SET {changes}",
        values,
    )


def _add_options_column(connection: sqlite3.Connection) -> None:
    if not has_options_column(connection):
        connection.execute("ALTER TABLE proxy_routes ADD COLUMN options TEXT")


def _options_of(row: _Row) -> dict[str, object]:
    """The options in a row, which may be none of a route. Raises RouteError for what is no JSON."""
    try:
        found = orjson.loads(row.options or "{}")
    except orjson.JSONDecodeError as error:
        raise RouteError(f"the options of {quote(row.domain)} are not JSON: {error}") from None
    if not isinstance(found, dict):
        raise RouteError(f"the options of {quote(row.domain)} are not a JSON object")
    return found


def _stored(row: _Row) -> StoredRoute:
    try:
        options = _options_of(row)
    except RouteError:
        options = {}  # It is not served, so nothing has been said of its targets.
    return StoredRoute(
        row.target, str(options.get("boot") or ""), str(options.get("unavailable") or "")
    )


def _change_to(route: Route, row: _Row | None) -> Change:
    """What replaces a row, if there is one."""
    if row is None:
        return Change(None, route)
    try:
        return Change(parse_route(*row), route)
    except RouteError as error:
        return Change(None, route, str(error))


def _served_row(connection: sqlite3.Connection, domain: str) -> _Row | None:
    """The row of a route; of one that is stored in several spellings, that which is served."""
    return _served_rows(connection, _spellings(connection, [domain])).get(domain)


def _served_rows(
    connection: sqlite3.Connection, spellings: Mapping[str, Sequence[str]]
) -> dict[str, _Row]:
    """As `_served_row`, of `_spellings`, by the domain that was asked for."""
    served: dict[str, str] = {}
    for domain, rows in spellings.items():
        if rows:
            host, prefix = parse_key(domain)
            served[domain] = winner(host + prefix.decode("ascii"), rows)
    options = "CAST(options AS TEXT)" if has_options_column(connection) else "NULL"
    found = connection.execute(
        f"SELECT domain, CAST(target AS TEXT), {options} FROM proxy_routes"  # noqa: S608  names of ours
        " WHERE domain IN (SELECT value FROM json_each(?))",
        (orjson.dumps(list(served.values())).decode(),),
    )
    by_row = {row.domain: row for row in map(_Row._make, found)}
    return {domain: by_row[row] for domain, row in served.items()}


def _bump_version(connection: sqlite3.Connection) -> int:
    # All rows are fetched, or the statement would still run at the commit.
    ((version,),) = connection.execute(_NEXT_VERSION).fetchall()
    return int(version)


def _spellings(connection: sqlite3.Connection, domains: Iterable[str]) -> dict[str, list[str]]:
    """The rows that name each of these routes, however they spell it.

    All in one look through the table: one for each domain would take the square of their number.
    """
    rows: dict[tuple[str, bytes], list[str]] = {}
    found: dict[str, list[str]] = {}
    for domain in domains:
        try:
            key = parse_key(domain)
        except RouteError:
            exact = domain.encode(errors="replace").decode()
            found[domain] = [
                row
                for (row,) in connection.execute(
                    "SELECT domain FROM proxy_routes WHERE domain = ?", (exact,)
                )
            ]
        else:
            found[domain] = rows.setdefault(key, [])
    # In C, all rows that may spell them: case, a trailing dot, the many forms of IPv6.
    likely_keys = [(host + prefix.decode("ascii")).lower() for host, prefix in rows]
    likely = connection.execute(
        "SELECT domain FROM proxy_routes WHERE domain LIKE '[%'"
        " OR rtrim(replace(lower(domain), './', '/'), '.') IN (SELECT value FROM json_each(?))",
        (orjson.dumps(likely_keys).decode(),),
    )
    for (row,) in likely:
        named = _domain_of(row)
        if named in rows:
            rows[named].append(row)
    return found


def _domain_of(row: object) -> tuple[str, bytes] | None:
    try:
        return parse_key(row) if isinstance(row, str) else None
    except RouteError:
        return None

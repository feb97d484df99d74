"""Owns the tables of apps, webhook deliveries, deploys and their steps, in SQLite.

The tables stand beside those of the routes, in one file. Every change is one transaction that is
durable when it returns; all of them go through one connection, one after the other.
"""

import asyncio
import functools
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import aiosqlite
import orjson

from edge.errors import StoreError
from orchestrator.errors import RefusedError
from orchestrator.model import (
    App,
    Delivery,
    Deploy,
    DeployRequest,
    DeployState,
    Step,
    StepRecord,
)

WRITE_TIMEOUT: Final = 5.0  # seconds that a change waits for another process, such as the CLI

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS orchestrator_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS apps (
    name TEXT PRIMARY KEY, repository TEXT NOT NULL, clone_url TEXT NOT NULL,
    branch TEXT NOT NULL, health_path TEXT NOT NULL, created_at REAL NOT NULL,
    live_deploy INTEGER, withdrawn TEXT NOT NULL DEFAULT ''
);
-- An app that is removed leaves its domains behind, without an app: nobody takes them by chance.
CREATE TABLE IF NOT EXISTS app_domains (domain TEXT PRIMARY KEY, app TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, provider TEXT NOT NULL, delivery_id TEXT NOT NULL,
    event TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL, received_at REAL NOT NULL,
    decision TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
    status INTEGER NOT NULL DEFAULT 0, deploy INTEGER, replay_of INTEGER,
    UNIQUE (provider, delivery_id)
);
CREATE TABLE IF NOT EXISTS deploys (
    id INTEGER PRIMARY KEY AUTOINCREMENT, app TEXT NOT NULL, state TEXT NOT NULL, step TEXT,
    provider TEXT NOT NULL, repository TEXT NOT NULL, clone_url TEXT NOT NULL,
    branch TEXT NOT NULL, "commit" TEXT NOT NULL, domains TEXT NOT NULL,
    health_path TEXT NOT NULL, created_at REAL NOT NULL, credentials TEXT NOT NULL,
    allow_file INTEGER NOT NULL, runtime TEXT NOT NULL, image_tag TEXT NOT NULL,
    image_id TEXT NOT NULL, release TEXT NOT NULL, container_id TEXT NOT NULL,
    container_name TEXT NOT NULL, port INTEGER NOT NULL, target TEXT NOT NULL,
    old_container_id TEXT NOT NULL, old_target TEXT NOT NULL, route_version INTEGER,
    started_at REAL, finished_at REAL, error TEXT NOT NULL, error_kind TEXT NOT NULL,
    superseded_by INTEGER, delivery INTEGER, attempts INTEGER NOT NULL, cutover TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS deploys_by_app ON deploys (app, id);
CREATE INDEX IF NOT EXISTS deploys_unfinished ON deploys (state)
    WHERE state IN ('queued', 'running');
CREATE TABLE IF NOT EXISTS deploy_steps (
    deploy INTEGER NOT NULL, step TEXT NOT NULL, state TEXT NOT NULL, started_at REAL NOT NULL,
    finished_at REAL, error TEXT NOT NULL, detail TEXT NOT NULL, PRIMARY KEY (deploy, step)
);
"""
_APP_COLUMNS: Final = tuple(name for name in App.__dataclass_fields__ if name != "domains")
_APP_NAMES: Final = ", ".join(_APP_COLUMNS)
_DEPLOY_COLUMNS: Final = tuple(Deploy.__dataclass_fields__)
_DEPLOY_NAMES: Final = ", ".join(f'"{name}"' for name in _DEPLOY_COLUMNS)
_STEP_COLUMNS: Final = tuple(StepRecord.__dataclass_fields__)
_STEP_NAMES: Final = ", ".join(_STEP_COLUMNS)
_DELIVERY_COLUMNS: Final = tuple(Delivery.__dataclass_fields__)
_DELIVERY_NAMES: Final = ", ".join(_DELIVERY_COLUMNS)


P = ParamSpec("P")
T = TypeVar("T")


def shielded(
    method: Callable[Concatenate["Store", P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Store", P], Coroutine[Any, Any, T]]:
    """A change that goes on to its end although the task that asked for it is cancelled.

    Half of one would leave its transaction open, and all later ones would be part of it.
    """

    @functools.wraps(method)
    async def run_to_completion(store: "Store", /, *args: P.args, **kwargs: P.kwargs) -> T:
        change = asyncio.ensure_future(method(store, *args, **kwargs))
        store.changes.add(change)
        change.add_done_callback(store.changes.discard)
        return await asyncio.shield(change)

    return run_to_completion


class Store:
    """`Store.open` makes one. Every method may raise StoreError."""

    def __init__(self, path: Path, connection: aiosqlite.Connection, instance: str) -> None:
        self.path = path
        # Tells the containers and images of this database from those of another Fairlead.
        self.instance = instance
        self.changes: set[asyncio.Future[Any]] = set()  # that are under way
        self._connection = connection
        # Statements of two transactions would mix on the one connection.
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> "Store":
        """The store in the database at `path`, which is made if there is none."""
        if not await asyncio.to_thread(path.parent.is_dir):
            raise StoreError(f"directory {path.parent} does not exist: create it first")
        try:
            # Credentials of private repositories stand in it while a deploy runs.
            await asyncio.to_thread(path.touch, mode=0o600)
            connection = await aiosqlite.connect(path, timeout=WRITE_TIMEOUT, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"cannot open {path}: {error}") from error
        try:
            row = await _fetch_one(connection, "PRAGMA quick_check(1)")
            if row is None or row[0] != "ok":
                raise StoreError(
                    f"{path} is corrupt: {row and row[0]}; restore a backup"
                    " (`fairlead backup` makes them)"
                )
            await connection.execute("PRAGMA journal_mode = WAL")
            await connection.execute("PRAGMA synchronous = FULL")
            await connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT")
            await connection.execute(
                "INSERT OR IGNORE INTO orchestrator_meta VALUES ('instance', ?)",
                (secrets.token_hex(8),),
            )
            row = await _fetch_one(
                connection, "SELECT value FROM orchestrator_meta WHERE key = 'instance'"
            )
            assert row is not None
        except sqlite3.Error as error:
            await connection.close()
            raise StoreError(f"cannot use {path}: {error}") from error
        except StoreError:
            await connection.close()
            raise
        return cls(path, connection, str(row[0]))

    async def close(self) -> None:
        """Returns when all changes are made; nothing may be asked afterwards."""
        await asyncio.gather(*self.changes, return_exceptions=True)
        await self._connection.close()

    # Apps

    async def apps(self) -> list[App]:
        """All apps, by name."""
        return await self._apps("")

    async def app(self, name: str) -> App | None:
        """The app of that name, None if there is none."""
        return next(iter(await self._apps("WHERE name = ?", name)), None)

    async def _apps(self, where: str, *values: object) -> list[App]:
        owned: dict[str, list[str]] = {}
        for domain, app in await self._fetch_all(
            "SELECT domain, app FROM app_domains ORDER BY domain"
        ):
            owned.setdefault(app, []).append(domain)
        rows = await self._fetch_all(
            f"SELECT {_APP_NAMES} FROM apps {where} ORDER BY name",  # noqa: S608  names of ours
            *values,
        )
        apps = [App(**dict(zip(_APP_COLUMNS, row, strict=True))) for row in rows]
        for app in apps:
            app.domains = owned.get(app.name, [])
        return apps

    async def withdrawn_reason(self, app: str) -> str:
        """Why the routes of the app were withdrawn; empty if they were not."""
        rows = await self._fetch_all("SELECT withdrawn FROM apps WHERE name = ?", app)
        return str(rows[0][0]) if rows else ""

    @shielded
    async def set_withdrawn(self, app: str, reason: str) -> None:
        """The routes of the app are withdrawn; with an empty reason they are back."""
        async with self._transaction() as connection:
            await connection.execute("UPDATE apps SET withdrawn = ? WHERE name = ?", (reason, app))

    @shielded
    async def remove_app(self, name: str) -> None:
        """Forget an app. Its deploys stay on record, and its domains stay taken by its name."""
        async with self._transaction() as connection:
            await connection.execute("DELETE FROM apps WHERE name = ?", (name,))

    # Deliveries

    @shielded
    async def add_delivery(
        self,
        provider: str,
        delivery_id: str,
        event: str,
        headers: Mapping[str, str],
        body: bytes,
        replay_of: int | None = None,
    ) -> tuple[Delivery, bool]:
        """Store a delivery; the first one of its id, and whether this is it."""
        async with self._transaction() as connection:
            cursor = await connection.execute(
                "INSERT OR IGNORE INTO deliveries"
                " (provider, delivery_id, event, headers, body, received_at, replay_of)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    provider,
                    delivery_id,
                    event,
                    orjson.dumps(dict(headers)).decode(),
                    body,
                    time.time(),
                    replay_of,
                ),
            )
            is_new = cursor.rowcount == 1
        rows = await self._deliveries(
            "WHERE provider = ? AND delivery_id = ?", provider, delivery_id
        )
        return rows[0], is_new

    @shielded
    async def set_decision(
        self, delivery: int, decision: str, reason: str, status: int, deploy: int | None = None
    ) -> None:
        """Record what was decided about a delivery."""
        async with self._transaction() as connection:
            await connection.execute(
                "UPDATE deliveries SET decision = ?, reason = ?, status = ?,"
                " deploy = coalesce(?, deploy) WHERE id = ?",
                (decision, reason, status, deploy, delivery),
            )

    async def deliveries(self, limit: int = 50, before: int | None = None) -> list[Delivery]:
        """The newest deliveries, or those before the id `before`, newest first."""
        return await self._deliveries(
            "WHERE id < ? ORDER BY id DESC LIMIT ?", _id_limit(before), limit
        )

    async def delivery(self, number: int) -> Delivery | None:
        """The delivery with that id, None if there is none."""
        return next(iter(await self._deliveries("WHERE id = ?", number)), None)

    async def _deliveries(self, where: str, *values: object) -> list[Delivery]:
        rows = await self._fetch_all(
            f"SELECT {_DELIVERY_NAMES} FROM deliveries {where}",  # noqa: S608  names of ours
            *values,
        )
        found = []
        for row in rows:
            fields = dict(zip(_DELIVERY_COLUMNS, row, strict=True))
            found.append(Delivery(**{**fields, "headers": orjson.loads(fields["headers"])}))
        return found

    # Deploys

    @shielded
    async def add_deploy(
        self, request: DeployRequest, health_path: str, started: int | None = None
    ) -> Deploy:
        """Put a deploy at the end of its app's queue; older ones that wait there are superseded.

        Not `started`, which is being taken out of the queue and may not have been saved yet.
        The app is made if there is none, and owns the domain from now on. Raises RefusedError if
        the domain is another app's, or the app another repository's; then nothing has changed.
        """
        now = time.time()
        async with self._transaction() as connection:
            await _claim_app(connection, request, now)
            domains = await _claim_domain(connection, request)
            deploy = Deploy(
                id=0,
                app=request.app,
                state=DeployState.QUEUED,
                step=None,
                provider=request.provider,
                repository=request.repository,
                clone_url=request.clone_url,
                branch=request.branch,
                commit=request.commit,
                domains=domains,
                health_path=health_path,
                created_at=now,
                credentials=request.credentials,
                allow_file=request.allow_file,
                delivery=request.delivery,
            )
            values = _columns_of(deploy)
            del values["id"]
            names = ", ".join(f'"{name}"' for name in values)
            marks = ", ".join("?" * len(values))
            cursor = await connection.execute(
                f"INSERT INTO deploys ({names}) VALUES ({marks})",  # noqa: S608  names of ours
                tuple(values.values()),
            )
            assert cursor.lastrowid is not None
            deploy.id = cursor.lastrowid
            await connection.execute(
                "UPDATE deploys SET state = ?, superseded_by = ?, finished_at = ?, credentials = ''"
                " WHERE app = ? AND state = ? AND id < ? AND id IS NOT ?",
                (
                    DeployState.SUPERSEDED,
                    deploy.id,
                    now,
                    deploy.app,
                    DeployState.QUEUED,
                    deploy.id,
                    started,
                ),
            )
            if deploy.delivery is not None:
                # In the same transaction, so that a delivery whose deploy exists never lacks it.
                await connection.execute(
                    "UPDATE deliveries SET deploy = ? WHERE id = ?", (deploy.id, deploy.delivery)
                )
        return deploy

    async def deploys(
        self, app: str | None = None, limit: int = 50, before: int | None = None
    ) -> list[Deploy]:
        """The newest deploys (of an app), or those before the id `before`, newest first."""
        return await self._deploys(
            "WHERE (?1 IS NULL OR app = ?1) AND id < ?2 ORDER BY id DESC LIMIT ?3",
            *(app, _id_limit(before), limit),
        )

    async def deploy(self, number: int) -> Deploy | None:
        """The deploy with that id, None if there is none."""
        return next(iter(await self._deploys("WHERE id = ?", number)), None)

    async def past_targets(self, app: str) -> set[str]:
        """Every target that a deploy of the app ever had."""
        return {
            str(target)
            for (target,) in await self._fetch_all(
                "SELECT DISTINCT target FROM deploys WHERE app = ? AND target != ''", app
            )
        }

    async def unfinished_deploys(self) -> list[Deploy]:
        """The deploys that wait or run, oldest first."""
        return await self._deploys("WHERE state IN ('queued', 'running') ORDER BY id")

    async def live_deploys(self) -> dict[str, Deploy]:
        """The live deploy of each app that has one."""
        rows = await self._deploys("WHERE id IN (SELECT live_deploy FROM apps)")
        return {deploy.app: deploy for deploy in rows}

    @shielded
    async def save(self, deploy: Deploy, record: StepRecord | None = None) -> None:
        """Write a deploy down as it is, and one of its steps."""
        async with self._transaction() as connection:
            await _save(connection, deploy)
            if record is not None:
                values = _columns_of(record)
                marks = ", ".join("?" * len(values))
                await connection.execute(
                    f"INSERT OR REPLACE INTO deploy_steps ({_STEP_NAMES})"  # noqa: S608  ours
                    f" VALUES ({marks})",
                    tuple(values.values()),
                )

    @shielded
    async def set_live(self, deploy: Deploy, record: StepRecord) -> None:
        """The routes of the app point to this deploy: it is the one that counts from now on."""
        async with self._transaction() as connection:
            await _save(connection, deploy)
            await connection.execute(
                "UPDATE apps SET live_deploy = ?, withdrawn = '' WHERE name = ?",
                (deploy.id, deploy.app),
            )
            await connection.execute(
                "UPDATE deploy_steps SET state = ?, finished_at = ?, detail = ?"
                " WHERE deploy = ? AND step = ?",
                (
                    record.state,
                    record.finished_at,
                    orjson.dumps(record.detail).decode(),
                    deploy.id,
                    record.step,
                ),
            )

    @shielded
    async def revert_live(self, deploy: Deploy) -> None:
        """A deploy that was live failed after all: the one before it counts again."""
        async with self._transaction() as connection:
            await connection.execute(
                "UPDATE apps SET live_deploy ="
                " (SELECT max(id) FROM deploys WHERE app = ?1 AND state = 'live' AND id < ?2)"
                " WHERE name = ?1 AND live_deploy = ?2",
                (deploy.app, deploy.id),
            )

    @shielded
    async def finish(self, deploy: Deploy) -> None:
        """Write down how a deploy ended. A live one retires those before it."""
        deploy.credentials = ""
        async with self._transaction() as connection:
            await _save(connection, deploy)
            if deploy.state is DeployState.LIVE:
                await connection.execute(
                    "UPDATE deploys SET state = ? WHERE app = ? AND state = ? AND id < ?",
                    (DeployState.RETIRED, deploy.app, DeployState.LIVE, deploy.id),
                )

    async def steps(self, deploy: int) -> list[StepRecord]:
        """The steps of a deploy that were begun, in order."""
        rows = await self._fetch_all(
            f"SELECT {_STEP_NAMES} FROM deploy_steps WHERE deploy = ?",  # noqa: S608  names of ours
            deploy,
        )
        found = []
        for row in rows:
            fields = dict(zip(_STEP_COLUMNS, row, strict=True))
            fields |= {"step": Step(fields["step"]), "detail": orjson.loads(fields["detail"])}
            found.append(StepRecord(**fields))
        order = list(Step)
        return sorted(found, key=lambda record: order.index(record.step))

    async def _deploys(self, where: str, *values: object) -> list[Deploy]:
        rows = await self._fetch_all(f"SELECT {_DEPLOY_NAMES} FROM deploys {where}", *values)  # noqa: S608
        found = []
        for row in rows:
            fields = dict(zip(_DEPLOY_COLUMNS, row, strict=True))
            fields["state"] = DeployState(fields["state"])
            fields["step"] = Step(fields["step"]) if fields["step"] else None
            fields["domains"] = orjson.loads(fields["domains"])
            fields["cutover"] = orjson.loads(fields["cutover"])
            fields["allow_file"] = bool(fields["allow_file"])
            found.append(Deploy(**fields))
        return found

    # SQLite

    async def _fetch_all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        async with self._lock:
            try:
                return [tuple(row) for row in await self._connection.execute_fetchall(sql, values)]
            except sqlite3.Error as error:
                raise StoreError(f"cannot read {self.path}: {error}") from error

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """All of it or nothing, durable when it is left."""
        async with self._lock:
            try:
                await self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    await self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        await self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise StoreError(f"cannot write {self.path}: {error}") from error


async def _fetch_one(connection: aiosqlite.Connection, sql: str) -> tuple[Any, ...] | None:
    for row in await connection.execute_fetchall(sql):
        return tuple(row)
    return None


def _id_limit(before: int | None) -> int:
    return 2**63 - 1 if before is None else before


def _columns_of(record: Deploy | StepRecord) -> dict[str, object]:
    """The values of a row; what is no simple value, as JSON."""
    values = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return {
        name: orjson.dumps(value).decode() if isinstance(value, list | dict) else value
        for name, value in values.items()
    }


async def _save(connection: aiosqlite.Connection, deploy: Deploy) -> None:
    values = _columns_of(deploy)
    changes = ", ".join(f'"{name}" = ?' for name in values)
    await connection.execute(
        f"UPDATE deploys SET {changes} WHERE id = ?",  # noqa: S608  names of ours
        (*values.values(), deploy.id),
    )


async def _claim_app(connection: aiosqlite.Connection, request: DeployRequest, now: float) -> None:
    rows = list(
        await connection.execute_fetchall(
            "SELECT repository, clone_url FROM apps WHERE name = ?", (request.app,)
        )
    )
    if not rows:
        await connection.execute(
            "INSERT INTO apps (name, repository, clone_url, branch, health_path, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                request.app,
                request.repository,
                request.clone_url,
                request.branch,
                request.health_path,
                now,
            ),
        )
        return
    ((repository, clone_url),) = rows
    same = request.repository == repository or _without_git_suffix(
        request.clone_url
    ) == _without_git_suffix(clone_url)
    if not same and not request.operator:
        raise RefusedError(
            f"app {request.app} is deployed from {repository}, not from"
            f" {request.repository}: rename one of the repositories, or remove the app first"
            f" (`fairlead apps rm {request.app}`)",
            409,
        )
    # An operator's `fairlead deploy` knows a repository by its URL only.
    known = repository if same and request.operator else request.repository
    await connection.execute(
        "UPDATE apps SET repository = ?, clone_url = ?, branch = ?,"
        " health_path = CASE WHEN ? = '' THEN health_path ELSE ? END WHERE name = ?",
        (
            known,
            request.clone_url,
            request.branch,
            request.health_path,
            request.health_path,
            request.app,
        ),
    )


def _without_git_suffix(url: str) -> str:
    return url.rstrip("/").removesuffix(".git")


async def _claim_domain(connection: aiosqlite.Connection, request: DeployRequest) -> list[str]:
    """All domains of the app, the one that is asked for among them, which the app owns now."""
    rows = await connection.execute_fetchall(
        "SELECT domain FROM app_domains WHERE app = ? ORDER BY domain", (request.app,)
    )
    domains = [str(row[0]) for row in rows]
    wanted = request.domain or ("" if domains else f"{request.app}.local")
    if not wanted or wanted in domains:
        return domains
    rows = await connection.execute_fetchall(
        "SELECT app_domains.app, apps.name FROM app_domains LEFT JOIN apps ON apps.name = app"
        " WHERE domain = ?",
        (wanted,),
    )
    for owner, present in rows:
        if present is not None:
            raise RefusedError(f"domain {wanted} belongs to app {owner}", 409)
        if not request.operator:
            raise RefusedError(
                f"domain {wanted} belonged to app {owner}, which was removed: claim it with"
                f" `fairlead deploy {request.app} --domain {wanted}`",
                409,
            )
    if not rows and not request.operator and await _has_route(connection, wanted):
        raise RefusedError(
            f"domain {wanted} already has a route that no app created: claim it with"
            f" `fairlead deploy {request.app} --domain {wanted}`, or remove it"
            f" (`fairlead route rm {wanted}`)",
            409,
        )
    await connection.execute(
        "INSERT OR REPLACE INTO app_domains VALUES (?, ?)", (wanted, request.app)
    )
    return sorted([*domains, wanted])


async def _has_route(connection: aiosqlite.Connection, domain: str) -> bool:
    tables = await connection.execute_fetchall(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'proxy_routes'"
    )
    if not list(tables):
        return False
    rows = await connection.execute_fetchall(
        "SELECT 1 FROM proxy_routes WHERE rtrim(lower(domain), '.') = ?", (domain,)
    )
    return bool(list(rows))

"""Owns the rows of apps and their domains: whose repository an app is of, who owns a domain."""

import asyncio
from typing import Final

import aiosqlite

from edge.errors import quote
from edge.routing.store_writer import RouteWriter
from orchestrator.errors import RefusedError
from orchestrator.model import DEFAULT, App, DeployRequest
from orchestrator.store.database import Rows, shielded

_COLUMNS: Final = tuple(name for name in App.__dataclass_fields__ if name != "domains")
_NAMES: Final = ", ".join(_COLUMNS)


class Apps(Rows):
    """The apps of a database."""

    async def all(self) -> list[App]:
        """All apps, by name."""
        return await self._select("")

    async def get(self, name: str) -> App | None:
        """The app of that name, None if there is none."""
        return next(iter(await self._select("WHERE name = ?", name)), None)

    async def _select(self, where: str, *values: object) -> list[App]:
        owned: dict[str, list[str]] = {}
        for domain, app in await self._database.fetch_all(
            "SELECT domain, app FROM app_domains ORDER BY domain"
        ):
            owned.setdefault(app, []).append(domain)
        rows = await self._database.fetch_all(
            f"SELECT {_NAMES} FROM apps {where} ORDER BY name",  # noqa: S608  names of ours
            *values,
        )
        apps = [App(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]
        for app in apps:
            app.domains = owned.get(app.name, [])
        return apps

    @shielded
    async def set_down(self, app: str, reason: str) -> None:
        """The container of the app does not run, for this reason; it does if that is empty."""
        async with self._database.transaction() as connection:
            await connection.execute("UPDATE apps SET down = ? WHERE name = ?", (reason, app))

    @shielded
    async def set_stopped(self, app: str, container: str) -> None:
        """This container of the app was stopped on purpose; none was if it is empty."""
        async with self._database.transaction() as connection:
            await connection.execute("UPDATE apps SET stopped = ? WHERE name = ?", (container, app))

    @shielded
    async def set_read_only(self, app: str, choice: str) -> bool:
        """One of READ_ONLY, for containers made from now on; whether there is such an app."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "UPDATE apps SET read_only = ? WHERE name = ?", (choice, app)
            )
            return cursor.rowcount > 0

    async def is_read_only(self, app: str, *, default: bool) -> bool:
        """Whether a container that is made now is; `default` holds where the app has no choice."""
        known = await self.get(app)
        if known is None or known.read_only == DEFAULT:
            return default
        return known.read_only == "on"

    @shielded
    async def remove(self, name: str) -> None:
        """Forget an app. Its deploys stay on record, and its domains stay taken by its name."""
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM apps WHERE name = ?", (name,))


async def claim_app(connection: aiosqlite.Connection, request: DeployRequest, now: float) -> None:
    """The app is the one of the request's repository, and is made if there is none.

    Raises RefusedError where it is another repository's.
    """
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
    # Everybody may have a repository OWNER/NAME at another provider, or on a server of their own.
    same = (request.repository, _host(request.clone_url)) == (
        repository,
        _host(clone_url),
    ) or _without_git_suffix(request.clone_url) == _without_git_suffix(clone_url)
    if not same and not request.operator:
        raise RefusedError(
            f"app {request.app} is deployed from {repository} ({clone_url}), not from"
            f" {request.repository} ({request.clone_url}): rename one of the repositories, or"
            f" remove the app first"
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


def _host(clone_url: str) -> str:
    """The name of the server, in any form of URL that git takes; "" for a folder."""
    scheme, separator, rest = clone_url.partition("://")
    authority = rest.partition("/")[0] if separator else scheme.partition(":")[0]
    return authority.rpartition("@")[2].partition(":")[0].lower()


def _without_git_suffix(url: str) -> str:
    return url.rstrip("/").removesuffix(".git")


async def claim_domain(
    connection: aiosqlite.Connection, routes: RouteWriter, request: DeployRequest
) -> list[str]:
    """All domains of the app, the one that is asked for among them, which the app owns now.

    Routes are looked at while nobody else can claim, and before this claim is written: a route that
    was set before the look is found by it, and one that is set after it has come after the claim,
    as when both were in one database. `fairlead route set` asks nobody; what it displaces or is
    displaced by is seen when the app's route is pointed (`steps.switch`).

    Raises RefusedError where it is another app's, or needs an operator to claim it, and StoreError
    where the routes cannot be read: what is not known to be free is not given away.
    """
    rows = await connection.execute_fetchall(
        "SELECT domain FROM app_domains WHERE app = ? ORDER BY domain", (request.app,)
    )
    domains = [str(row[0]) for row in rows]
    wanted = request.domain or ("" if domains else f"{request.app}.local")
    if not wanted or wanted in domains:
        return domains
    on_purpose = f"claim it with `fairlead deploy {request.app} --domain {wanted}`"
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
                f"domain {wanted} belonged to app {owner}, which was removed: {on_purpose}",
                409,
            )
    if not rows and not request.operator:
        if wanted.endswith(".localhost"):
            raise RefusedError(
                f"domain {wanted} is a name of this machine (RFC 6761): {on_purpose}", 409
            )
        route = await _covering_route(routes, wanted, asked_for=bool(request.domain))
        if route is not None:
            raise RefusedError(
                f"domain {wanted} already has a route that no app created, {quote(route)}:"
                f" {on_purpose}, or remove the route (`fairlead route rm {route}`)",
                409,
            )
    await connection.execute(
        "INSERT OR REPLACE INTO app_domains VALUES (?, ?)", (wanted, request.app)
    )
    return sorted([*domains, wanted])


async def _covering_route(routes: RouteWriter, domain: str, *, asked_for: bool) -> str | None:
    """The route from which an app at `domain` would take requests: of that host, on any path, of
    all names below one that it is below, or of all hosts; None if there is none.

    That of all hosts is for what nobody else has, as is the domain that an app gets which has not
    `asked_for` one.
    """
    labels = domain.split(".")
    hosts = [domain, *(f"*.{'.'.join(labels[at:])}" for at in range(1, len(labels)))]
    if asked_for:
        hosts.append("*")
    return await asyncio.to_thread(routes.route_of, hosts)

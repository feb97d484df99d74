"""Owns the rows of deploys and of their steps: the queue of each app, and which deploy is live."""

import time
from typing import Final

import aiosqlite
import orjson

from orchestrator.model import Deploy, DeployRequest, DeployState, Step, StepRecord
from orchestrator.store.apps import claim_app, claim_domain
from orchestrator.store.credentials import Credentials
from orchestrator.store.database import Database, Rows, id_limit, shielded

_COLUMNS: Final = tuple(Deploy.__dataclass_fields__)
_NAMES: Final = ", ".join(f'"{name}"' for name in _COLUMNS)
_STEP_COLUMNS: Final = tuple(StepRecord.__dataclass_fields__)
_STEP_NAMES: Final = ", ".join(_STEP_COLUMNS)


class Deploys(Rows):
    """The deploys of a database. Of credentials, only references stand in it."""

    def __init__(self, database: Database, credentials: Credentials) -> None:
        super().__init__(database)
        self._credentials = credentials

    @shielded
    async def add(
        self, request: DeployRequest, health_path: str, started: int | None = None
    ) -> Deploy:
        """Put a deploy at the end of its app's queue; older ones that wait there are superseded.

        Not `started`, which is being taken out of the queue and may not have been saved yet.
        The app is made if there is none, and owns the domain from now on. Raises RefusedError if
        the domain is another app's, or the app another repository's; then nothing has changed.
        """
        reference = await self._credentials.keep(request.credentials)
        try:
            deploy, unneeded = await self._add(request, health_path, started, reference)
        except BaseException:
            await self._credentials.forget([reference])
            raise
        await self._credentials.forget(unneeded)
        return deploy

    async def _add(
        self, request: DeployRequest, health_path: str, started: int | None, reference: str
    ) -> tuple[Deploy, list[str]]:
        """The deploy, and the references of those that are superseded."""
        now = time.time()
        async with self._database.transaction() as connection:
            await claim_app(connection, request, now)
            domains = await claim_domain(connection, self._database.routes, request)
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
            values = {**_columns_of(deploy), "credentials": reference}
            del values["id"]
            names = ", ".join(f'"{name}"' for name in values)
            marks = ", ".join("?" * len(values))
            cursor = await connection.execute(
                f"INSERT INTO deploys ({names}) VALUES ({marks})",  # noqa: S608  names of ours
                tuple(values.values()),
            )
            assert cursor.lastrowid is not None  # noqa: S101  narrows a type
            deploy.id = cursor.lastrowid
            superseded = await connection.execute_fetchall(
                "UPDATE deploys SET state = ?, superseded_by = ?, finished_at = ?"
                " WHERE app = ? AND state = ? AND id < ? AND id IS NOT ? RETURNING credentials",
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
        return deploy, [str(each) for (each,) in superseded]

    async def page(
        self, app: str | None = None, limit: int = 50, before: int | None = None
    ) -> list[Deploy]:
        """The newest deploys (of an app), or those before the id `before`, newest first."""
        return await self._select(
            "WHERE (?1 IS NULL OR app = ?1) AND id < ?2 ORDER BY id DESC LIMIT ?3",
            *(app, id_limit(before), limit),
        )

    async def get(self, number: int) -> Deploy | None:
        """The deploy with that id, None if there is none."""
        return next(iter(await self._select("WHERE id = ?", number)), None)

    async def past_targets(self, app: str) -> set[str]:
        """Every target that a deploy of the app ever had."""
        return {
            str(target)
            for (target,) in await self._database.fetch_all(
                "SELECT DISTINCT target FROM deploys WHERE app = ? AND target != ''", app
            )
        }

    async def kept_images(self, app: str, count: int, failed: int) -> set[str]:
        """The ids of images of an app that are not removed: of its newest `count` releases, of
        deploys that run, and of the newest `failed` ones after the live one, to be looked into."""
        rows = await self._database.fetch_all(
            "SELECT image_id FROM deploys WHERE app = ?1 AND image_id != '' AND ("
            "  state IN ('queued', 'running')"
            "  OR id = (SELECT live_deploy FROM apps WHERE name = ?1)"
            "  OR id IN (SELECT id FROM deploys WHERE app = ?1 AND image_id != ''"
            "    AND id > ifnull((SELECT live_deploy FROM apps WHERE name = ?1), 0)"
            "    ORDER BY id DESC LIMIT ?3)"
            "  OR id IN (SELECT id FROM deploys WHERE app = ?1 AND state IN ('live', 'retired')"
            "    ORDER BY id DESC LIMIT ?2))",
            *(app, count, failed),
        )
        return {str(image) for (image,) in rows}

    async def unfinished(self) -> list[Deploy]:
        """The deploys that wait or run, oldest first."""
        return await self._select("WHERE state IN ('queued', 'running') ORDER BY id")

    async def live(self) -> dict[str, Deploy]:
        """The live deploy of each app that has one."""
        rows = await self._select("WHERE id IN (SELECT live_deploy FROM apps)")
        return {deploy.app: deploy for deploy in rows}

    @shielded
    async def save(self, deploy: Deploy, record: StepRecord | None = None) -> None:
        """Write a deploy down as it is, and one of its steps."""
        async with self._database.transaction() as connection:
            await _save(connection, deploy)
            if record is not None:
                values = _columns_of(record)
                marks = ", ".join("?" * len(values))
                await connection.execute(
                    f"INSERT OR REPLACE INTO deploy_steps ({_STEP_NAMES})"  # noqa: S608  names of ours
                    f" VALUES ({marks})",
                    tuple(values.values()),
                )

    @shielded
    async def set_live(self, deploy: Deploy, record: StepRecord) -> None:
        """The routes of the app point to this deploy: it is the one that counts from now on."""
        async with self._database.transaction() as connection:
            await _save(connection, deploy)
            await connection.execute(
                "UPDATE apps SET live_deploy = ?, down = '' WHERE name = ?",
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
    async def set_container(self, deploy: Deploy) -> None:
        """The container of a live deploy was made anew."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE deploys SET container_id = ?, address = ?, host_port = ?, target = ?"
                " WHERE id = ?",
                (deploy.container_id, deploy.address, deploy.host_port, deploy.target, deploy.id),
            )

    @shielded
    async def revert_live(self, deploy: Deploy) -> None:
        """A deploy that was live failed after all: the one before it counts again."""
        async with self._database.transaction() as connection:
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
        async with self._database.transaction() as connection:
            await _save(connection, deploy)
            if deploy.state is DeployState.LIVE:
                await connection.execute(
                    "UPDATE deploys SET state = ? WHERE app = ? AND state = ? AND id < ?",
                    (DeployState.RETIRED, deploy.app, DeployState.LIVE, deploy.id),
                )
        rows = await self._database.fetch_all(
            "SELECT credentials FROM deploys WHERE id = ?", deploy.id
        )
        await self._credentials.forget([str(reference) for (reference,) in rows])

    async def references(self) -> list[str]:
        """Of the credentials that deploys which wait or run have."""
        rows = await self._database.fetch_all(
            "SELECT credentials FROM deploys WHERE state IN ('queued', 'running')"
        )
        return [str(reference) for (reference,) in rows]

    async def steps(self, deploy: int) -> list[StepRecord]:
        """The steps of a deploy that were begun, in order."""
        rows = await self._database.fetch_all(
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

    async def _select(self, where: str, *values: object) -> list[Deploy]:
        rows = await self._database.fetch_all(f"SELECT {_NAMES} FROM deploys {where}", *values)  # noqa: S608  names of ours
        found = []
        for row in rows:
            fields = dict(zip(_COLUMNS, row, strict=True))
            fields["state"] = DeployState(fields["state"])
            fields["step"] = Step(fields["step"]) if fields["step"] else None
            fields["domains"] = orjson.loads(fields["domains"])
            fields["cutover"] = orjson.loads(fields["cutover"])
            fields["allow_file"] = bool(fields["allow_file"])
            # One that has ended needs none, and none are kept.
            reference = "" if fields["state"].is_final else fields["credentials"]
            fields["credentials"] = await self._credentials.get(reference)
            found.append(Deploy(**fields))
        return found


def _columns_of(record: Deploy | StepRecord) -> dict[str, object]:
    """The values of a row; what is no simple value, as JSON."""
    values = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return {
        name: orjson.dumps(value).decode() if isinstance(value, list | dict) else value
        for name, value in values.items()
    }


async def _save(connection: aiosqlite.Connection, deploy: Deploy) -> None:
    values = _columns_of(deploy)
    del values["credentials"]  # the reference to them, which never changes
    changes = ", ".join(f'"{name}" = ?' for name in values)
    await connection.execute(
        f"UPDATE deploys SET {changes} WHERE id = ?",  # noqa: S608  names of ours
        (*values.values(), deploy.id),
    )

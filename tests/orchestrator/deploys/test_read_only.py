"""Which apps' containers are read-only, on a real engine: each as its own option says."""

import asyncio
from dataclasses import replace
from pathlib import Path

import docker

from orchestrator.store.store import Store
from tests.orchestrator.deploys.test_reconciler import Place, place

WRITES = ["sh", "-c", "echo x > /new"]


def test_it_is_each_apps_own_choice_and_outlives_redeploys_and_restarts(
    tmp_path: Path, engine_host: str
) -> None:
    raw = docker.APIClient(engine_host, version="auto")

    def can_write(container: str) -> bool:
        command = raw.exec_create(container, WRITES)["Id"]
        raw.exec_start(command)
        return bool(raw.exec_inspect(command)["ExitCode"] == 0)

    async def deploys(here: Place, app: str) -> str:
        """The id of its container."""
        deploy, container = await here.begins(app)
        await here.ends(deploy)
        return container.id

    async def scenario() -> None:
        async with place(tmp_path, engine_host) as here:
            apps = here.store.apps
            before, other = await deploys(here, "app"), await deploys(here, "other")
            assert await apps.set_read_only("app", "on")
            assert not await apps.set_read_only("none", "on")
            # What runs is not made anew for that.
            assert can_write(before)
            assert can_write(other)
            kept = await deploys(here, "app")
            assert not can_write(kept)
            assert can_write(await deploys(here, "other"))

            # The reconciler makes another one in its place, as after a restart.
            raw.remove_container(kept, force=True)
            again = await Store.open(here.services.settings.state_path, here.services.settings.db)
            here.services.apps = again.apps
            try:
                await here.looks()
            finally:
                await again.close()
            live = (await here.store.deploys.live())["app"]
            assert live.container_id != kept
            assert not can_write(live.container_id)

            here.services.settings = replace(here.services.settings, container_read_only=True)
            here.services.apps = apps
            await apps.set_read_only("app", "off")
            assert can_write(await deploys(here, "app"))
            assert not can_write(await deploys(here, "other"))

    try:
        asyncio.run(scenario())
    finally:
        raw.close()

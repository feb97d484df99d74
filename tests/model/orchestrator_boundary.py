"""Owns where the real orchestrator meets the simulated machine: its database without a thread, what
is read of a repository without a process, and the health checks of its apps.
"""

import asyncio
import socket
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

import orchestrator.deploys.http_probe
import orchestrator.deploys.steps.detect
import orchestrator.engine.network
import orchestrator.store.database
from orchestrator.deploys.http_probe import ProbeResult
from orchestrator.source.detect import Detection, detect
from orchestrator.source.tree import read_tree
from tests.model import boundary


class Connection:
    """The part of an `aiosqlite.Connection` that is used, without its thread."""

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self._patience = float(options["timeout"])
        self._connection = sqlite3.connect(path, **{**options, "timeout": 0})
        # What a process that is killed had begun is rolled back.
        boundary.me().at_end.append(self._connection.close)

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    async def _do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        while True:
            try:
                return await loop.run_in_executor(None, function, *arguments)
            except sqlite3.OperationalError as error:
                if not boundary.is_busy(error) or loop.time() >= deadline:
                    raise

    async def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = await self._do(self._connection.execute, sql, values)
        return cursor

    async def execute_fetchall(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        found: list[Any] = await self._do(lambda: self._connection.execute(sql, values).fetchall())
        return found

    async def executescript(self, sql: str) -> None:
        await self._do(self._connection.executescript, sql)

    async def close(self) -> None:
        self._connection.close()


def _connect(path: Path, **options: Any) -> Awaitable[Connection]:
    async def connect() -> Connection:
        return Connection(path, options)

    return connect()


class _NoClient:
    async def __aenter__(self) -> "_NoClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


async def _probe(_sender: object, address: str, path: str, host: str) -> ProbeResult:
    world = boundary.here()
    await asyncio.sleep(world.kernel.loop.pause())
    if world.docker.answers(address) is None:
        return ProbeResult("connection refused")
    return ProbeResult("200 OK", 200, "")


async def _detect(folder: Path) -> Detection:
    """What the process that reads a repository does."""
    await asyncio.sleep(boundary.here().kernel.loop.pause())
    return detect(read_tree(folder, lambda _: None))


def install(patch: pytest.MonkeyPatch) -> None:
    """Until the end of the test."""
    simulated = boundary.Simulated(aiosqlite, connect=_connect)
    patch.setattr(orchestrator.store.database, "aiosqlite", simulated)
    patch.setattr(orchestrator.deploys.http_probe, "client", _NoClient)
    patch.setattr(orchestrator.deploys.http_probe, "send", _probe)
    patch.setattr(orchestrator.deploys.steps.detect, "detect", _detect)
    interfaces = boundary.Simulated(socket, if_nametoindex=lambda _: 1)
    patch.setattr(orchestrator.engine.network, "socket", interfaces)

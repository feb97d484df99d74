"""Owns the store as the others see it: apps, links, deliveries, deploys and tokens of one
database."""

import asyncio
from pathlib import Path

from edge.errors import StoreError
from edge.routing.store_writer import RouteWriter
from orchestrator.store.apps import Apps
from orchestrator.store.credentials import SUFFIX as CREDENTIALS
from orchestrator.store.credentials import Credentials
from orchestrator.store.database import Database
from orchestrator.store.deliveries import Deliveries
from orchestrator.store.deploys import Deploys
from orchestrator.store.history import History
from orchestrator.store.leases import Leases
from orchestrator.store.links import Links
from orchestrator.store.split import prepare
from orchestrator.store.tokens import Tokens


class Store:
    """`Store.open` makes one. Every method of its parts may raise StoreError."""

    def __init__(self, database: Database) -> None:
        # Tells the containers and images of this database from those of another Fairlead.
        self.instance = database.instance
        self.apps = Apps(database)
        self.credentials = Credentials(database.path.with_suffix(CREDENTIALS))
        self.deliveries = Deliveries(database, self.credentials)
        self.deploys = Deploys(database, self.credentials)
        self.history = History(database)
        self.leases = Leases(database)
        self.links = Links(database)
        self.tokens = Tokens(database)
        self._database = database

    @classmethod
    async def open(cls, path: Path, routes: Path) -> "Store":
        """The store in the database at `path`, beside that of the routes.

        Where there is none, it is made, or taken out of that of the routes (`split.prepare`).
        """
        await asyncio.to_thread(prepare, path, routes)
        store = cls(await Database.open(path, RouteWriter(routes)))
        try:
            # What a process that was killed left, or deliveries that are gone.
            known = [*await store.deliveries.references(), *await store.deploys.references()]
            await store.credentials.forget_others(known)
        except StoreError:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Returns when all changes are made; nothing may be asked afterwards."""
        await self._database.close()

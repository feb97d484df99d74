"""Owns `fairlead edge --check`: what keeps an edge with these settings and routes from serving.

It looks where the edge would look. It binds nothing, as another edge may be serving there, and it
makes no access log.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from edge.errors import ConfigError, FairleadError, StoreError
from edge.net.listener import resolve
from edge.routing.snapshot_file import SnapshotFile
from edge.routing.store_reader import RouteReader
from edge.routing.table import RouteTable
from edge.settings.settings import Settings, read
from edge.settings.syntax import Address
from edge.telemetry import access_log


class Findings(NamedTuple):
    """What was found: sentences, and the table that would be served (None: there is none)."""

    settings: list[str]
    routes: list[str]
    table: RouteTable | None


def check(flags: Mapping[str, str | None], environ: Mapping[str, str]) -> Findings:
    """Look at everything that an edge with these flags and variables needs."""
    settings, errors = read(flags, environ)
    found: list[FairleadError] = [*errors.values(), *_unusable(settings, errors)]
    routes: list[str] = []
    table = None
    if "db" not in errors:
        try:
            loaded = RouteReader(settings.db).poll(
                expected_id=SnapshotFile(settings.db).database_id
            )
        except StoreError as error:
            routes.append(str(error))
        else:
            assert loaded is not None  # noqa: S101  the first look of a reader is always news
            table = loaded.table
            routes.extend(loaded.problems)
    return Findings([str(error) for error in found], routes, table)


def _unusable(settings: Settings, known: Mapping[str, ConfigError]) -> Iterator[ConfigError]:
    """What is well written and cannot be used; settings that are `known` bad are left out."""
    seen: set[Address] = set()
    for name in ("http_addr", "admin_addr"):
        for address in () if name in known else getattr(settings, name):
            variable = f"FAIRLEAD_{name.upper()}"
            if address in seen:
                yield ConfigError(f"{variable}: {address} is used twice: choose another port")
            elif address.port:
                seen.add(address)
            try:
                resolve(address, variable)
            except ConfigError as error:
                yield error
    if "access_log" not in known and settings.access_log != "off":
        try:
            access_log.check(settings.access_log)
        except ConfigError as error:
            yield error

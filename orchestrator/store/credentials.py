"""Owns the credentials of clone URLs: each in a file of its own, outside of the database.

So whatever copies the database has no secret, and none stays in its free pages. Only a reference to
the file stands in it.
"""

import asyncio
import os
import re
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Final

from edge.errors import StoreError

SUFFIX: Final = ".credentials"
"""Of the folder, which is named after the database."""

_REFERENCE_BYTES: Final = 16

_is_reference: Final = re.compile(rf"[0-9a-f]{{{2 * _REFERENCE_BYTES}}}").fullmatch


class Credentials:
    """Those in `folder`, into which nobody else may look. Its methods may raise StoreError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def keep(self, credentials: str) -> str:
        """Store "user:password", durably; the reference to it. "" for ""."""
        return await asyncio.to_thread(self._keep, credentials) if credentials else ""

    async def get(self, reference: str) -> str:
        """What was kept; "" if nothing is, as after a backup was restored."""
        if not _is_reference(reference):
            return ""
        try:
            return await asyncio.to_thread((self._folder / reference).read_text)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise self._error("read", error) from error

    async def forget(self, references: Collection[str]) -> None:
        """Remove them; one that is not there is fine."""
        await asyncio.to_thread(self._forget, references)

    async def forget_others(self, references: Collection[str]) -> None:
        """Remove what nothing refers to: what a process that was killed left."""
        known = set(references)
        found = await asyncio.to_thread(self._list)
        await self.forget([name for name in found if name not in known])

    def _keep(self, credentials: str) -> str:
        reference = secrets.token_hex(_REFERENCE_BYTES)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = self._folder / reference
            path.touch(mode=0o600, exist_ok=False)
            with path.open("w") as file:
                file.write(credentials)
                file.flush()
                os.fsync(file.fileno())
            self._sync_folder()
        except OSError as error:
            raise self._error("write", error) from error
        return reference

    def _forget(self, references: Collection[str]) -> None:
        try:
            for reference in filter(_is_reference, references):
                (self._folder / reference).unlink(missing_ok=True)
        except OSError as error:
            raise self._error("remove", error) from error

    def _list(self) -> list[str]:
        try:
            return [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._error("read", error) from error

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _error(self, what: str, error: OSError) -> StoreError:
        return StoreError(f"cannot {what} credentials in {self._folder}: {error.strerror}")

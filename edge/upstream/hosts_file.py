"""Owns what the system's hosts file (hosts(5)) gives as addresses of a name.

It is read again when it is another one than before. Container engines write into it while the
program runs.
"""

import logging
from ipaddress import ip_address
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

PATH: Final = Path("/etc/hosts")

# What tells one state of a file from another; None while there is none.
Stamp = tuple[int, int, int] | None


def stamp(path: Path) -> Stamp:
    """Changes whenever the file does."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


class HostsFile:
    """The addresses of names in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp = None
        self._addresses: dict[str, tuple[str, ...]] = {}

    def __repr__(self) -> str:
        return f"<HostsFile {self._path} names={len(self._addresses)}>"

    def refresh(self) -> bool:
        """Read the file if it has changed; whether it had."""
        found = stamp(self._path)
        if found == self._stamp:
            return False
        self._stamp = found
        try:
            text = self._path.read_text("utf-8", errors="replace") if found else ""
        except OSError as error:
            logger.warning("%s cannot be read: %s", self._path, error.strerror)
            text = ""
        self._addresses = parse(text)
        return True

    def addresses(self, host: str) -> tuple[str, ...]:
        """All addresses of `host`, a name in normal form, in the file's order; none if it is not
        there.
        """
        return self._addresses.get(host, ())


def parse(text: str) -> dict[str, tuple[str, ...]]:
    """Names in lower case -> their addresses. Lines that are malformed are passed over."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        try:
            ip_address(address)
        except ValueError:
            continue
        for name in names:
            known = found.get(name := name.lower().removesuffix("."), ())
            if address not in known:
                found[name] = (*known, address)
    return found

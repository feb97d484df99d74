"""Owns which repositories of this machine may be cloned for others than its operator."""

from collections.abc import Collection
from pathlib import Path
from urllib.parse import unquote, urlsplit


def is_local_repository(url: str, folders: Collection[Path]) -> bool:
    """Whether a file:// URL means a place in one of `folders`, wherever links in it lead.

    git decodes the path of such a URL (connect.c, parse_connect_url).
    """
    if not folders:
        return False
    try:
        parts = urlsplit(url)
        if parts.scheme != "file" or parts.netloc:
            return False
        # Whatever git might take as something else than a part of the path.
        if parts.query or parts.fragment or "\0" in unquote(parts.path):
            return False
        place = Path(unquote(parts.path)).resolve()
    except (ValueError, OSError, RuntimeError):
        return False
    return any(place.is_relative_to(folder.resolve()) for folder in folders)

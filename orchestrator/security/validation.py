"""Owns which texts from outside may name an app, a domain, a path, a branch, a commit or a source.

Pure. Each function gives back the one spelling that the rest of the orchestrator uses, or raises
`RefusedError` with a text that says what fits. Nothing that was let through here can be read as an
option by a command, as another protocol by git, or as a second line by a log.
"""

import re
import unicodedata
from collections.abc import Collection
from typing import Final
from urllib.parse import unquote

import idna

from edge.errors import RouteError, quote
from edge.hosts import MAX_HOST, is_address, normalize_host
from orchestrator.errors import RefusedError

MAX_APP: Final = 40  # characters: an image's name and a container's name are made of it
MAX_HEALTH_PATH: Final = 1024  # characters
MAX_BRANCH: Final = 255  # bytes: what a file system takes for a part of a path (git keeps files)
MAX_URL: Final = 2048  # characters

_HEADS: Final = "refs/heads/"
_TAGS: Final = "refs/tags/"

_NOT_IN_APP: Final = re.compile(r"[^a-z0-9]+")
_APP: Final = re.compile(r"[a-z0-9]+(?:-+[a-z0-9]+)*")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# git check-ref-format, rules 3, 4, 5, 8 and 10.
_NOT_IN_BRANCH: Final = re.compile(r"\.\.|@\{|[\x00-\x20\x7f~^:?*\[\\]")
# Visible ASCII without @ (would end user information), \ (some parsers read it as /) and #.
_HEALTH_PATH: Final = re.compile(r"/[!-~]*")
_NOT_IN_HEALTH_PATH: Final = re.compile(r"//|[@\\#]")

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_TRANSPORT: Final = re.compile(r"[A-Za-z0-9]+::")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
# What git decodes before it uses the URL: a line break in its credential protocol (CVE-2020-5260).
_ENCODED_CONTROL: Final = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff])")

# Up to the last one: somebody may write a slash into a password as it is.
_USERINFO: Final = re.compile(r"(?<=://).*@")

_URLS: Final = "use https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH"


def app_name(repository_name: str) -> str:
    """The name of the app that a repository of that name is: at most 40 of `a-z`, `0-9`, `-`."""
    name = _NOT_IN_APP.sub("-", repository_name.lower()).strip("-")[:MAX_APP].rstrip("-")
    if not name:
        raise RefusedError(
            f"repository name {quote(repository_name)} has no letter a-z and no digit: "
            "no app name can be made of it"
        )
    return name


def check_app(name: str) -> str:
    """`name`, if it is an app's name as `app_name` makes them."""
    if len(name) > MAX_APP or not _APP.fullmatch(name):
        raise RefusedError(
            f"{quote(name)} is not a valid app name: use at most {MAX_APP} of a-z, 0-9 and -, "
            "without - at its ends"
        )
    return name


def check_token_name(name: str) -> str:
    """`name`, if a token may have it: what fits an app, too."""
    if len(name) > MAX_APP or not _APP.fullmatch(name):
        raise RefusedError(
            f"{quote(name)} is not a valid name of a token: use at most {MAX_APP} of a-z, 0-9 and -"
        )
    return name


def check_domain(text: str, own: Collection[str] = ()) -> str:
    """A name that requests may come for: lower case, in A-labels (RFC 5890).

    Refuses addresses, wildcards, ports, paths, `localhost`, and the names in `own`, which are those
    that the orchestrator itself is reached by, in lower case.
    """
    if len(text) > MAX_HOST:
        raise RefusedError(f"domain {quote(text)} is longer than {MAX_HOST} characters")
    if "*" in text:
        raise RefusedError(f"domain {quote(text)} contains a wildcard: use one host name")
    if "/" in text:
        raise RefusedError(f"domain {quote(text)} contains a path: use only the host name")
    if ":" in text or text.startswith("["):
        raise RefusedError(
            f"domain {quote(text)} is an address or contains a port: use only a host name"
        )
    try:
        name = normalize_host(text if text.isascii() else _to_ascii(text))
    except RouteError as error:
        raise RefusedError(str(error)) from None
    if is_address(name):
        raise RefusedError(f"domain {quote(text)} is an IP address: use a host name")
    _check_a_labels(name)
    if name == "localhost" or name in own:
        raise RefusedError(f"domain {name} is reserved for this machine: choose another one")
    return name


def _to_ascii(text: str) -> str:
    # UTS 46 is what browsers do to what is typed: full-width digits become digits, so that an
    # address may come out of it; that is looked for afterwards.
    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise RefusedError(f"domain {quote(text)} is not a valid DNS name") from None


def _check_a_labels(name: str) -> None:
    for label in name.split("."):
        if label.startswith("xn--"):
            try:
                idna.ulabel(label)
            except idna.IDNAError:
                raise RefusedError(
                    f"domain {quote(name)}: {label} is not a valid A-label (RFC 5891)"
                ) from None


def check_health_path(text: str) -> str:
    """A path, with a query if need be, that a new container is asked for.

    It is put into a request line behind the container's own address, and must not lead elsewhere.
    """
    if len(text) > MAX_HEALTH_PATH:
        raise RefusedError(f"the health path is longer than {MAX_HEALTH_PATH} characters")
    if not _HEALTH_PATH.fullmatch(text) or _NOT_IN_HEALTH_PATH.search(text):
        raise RefusedError(
            f"health path {quote(text)} is not valid: it must begin with /, such as /healthz, "
            "and contain no spaces, //, @, # or \\; encode other characters as %XX"
        )
    return text


def branch_of(ref: str) -> str | None:
    """The branch that a full reference names; None if it names none."""
    return ref.removeprefix(_HEADS) if ref.startswith(_HEADS) else None


def tag_of(ref: str) -> str | None:
    """The tag that a full reference names; None if it names none."""
    return ref.removeprefix(_TAGS) if ref.startswith(_TAGS) else None


def check_branch(name: str) -> str:
    """`name`, if git takes it as a branch's (git-check-ref-format) and no command as an option.

    The same holds for tags.
    """
    parts = name.split("/")
    if (
        not name
        or len(name.encode("utf-8", "replace")) > MAX_BRANCH
        or name.startswith("-")
        or name in ("@", "HEAD")
        or name.endswith(".")
        or _NOT_IN_BRANCH.search(name)
        or not name.isprintable()
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
    ):
        raise RefusedError(
            f"{quote(name)} is not a valid branch name: see `git help check-ref-format`; "
            "it must not begin with - or contain unprintable characters"
        )
    return name


def check_commit(text: str) -> str:
    """`text`, if it is a commit's whole name: SHA-1 or SHA-256, lower case, not all zeros."""
    if not _COMMIT.fullmatch(text) or not text.strip("0"):
        raise RefusedError(
            f"{quote(text)} is not a commit id: use all of its 40 or 64 digits, 0-9 and a-f"
        )
    return text


def split_credentials(url: str) -> tuple[str, str]:
    """A URL without its credentials, and these as "user:password", decoded; "" if it has none.

    A user of ssh:// is no secret and stays. Nothing else about the URL is checked, but its length:
    whatever is a secret is searched for from then on.
    """
    _check_length(url)
    scheme, rest = _split_scheme(url)
    authority, slash, path = rest.partition("/")
    userinfo, at, host = authority.rpartition("@")
    if scheme not in ("http", "https", "ssh") or not at:
        return url, ""
    user, colon, password = userinfo.partition(":")
    if scheme == "ssh":
        if colon:
            raise RefusedError("a password in an ssh:// URL is not supported: use an ssh key")
        return url, ""
    user, password = unquote(user), unquote(password)
    if ":" in user or not (user + password).isprintable():
        # RFC 7617 section 2, and a line break would be a line of git's credential protocol.
        raise RefusedError("the credentials in the clone URL contain an invalid character")
    bare = f"{url[: len(url) - len(rest)]}{host}{slash}{path}"
    return bare, f"{user}:{password}" if user or password else ""


def _check_length(url: str) -> None:
    if len(url) > MAX_URL:
        raise RefusedError(f"the clone URL is longer than {MAX_URL} characters")


def check_clone_url(url: str, *, allow_file: bool) -> str:
    """`url`, if git may clone from it: https, ssh, also as user@host:path; file if allowed.

    Credentials are to be split off before.
    """
    _check_length(url)
    _check_characters(url)
    scheme, rest = _split_scheme(url)
    if not scheme:
        return _check_scp(url)
    authority, slash, path = rest.partition("/")
    if scheme == "file":
        return _check_file(url, authority, path, allow_file)
    if scheme not in ("https", "ssh"):
        why = {
            "http": "http:// is not encrypted",
            "git": "git:// is not authenticated",
        }.get(scheme, f"protocol {quote(scheme)} is not supported")
        raise RefusedError(f"clone URL {_shown_url(url)}: {why}: {_URLS}")
    user, at, host = authority.rpartition("@")
    if at and (scheme == "https" or not _USER.fullmatch(user)):
        raise RefusedError(f"the clone URL has an invalid user: {_URLS}")
    name, colon, port = host.partition(":")
    if host.startswith("["):
        name, bracket, port = host.rpartition("]")
        name, colon, port = name + bracket, port[:1], port[1:]
    if colon and (colon != ":" or not _PORT.fullmatch(port) or int(port) > 65535):
        raise RefusedError(f"clone URL {_shown_url(url)} has an invalid port: {_URLS}")
    _check_host(url, name)
    if not path.strip("/") or not slash:
        raise RefusedError(f"clone URL {_shown_url(url)} has no path: {_URLS}")
    return url


def _split_scheme(url: str) -> tuple[str, str]:
    """The scheme of a URL in lower case and what comes after "://"; "" and all if it has none."""
    found = _SCHEME.match(url)
    return (found[1].lower(), url[found.end() :]) if found else ("", url)


def _shown_url(url: str) -> str:
    """As an error may repeat it: without credentials that should have been split off before."""
    return quote(_USERINFO.sub("", url))


def _check_characters(url: str) -> None:
    if url.startswith("-"):
        raise RefusedError(f"clone URL {_shown_url(url)} begins with -: {_URLS}")
    if _TRANSPORT.match(url):
        # ext::sh -c ... would run a command (git-remote-ext).
        raise RefusedError(f"clone URL {_shown_url(url)} uses a git remote helper: {_URLS}")
    if any(unicodedata.category(letter)[0] in "CZ" for letter in url) or "\\" in url:
        raise RefusedError(
            f"clone URL {_shown_url(url)} contains a space, a \\ or a control character: "
            "encode a space as %20"
        )
    if _ENCODED_CONTROL.search(url):
        raise RefusedError(f"clone URL {_shown_url(url)} contains an encoded control character")


def _check_host(url: str, name: str) -> None:
    # A host that begins with - would be an option of ssh (CVE-2017-1000117); normalize_host knows
    # no such host, and no % behind which git would find one.
    try:
        normalize_host(name)
    except RouteError:
        raise RefusedError(f"clone URL {_shown_url(url)} has an invalid host: {_URLS}") from None


def _check_scp(url: str) -> str:
    user, at, rest = url.partition("@")
    host, colon, path = rest.partition(":")
    if not at or not colon or not _USER.fullmatch(user) or not path.strip("/"):
        raise RefusedError(f"{_shown_url(url)} is not a valid clone URL: {_URLS}")
    if path.startswith("-"):
        raise RefusedError(f"clone URL {_shown_url(url)} has a path that begins with -: {_URLS}")
    _check_host(url, host)
    return url


def _check_file(url: str, authority: str, path: str, allow_file: bool) -> str:
    if not allow_file:
        raise RefusedError(
            f"clone URL {_shown_url(url)}: file:// is allowed only under FAIRLEAD_LOCAL_REPOS, or"
            " to an operator of this machine (`fairlead deploy`)"
        )
    if authority or not path:
        raise RefusedError(f"clone URL {_shown_url(url)}: use file:///PATH, with three slashes")
    return url

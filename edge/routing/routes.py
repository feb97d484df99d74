"""Owns what a route is, which texts are one, and which route a request takes.

Pure rules over text and bytes: no socket, no event loop, no database. `RouteTable` is an immutable
snapshot for its readers; a new one is made from the old one and a difference, so that one changed
row among 100,000 costs a copy of two dicts and not 100,000 parsed rows.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, NoReturn

import orjson

from edge.errors import RouteError
from edge.routing.checks import reject_unused_options
from edge.routing.options import DEFAULTS, RouteOptions, check_options, quote

MAX_HOST: Final = 253  # characters of a domain name without its trailing dot (RFC 1035 2.3.4)
MAX_LABEL: Final = 63  # characters (RFC 1035 2.3.4)
MAX_PORT: Final = 65535

_BLANK_OR_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
# What inet_aton, and with it many resolvers, would read as a part of an IPv4 address.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
# A segment of a path without percent-encoding: unreserved, sub-delims, ":" and "@" (RFC 3986 3.3).
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")

# What nearly every table is made of, recognized by two regular expressions, ten times as fast as
# the rules are: a name and a target in normal form. They accept nothing that the rules refuse.
_NORMAL_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NORMAL_NAME: Final = rf"(?:{_NORMAL_LABEL}\.)*+[a-z_](?:[a-z0-9_-]{{0,61}}[a-z0-9_])?"
_NORMAL_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_NORMAL_PORT: Final = (
    r"(?:[1-5][0-9]{4}|[1-9][0-9]{0,3}"
    r"|6(?:[0-4][0-9]{3}|5(?:[0-4][0-9]{2}|5(?:[0-2][0-9]|3[0-5]))))"
)
_is_normal_name: Final = re.compile(_NORMAL_NAME).fullmatch
_is_normal_target: Final = re.compile(
    rf"(?:{_NORMAL_OCTET}(?:\.{_NORMAL_OCTET}){{3}}|{_NORMAL_NAME}):{_NORMAL_PORT}"
).fullmatch


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table, in normal form.

    `key` is, `host[/prefix]`; `host` is a name, `*.name` or `*`; `prefix` is empty or
    begins, and never ends, with a slash. `weights` stand beside `targets`, 1 to 100.
    """

    key: str
    host: str
    prefix: bytes
    targets: tuple[str, ...]
    weights: tuple[int, ...]
    options: RouteOptions = DEFAULTS


def normalize_host(host: str) -> str:
    """The one spelling of a host: lower case, no trailing dot, IPv6 compressed in brackets.

    Raises RouteError for what is not a name (RFC 1123 2.1, underscores allowed), an IPv4 address or
    an IPv6 address in brackets.
    """
    if not host:
        raise RouteError("the host is empty: write a name, an IPv4 address or an [IPv6] address")
    if not host.isascii():
        _refuse_non_ascii(host)
    if _BLANK_OR_CONTROL.search(host):
        raise RouteError(f"host {quote(host)} contains a blank or a control character")
    if "@" in host:
        raise RouteError(
            f"host {quote(host)} contains user information: leave out everything up to the @"
        )
    name = host.lower()
    if name.startswith("["):
        return _normalize_ipv6(name)
    if ":" in name:
        raise RouteError(
            f"host {quote(host)} contains a colon: leave the port out, put an IPv6 address in"
            " brackets"
        )
    name = name.removesuffix(".")
    if len(name) > MAX_HOST:
        raise RouteError(f"host {quote(host)} is longer than {MAX_HOST} characters")
    labels = name.split(".")
    for label in labels:
        if not label:
            raise RouteError(f"host {quote(host)} has an empty label: remove the extra dot")
        if len(label) > MAX_LABEL:
            raise RouteError(f"host {quote(host)} has a label longer than {MAX_LABEL} characters")
        if "*" in label:
            raise RouteError(
                f"host {quote(host)} has a * in the wrong place: write * alone or *.name"
            )
        if not _LABEL.fullmatch(label):
            raise RouteError(
                f"host {quote(host)} is not a valid name: a label has letters, digits, - and _,"
                " and neither begins nor ends with -"
            )
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise RouteError(
                f"host {quote(host)} ends in a number but is not an IPv4 address"
            ) from None
    return name


def parse_key(text: str) -> tuple[str, bytes]:
    """`host[/prefix]` -> (host, prefix), both in normal form; host may be `*.name` or `*`.

    Raises RouteError.
    """
    if len(text) <= MAX_HOST and _is_normal_name(text):
        return text, b""
    if "://" in text:
        raise RouteError(f"{quote(text)} has a scheme: write HOST or HOST/PREFIX without it")
    pattern, slash, rest = text.partition("/")
    if slash and not pattern:
        raise RouteError(f"{quote(text)} begins with a slash: write HOST/PREFIX")
    prefix = _parse_prefix(text, rest) if slash else b""
    if pattern == "*":
        return "*", prefix
    if pattern.startswith("*."):
        host = normalize_host(pattern[2:])
        if host.startswith("[") or _NUMBER.fullmatch(host.rpartition(".")[2]):
            raise RouteError(f"{quote(pattern)}: a wildcard needs a name after it, not an address")
        if len(host) + 2 > MAX_HOST:
            raise RouteError(f"host {quote(pattern)} is longer than {MAX_HOST} characters")
        return f"*.{host}", prefix
    return normalize_host(pattern), prefix


def parse_target(text: str) -> str:
    """`name:port`, `IPv4:port` or `[IPv6]:port`, in normal form. Raises RouteError."""
    if len(text) <= MAX_HOST and _is_normal_target(text):
        return text
    if not text:
        raise RouteError("a target is empty: write HOST:PORT, several with a comma between")
    scheme, mark, _ = text.partition("://")
    if mark:
        raise RouteError(f"target {quote(text)} has a scheme: leave out {quote(scheme + mark)}")
    if "/" in text:
        raise RouteError(f"target {quote(text)} has a path: write HOST:PORT alone")
    host, colon, port = text.rpartition(":")
    # The colon of a bare "[::1]" is inside the address.
    if not colon or port.endswith("]"):
        raise RouteError(f"target {quote(text)} has no port: write HOST:PORT")
    if not _PORT.fullmatch(port) or int(port) > MAX_PORT:
        raise RouteError(
            f"target {quote(text)}: port {quote(port)} is not a number from 1 to {MAX_PORT}"
        )
    try:
        name = normalize_host(host)
    except RouteError as error:
        raise RouteError(f"target {quote(text)}: {error}") from None
    return f"{name}:{port}"


def parse_route(domain: str, target: str, options: str | None = None) -> Route:
    """One row of the store -> Route. `target` is a list with commas, `options` a JSON object.

    Raises RouteError, also for an option that is unknown, of the wrong type or without effect.
    """
    host, prefix = parse_key(domain)
    targets = tuple(parse_target(one) for one in target.split(","))
    for index, one in enumerate(targets):
        if one in targets[:index]:
            raise RouteError(
                f"target {quote(one)} is given twice: use --weight to send it more requests"
            )
    key = host + prefix.decode("ascii")
    if options is None:
        return Route(key, host, prefix, targets, (1,) * len(targets))
    try:
        found = check_options(orjson.loads(options))
    except orjson.JSONDecodeError as error:
        raise RouteError(f"the options are not JSON: {error}") from None
    if found.strip and not prefix:
        raise RouteError("option 'strip' needs a prefix: write HOST/PREFIX, or leave strip out")
    reject_unused_options(found, DEFAULTS)
    weights = _weights_of(found.weights, targets)
    if found.weights:
        pairs = zip(targets, weights, strict=True)
        found = replace(found, weights={name: weight for name, weight in pairs if weight != 1})
    return Route(key, host, prefix, targets, weights, found)


def _weights_of(found: Mapping[str, int], targets: tuple[str, ...]) -> tuple[int, ...]:
    weights = dict.fromkeys(targets, 1)
    for text, weight in found.items():
        target = parse_target(text)
        if target not in weights:
            raise RouteError(
                f"option 'weights' names {quote(text)}, which is not a target of this route"
            )
        weights[target] = weight
    return tuple(weights.values())


def _normalize_ipv6(host: str) -> str:
    # A zone ("%eth0") means something only on the machine that wrote it (RFC 6874).
    try:
        if not host.endswith("]") or "%" in host:
            raise ValueError
        return f"[{ipaddress.IPv6Address(host[1:-1])}]"
    except ValueError:
        raise RouteError(f"host {quote(host)} is not an IPv6 address in brackets") from None


def _parse_prefix(text: str, rest: str) -> bytes:
    if not rest or rest.endswith("/"):
        raise RouteError(f"{quote(text)} ends with a slash: remove it")
    for segment in rest.split("/"):
        if not segment:
            raise RouteError(f"{quote(text)} has two slashes in a row: remove one")
        if segment in {".", ".."}:
            raise RouteError(f"{quote(text)} has the segment {segment} in its prefix")
        if not _SEGMENT.fullmatch(segment):
            raise RouteError(
                f"{quote(text)}: a prefix is a plain path, without blanks, ?, #, %, \\"
                " and non-ASCII characters"
            )
    return f"/{rest}".encode("ascii")


def _refuse_non_ascii(host: str) -> NoReturn:
    # Lower case and NFKC are what browsers do before they encode (UTS 46); the codec "idna" of the
    # standard library would turn sharp s into ss, which names another host.
    labels = unicodedata.normalize("NFKC", host.lower()).split(".")
    letters = all(unicodedata.category(c)[0] in "LMN" or c in "-_" for c in "".join(labels))
    encoded = ".".join(
        label if label.isascii() else f"xn--{label.encode('punycode').decode('ascii')}"
        for label in labels
    )
    hint = ""
    if letters:
        try:
            hint = f": write {normalize_host(encoded)}"
        except RouteError:
            pass  # There is no name to offer; the refusal stands.
    raise RouteError(f"host {quote(host)} is not ASCII{hint}")


class Candidate(NamedTuple):
    """A route that a request could have taken, and the reason why it does or does not."""

    route: Route
    chosen: bool
    reason: str


# A route that nobody has asked for yet is its text: `targets` or `targets NUL options`. Text is
# nothing to the garbage collector and is freed fast; 100,000 Route objects would stop the loop for
# tens of milliseconds at a full collection, and again when a replaced table is let go.
_Entry = str | Route


class _Paths:
    """The routes of one host that has a prefix on any of them."""

    __slots__ = ("longest", "routes")

    def __init__(self, routes: dict[bytes, _Entry]) -> None:
        self.routes = routes
        self.longest = 0  # bytes of the longest prefix

    def find(self, path: bytes) -> bytes | None:
        """The longest prefix that `path` begins with, on a border of segments.

        The steps are bounded by the deepest prefix here, never by the length of the path.
        """
        end = path.find(b"?", 0, self.longest + 1)
        head = path[: end if end >= 0 else self.longest + 1]
        while head not in self.routes:
            if not head:
                return None
            head = head[: max(head.rfind(b"/"), 0)]
        return head


class RouteTable:
    """An immutable snapshot of all routes. `RouteTable()` is empty; `changed` makes the next one.

    `version` is the store's counter.
    """

    __slots__ = (
        "_checked",
        "_count",
        "_duplicates",
        "_hosts",
        "_invalid",
        "_target_counts",
        "_wildcards",
        "version",
    )

    def __init__(self) -> None:
        self.version = 0
        self._count = 0
        self._target_counts: dict[str, int] = {}
        self._wildcards = 0
        self._hosts: dict[str, _Entry | _Paths] = {}
        self._invalid: dict[str, str] = {}
        self._duplicates: dict[str, dict[str, _Entry]] = {}
        self._checked: dict[tuple[str, bytes], Route] = {}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Route]:
        for host, found in list(self._hosts.items()):
            if isinstance(found, _Paths):
                for prefix, entry in list(found.routes.items()):
                    yield _parse_entry(host, prefix, entry)
            else:
                yield _parse_entry(host, b"", found)

    def __contains__(self, key: object) -> bool:
        """Whether a route has this key, `Route.key`."""
        if not isinstance(key, str):
            return False
        host, slash, rest = key.partition("/")
        found = self._hosts.get(host)
        if isinstance(found, _Paths):
            return f"{slash}{rest}".encode() in found.routes
        return found is not None and not slash

    def __repr__(self) -> str:
        return f"<RouteTable version {self.version}, {self._count} routes>"

    @property
    def target_counts(self) -> Mapping[str, int]:
        """How many routes name each target; a target that none names is not in it."""
        return self._target_counts

    @property
    def checked(self) -> Collection[Route]:
        """The routes whose targets are checked (`RouteOptions.health_path`)."""
        return self._checked.values()

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each row that is skipped."""
        lines = [f"route {quote(row)} is skipped: {why}" for row, why in self._invalid.items()]
        for key, rows in self._duplicates.items():
            winner = _winner(key, rows)
            lines += [
                f"route {quote(row)} is skipped: {quote(winner)} is the same route"
                for row in rows
                if row != winner
            ]
        return tuple(sorted(lines))

    def match(self, host: str, path: bytes) -> Route | None:
        """The route of a request, or None.

        `host` is valid, in lower case, without port and trailing dot; `path` is the target in
        origin form, or `*`. The exact host comes before `*.suffix` (the longest first), that before
        `*`; inside each the longest prefix on a border of segments wins.
        """
        found = self._hosts.get(host)
        if found.__class__ is Route:
            return found
        if found is not None:
            route = self._resolve(host, found, path)
            if route is not None:
                return route
        if self._wildcards:
            dot = host.find(".")
            while dot >= 0:
                pattern = f"*{host[dot:]}"
                found = self._hosts.get(pattern)
                if found is not None:
                    route = self._resolve(pattern, found, path)
                    if route is not None:
                        return route
                dot = host.find(".", dot + 1)
        found = self._hosts.get("*")
        return None if found is None else self._resolve("*", found, path)

    def get(self, key: str) -> Route | None:
        """The route that has this key, `Route.key`, or None."""
        host, slash, rest = key.partition("/")
        prefix = f"{slash}{rest}".encode("ascii")
        found = self._hosts.get(host)
        if isinstance(found, _Paths):
            found = found.routes.get(prefix)
        elif prefix:
            return None
        return None if found is None else _parse_entry(host, prefix, found)

    def candidates(self, host: str, path: bytes) -> tuple[Candidate, ...]:
        """Every route whose host fits, the most specific first, and why it wins or loses."""
        chosen = self.match(host, path)
        found: list[Candidate] = []
        for pattern in _patterns(host):
            for route in self._routes_of(pattern):
                if route == chosen:
                    reason = "its host is the most specific match and its prefix the longest"
                elif not _has_prefix(path, route.prefix):
                    reason = f"the path does not begin with {route.prefix.decode()}"
                elif chosen is not None and chosen.host == pattern:
                    reason = f"the longer prefix {chosen.prefix.decode()} wins"
                else:
                    assert chosen is not None  # its host and prefix fit, so something was chosen
                    reason = f"the host {chosen.host} is more specific than {pattern}"
                found.append(Candidate(route, route == chosen, reason))
        found += [
            Candidate(route, False, f"{route.host} does not match {host} itself")
            for route in self._routes_of(f"*.{host}")
        ]
        return tuple(found)

    def changed(
        self,
        version: int,
        targets: Mapping[str, str],
        options: Mapping[str, str] | None = None,
        gone: Iterable[str] = (),
    ) -> "RouteTable":
        """The table after a change of rows, which are named by their domain as it is stored.

        `targets` holds the target list of each row that is new or different, `options` their
        options as JSON; `gone` are the rows that are no more. A row that cannot be a route is
        skipped and becomes one of `problems`. Of several rows that spell one domain differently,
        the one in normal form counts, else the first by its characters.
        """
        builder = _TableBuilder(self)
        for row in gone:
            builder.remove(row)
        known = options or {}
        for row, target in targets.items():
            builder.put(row, target, known.get(row))
        table = RouteTable()
        table.version = version
        builder.finish(table)
        return table

    def _resolve(self, pattern: str, found: _Entry | _Paths, path: bytes) -> Route | None:
        """The route among those of one host; kept unfolded, for it will be asked for again."""
        if isinstance(found, _Paths):
            prefix = found.find(path)
            if prefix is None:
                return None
            route = _parse_entry(pattern, prefix, found.routes[prefix])
            found.routes[prefix] = route
        else:
            route = _parse_entry(pattern, b"", found)
            self._hosts[pattern] = route
        return route

    def _routes_of(self, pattern: str) -> list[Route]:
        found = self._hosts.get(pattern)
        if found is None:
            return []
        entries = found.routes if isinstance(found, _Paths) else {b"": found}
        return [
            _parse_entry(pattern, prefix, entries[prefix])
            for prefix in sorted(entries, key=len, reverse=True)
        ]


class _TableBuilder:
    """A table in the making: copies of the old one's dicts, changed row by row."""

    def __init__(self, base: RouteTable) -> None:
        self._count = base._count
        self._wildcards = base._wildcards
        self._hosts = base._hosts.copy()
        self._invalid = base._invalid.copy()
        self._duplicates = {key: rows.copy() for key, rows in base._duplicates.items()}
        # dict() would insert one by one after a removal.
        self._target_counts = base._target_counts.copy()
        self._checked = base._checked.copy()
        self._own: dict[str, _Paths] = {}  # those that belong to this builder alone

    def put(self, row: str, target: str, options: str | None) -> None:
        """Insert or replace a row."""
        if (
            options is None
            and row not in self._duplicates
            and row not in self._invalid
            and len(row) <= MAX_HOST
            and len(target) <= MAX_HOST
            and _is_normal_name(row)
            and _is_normal_target(target)
        ):
            self._insert(row, b"", target)
            return
        self.remove(row)
        try:
            route = parse_route(row, target, options)
        except RouteError as error:
            self._invalid[row] = str(error)
            return
        entry = ",".join(route.targets) + ("" if options is None else f"\0{options}")
        key = route.key
        if row != key or key in self._duplicates:
            rows = self._duplicates.get(key)
            if rows is None:
                # Only a row in normal form stands in the table without a claim.
                held = self._delete(route.host, route.prefix)
                rows = self._duplicates[key] = {} if held is None else {key: held}
            rows[row] = entry
            self._choose_duplicate(key, route.host, route.prefix)
        else:
            self._insert(route.host, route.prefix, entry)

    def remove(self, row: str) -> None:
        """Delete a row if it is there."""
        if self._invalid.pop(row, None) is not None:
            return
        try:
            host, prefix = parse_key(row)
        except RouteError:
            return
        key = host + prefix.decode("ascii")
        rows = self._duplicates.get(key)
        if rows is not None:
            rows.pop(row, None)
            self._choose_duplicate(key, host, prefix)
        elif row == key:
            self._delete(host, prefix)

    def finish(self, table: RouteTable) -> None:
        """Hand everything over to `table`; the builder is not used after it."""
        for paths in self._own.values():
            paths.longest = max(map(len, paths.routes), default=0)
        table._target_counts = self._target_counts
        table._count = self._count
        table._wildcards = self._wildcards
        table._hosts = self._hosts
        table._invalid = self._invalid
        table._duplicates = self._duplicates
        table._checked = self._checked

    def _choose_duplicate(self, key: str, host: str, prefix: bytes) -> None:
        rows = self._duplicates[key]
        if rows:
            self._insert(host, prefix, rows[_winner(key, rows)])
        else:
            self._delete(host, prefix)
        if not rows.keys() - {key}:
            del self._duplicates[key]

    def _insert(self, host: str, prefix: bytes, entry: _Entry) -> None:
        held = self._hosts.get(host)
        old: _Entry | None = None
        if held is None:
            self._wildcards += host.startswith("*.")
            if prefix:
                self._hosts[host] = self._own[host] = _Paths({prefix: entry})
            else:
                self._hosts[host] = entry
        elif isinstance(held, _Paths):
            routes = self._copy_on_write(host, held).routes
            old = routes.get(prefix)
            routes[prefix] = entry
        elif prefix:
            self._hosts[host] = self._own[host] = _Paths({b"": held, prefix: entry})
        else:
            old = held
            self._hosts[host] = entry
        if old is None:
            self._count += 1
        else:
            self._uncount_targets(old)
            self._checked.pop((host, prefix), None)
        if _may_have_checks(entry):
            route = _parse_entry(host, prefix, entry)
            if route.options.health_path is not None:
                self._checked[host, prefix] = route
        for target in _targets(entry):
            self._target_counts[target] = self._target_counts.get(target, 0) + 1

    def _delete(self, host: str, prefix: bytes) -> _Entry | None:
        held = self._hosts.get(host)
        if held is None:
            return None
        if isinstance(held, _Paths):
            routes = self._copy_on_write(host, held).routes
            entry = routes.pop(prefix, None)
            if routes.keys() == {b""}:
                self._hosts[host] = routes[b""]
                del self._own[host]
            elif not routes:
                del self._hosts[host], self._own[host]
        elif prefix:
            entry = None
        else:
            entry = held
            del self._hosts[host]
        if host not in self._hosts:
            self._wildcards -= host.startswith("*.")
        if entry is not None:
            self._count -= 1
            self._uncount_targets(entry)
            self._checked.pop((host, prefix), None)
        return entry

    def _copy_on_write(self, host: str, held: _Paths) -> _Paths:
        owned = self._own.get(host)
        if owned is None:
            owned = self._hosts[host] = self._own[host] = _Paths(held.routes.copy())
        return owned

    def _uncount_targets(self, entry: _Entry) -> None:
        for target in _targets(entry):
            left = self._target_counts[target] - 1
            if left:
                self._target_counts[target] = left
            else:
                del self._target_counts[target]


def _winner(key: str, rows: Mapping[str, _Entry]) -> str:
    return key if key in rows else min(rows)


def _targets(entry: _Entry) -> Iterable[str]:
    return entry.partition("\0")[0].split(",") if isinstance(entry, str) else entry.targets


def _may_have_checks(entry: _Entry) -> bool:
    """Whether a row has a `health_path`, or could: JSON may write any letter as an escape."""
    if isinstance(entry, Route):
        return True
    options = entry.partition("\0")[2]
    return "health_path" in options or "\\" in options


def _parse_entry(host: str, prefix: bytes, entry: _Entry) -> Route:
    if isinstance(entry, Route):
        return entry
    targets, _, options = entry.partition("\0")
    return parse_route(host + prefix.decode("ascii"), targets, options or None)


def _patterns(host: str) -> Iterator[str]:
    yield host
    dot = host.find(".")
    while dot >= 0:
        yield f"*{host[dot:]}"
        dot = host.find(".", dot + 1)
    yield "*"


def _has_prefix(path: bytes, prefix: bytes) -> bool:
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in {b"", b"/", b"?"}

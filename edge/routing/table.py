"""Owns which route a request takes. Pure.

`RouteTable` is an immutable snapshot for its readers.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from edge.errors import quote
from edge.routing.options import DEFAULTS
from edge.routing.route import Route
from edge.routing.table_builder import (
    Contents,
    Entry,
    Paths,
    TableBuilder,
    is_served,
    parse_entry,
    winner,
)
from edge.wire.path import (
    ambiguous_path,
    boldest_readings,
    has_dot_segments,
    is_clean,
    merge_slashes,
    normalize,
    strip_prefix,
)


class Candidate(NamedTuple):
    """A route that a request could have taken, and the reason why it does or does not."""

    route: Route
    chosen: bool
    reason: str


class Normalized(NamedTuple):
    """A route that is found by the normal form of the path, and the target with that path.

    As it came, the path would have led elsewhere, here or in an application: this one goes on.
    """

    route: Route
    target: bytes


class RouteTable:
    """An immutable snapshot of all routes. `RouteTable()` is empty; `changed` makes the next one.

    `version` is the store's counter.
    """

    __slots__ = ("_contents", "_hosts", "_wildcards", "version")

    def __init__(self, version: int = 0, contents: Contents | None = None) -> None:
        self.version = version
        self._contents = contents or Contents()
        # Every request looks at these two.
        self._hosts = self._contents.hosts
        self._wildcards = self._contents.wildcards

    def __len__(self) -> int:
        return self._contents.count

    def __iter__(self) -> Iterator[Route]:
        for host, found in list(self._hosts.items()):
            entries = found.routes if isinstance(found, Paths) else {b"": found}
            for prefix, entry in list(entries.items()):
                route = parse_entry(host, prefix, entry)
                if route.targets:
                    yield route

    def __contains__(self, key: object) -> bool:
        """Whether a route has this key, `Route.key`."""
        if not isinstance(key, str):
            return False
        host, slash, rest = key.partition("/")
        found = self._hosts.get(host)
        if isinstance(found, Paths):
            found = found.routes.get(f"{slash}{rest}".encode())
        elif slash:
            return False
        return found is not None and is_served(found)

    def __repr__(self) -> str:
        return f"<RouteTable version {self.version}, {self._contents.count} routes>"

    @property
    def target_counts(self) -> Mapping[str, int]:
        """How many routes name each target; a target that none names is not in it."""
        return self._contents.target_counts

    @property
    def checked(self) -> Collection[Route]:
        """The routes whose targets are checked (`RouteOptions.health_path`)."""
        return self._contents.checked.values()

    @property
    def managed(self) -> Collection[Route]:
        """The routes whose targets the orchestrator has confirmed, or found to be gone."""
        return self._contents.managed.values()

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each row that is not served as it says."""
        invalid = self._contents.invalid
        lines = [f"route {quote(row)} {what}" for row, what in invalid.items()]
        for key, rows in self._contents.duplicates.items():
            served = winner(key, rows)
            lines += [
                f"route {quote(row)} is skipped: {quote(served)} is the same route"
                for row in rows
                if row != served and row not in invalid
            ]
        return tuple(sorted(lines))

    def match(self, host: str, target: bytes) -> Route | Normalized | None:
        """The route of a request, or None.

        `host` is valid, in lower case, without port and trailing dot; `target` is in origin form,
        or `*`. The exact host comes before `*.suffix` (the longest first), that before `*`; inside
        each the longest prefix on a border of segments wins. Where prefixes decide, they are
        compared with the normal form of the path; raises `HttpError` 400 if it has none, or if an
        application could read a path that another route is for.
        """
        found = self._hosts.get(host)
        if found.__class__ is Route:
            return found
        if found is not None:
            if found.__class__ is Paths and not is_clean(target):
                return self._match_normalized(host, target)
            route = self._resolve(host, found, target)
            if route is not None:
                return route
        if self._wildcards:
            dot = host.find(".")
            while dot >= 0:
                pattern = f"*{host[dot:]}"
                found = self._hosts.get(pattern)
                if found is not None:
                    if found.__class__ is Paths and not is_clean(target):
                        return self._match_normalized(host, target)
                    route = self._resolve(pattern, found, target)
                    if route is not None:
                        return route
                dot = host.find(".", dot + 1)
        found = self._hosts.get("*")
        if found is None:
            return None
        if found.__class__ is Paths and not is_clean(target):
            return self._match_normalized(host, target)
        return self._resolve("*", found, target)

    def get(self, key: str) -> Route | None:
        """The route that has this key, `Route.key`, or None."""
        host, slash, rest = key.partition("/")
        prefix = f"{slash}{rest}".encode("ascii")
        found = self._hosts.get(host)
        if isinstance(found, Paths):
            found = found.routes.get(prefix)
        elif prefix:
            return None
        return None if found is None else parse_entry(host, prefix, found)

    def candidates(self, host: str, target: bytes) -> tuple[Candidate, ...]:
        """Every route whose host fits, the most specific first, and why it wins or loses.

        Raises `HttpError` 400 as `match` does.
        """
        chosen = self.match(host, target)
        path = target
        if isinstance(chosen, Normalized):
            chosen, path = chosen
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
                    assert chosen is not None  # noqa: S101  its host and prefix fit, so something was chosen
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
        options as JSON; `gone` are the rows that are no more. A row that cannot be a route becomes
        one of `problems`; if its domain can be read, what would take it finds a route that is
        unavailable, has no targets and is neither counted nor among the routes. Of several rows
        that spell one domain differently, the one in normal form counts, else the first by its
        characters.
        """
        builder = TableBuilder(self._contents)
        for row in gone:
            builder.remove(row)
        known = options or {}
        for row, target in targets.items():
            builder.put(row, target, known.get(row))
        return RouteTable(version, builder.finish())

    def _match_normalized(self, host: str, target: bytes) -> Route | Normalized | None:
        """As `match`, for a path that could be read in several ways."""
        came, mark, query = target.partition(b"?")
        path = normalize(came, merge_slashes=False)
        route = self._find(host, path)
        merging = route is None or route.options.merge_slashes == "on"
        if merging and b"//" in came:
            path = normalize(came)
            route = self._find(host, path)
        prefix, rest, options = b"", path, DEFAULTS
        if route is not None:
            prefix, options = route.prefix, route.options
            rest = path[len(prefix) :]
            if options.strip:
                rest = strip_prefix(path, prefix)
        for read in boldest_readings(rest, options.escaped_slashes == "reject"):
            if options.strip and read.startswith(b"//"):
                raise ambiguous_path()
            whole = prefix + read
            if self._find(host, merge_slashes(whole) if merging else whole) is not route:
                raise ambiguous_path()
        if route is None:
            return None
        if not has_dot_segments(came) and self._find(host, came) is route:
            # Less decoding and merging than was done finds no other prefix.
            return route
        return Normalized(route, path + mark + query)

    def _find(self, host: str, path: bytes) -> Route | None:
        """The route by the path as it is."""
        for pattern in _patterns(host):
            found = self._hosts.get(pattern)
            if found is not None:
                route = found if isinstance(found, Route) else self._resolve(pattern, found, path)
                if route is not None:
                    return route
        return None

    def _resolve(self, pattern: str, found: Entry | Paths, path: bytes) -> Route | None:
        """The route among those of one host; kept unfolded, for it will be asked for again."""
        if isinstance(found, Paths):
            prefix = found.find(path)
            if prefix is None:
                return None
            route = parse_entry(pattern, prefix, found.routes[prefix])
            found.routes[prefix] = route
        else:
            route = parse_entry(pattern, b"", found)
            self._hosts[pattern] = route
        return route

    def _routes_of(self, pattern: str) -> list[Route]:
        found = self._hosts.get(pattern)
        if found is None:
            return []
        entries = found.routes if isinstance(found, Paths) else {b"": found}
        return [
            parse_entry(pattern, prefix, entries[prefix])
            for prefix in sorted(entries, key=len, reverse=True)
        ]


def _patterns(host: str) -> Iterator[str]:
    yield host
    dot = host.find(".")
    while dot >= 0:
        yield f"*{host[dot:]}"
        dot = host.find(".", dot + 1)
    yield "*"


def _has_prefix(path: bytes, prefix: bytes) -> bool:
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in {b"", b"/", b"?"}

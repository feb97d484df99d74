"""Owns which packages of a repository come from itself, or from git, by what its lock says. Pure.

pip and npm know nothing of another tool's lock or sources: they would ask a public index for such a
package by its name, and run what anybody has put there under it (dependency confusion).
"""

import json
import posixpath
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from orchestrator.errors import StepError
from orchestrator.source import setup_files
from orchestrator.source.tree import Tree, shown

# What says that a package is not of an index: uv's sources, and those of poetry, pdm and pipenv.
_LOCAL_KEYS: Final = frozenset(
    {"virtual", "editable", "directory", "path", "workspace", "git", "url", "file", "hg", "svn"}
)
_PYTHON_NAME: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(@?)")
_INCLUDED: Final = re.compile(r"\s*(?:-r|--requirement)[\s=]*(\S+)")
# In yarn.lock and bun.lock: NAME@workspace:PATH; the name may have a scope.
_NODE_LOCAL: Final = re.compile(r"((?:@[\w.-]+/)?[\w.-]+)@(?:workspace|link|file|portal):")
_NODE_DEPENDENCIES: Final = ("dependencies", "devDependencies", "optionalDependencies")
# Of a version that names no registry: a protocol, a path, or OWNER/REPOSITORY of GitHub.
_NODE_ELSEWHERE: Final = re.compile(r"(?!npm:)[a-z+]+:|[./~]|[^/@]+/[^/]+$")


def check_python(tree: Tree, project: Mapping[str, Any], *, installs_project: bool) -> None:
    """Raises StepError, kind "local_dependency", where pip would ask PyPI for such a package."""
    sources, needs = _python_lock(tree)
    tool = project.get("tool", {})
    sources |= _local(tool.get("uv", {}).get("sources", {}), "pyproject.toml")
    sources |= _local(tool.get("poetry", {}).get("dependencies", {}), "pyproject.toml")
    own = project.get("project", {})
    sources.pop(_normal(str(own.get("name", ""))), None)
    asked = {name for text in _requirement_lines(tree) for name in _python_names(text)}
    backend = str(project.get("build-system", {}).get("build-backend", ""))
    # Poetry writes where its packages are into the metadata that pip reads.
    if "requirements.txt" not in tree.files or (
        installs_project and not backend.startswith("poetry")
    ):
        asked |= {name for text in own.get("dependencies", ()) for name in _python_names(str(text))}
    if installs_project and sources:
        asked |= {name for text in _setup_lines(tree, project) for name in _python_names(text)}
    todo = list(asked)
    while todo:
        new = needs.get(todo.pop(), set()) - asked
        asked |= new
        todo += new
    _refuse(asked, sources, "PyPI")
    if sources:
        _refuse_included(tree)


def check_node(tree: Tree, package: Mapping[str, Any]) -> None:
    """The same of npm, where it has no lock of its own."""
    packages = [package, *_members(tree)]
    sources: dict[str, str] = {}
    for lock in ("yarn.lock", "bun.lock"):
        if lock in tree.files:
            sources |= dict.fromkeys(_NODE_LOCAL.findall(tree.text(lock)), lock)
    if "pnpm-lock.yaml" in tree.files:
        sources |= dict.fromkeys(_pnpm_local(tree.text("pnpm-lock.yaml")), "pnpm-lock.yaml")
    _refuse({name for each in packages for name in _node_names(each)}, sources, "the npm registry")
    if "workspaces" in package or "pnpm-workspace.yaml" in tree.files:
        members = {str(each.get("name")): "the workspace" for each in packages[1:]}
        _refuse(set(_node_names(package)), members, "the npm registry")


def _refuse(asked: Collection[str], sources: Mapping[str, str], index: str) -> None:
    found = sorted(sources.keys() & asked)
    if found:
        raise StepError(
            "local_dependency",
            f"{', '.join(found[:5])}: by {sources[found[0]]} from this repository or from git, but"
            f" would be asked of {index} by name, where it may be anybody's; add a Dockerfile that"
            " installs as the lock says",
        )


def _refuse_included(tree: Tree) -> None:
    """Raises StepError where requirements are in a file that was not looked at."""
    for line in _requirement_lines(tree):
        found = _INCLUDED.match(line)
        path = posixpath.normpath(found[1]) if found else ""
        if path and not _is_requirements(path):
            raise StepError(
                "local_dependency",
                f"what {shown(path)} asks of PyPI by name is not looked at, and some packages are"
                " from this repository or from git: move it beside requirements.txt, under a name"
                " such as requirements-base.txt",
            )


def _is_requirements(path: str) -> bool:
    return path.startswith("requirements") and path.endswith(".txt") and "/" not in path


def _python_lock(tree: Tree) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Packages that are local, with the lock that says so; and what each package needs."""
    sources: dict[str, str] = {}
    needs: dict[str, set[str]] = {}
    for lock in ("uv.lock", "poetry.lock", "pdm.lock"):
        if lock not in tree.files:
            continue
        try:
            packages = tomllib.loads(tree.text(lock)).get("package", [])
        except tomllib.TOMLDecodeError as error:
            raise StepError("bad_file", f"{lock} is not valid TOML: {error}") from None
        for package in packages:
            name = _normal(package["name"])
            needed = package.get("dependencies", ())
            names = (each["name"] if isinstance(each, dict) else str(each) for each in needed)
            needs.setdefault(name, set()).update(
                found for text in names for found in _python_names(text)
            )
            source = package.get("source", package)
            # Poetry names the kind of a source beside its address.
            kind = {str(source["type"])} if "type" in source else source.keys()
            if _LOCAL_KEYS & kind:
                sources[name] = lock
    if "Pipfile.lock" in tree.files:
        packages = json.loads(tree.text("Pipfile.lock")).get("default", {})
        sources |= _local(packages, "Pipfile.lock")
    return sources, needs


def _local(table: Mapping[str, Any], lock: str) -> dict[str, str]:
    """Of a table of packages, those whose value says where they are."""
    return {
        _normal(name): lock
        for name, value in table.items()
        for each in (value if isinstance(value, list) else [value])
        if isinstance(each, dict) and _LOCAL_KEYS & each.keys()
    }


def _setup_lines(tree: Tree, project: Mapping[str, Any]) -> list[str]:
    try:
        return setup_files.requirements(tree, project)
    except setup_files.UnknownError as error:
        raise StepError(
            "local_dependency",
            f"what {error} asks of PyPI by name cannot be told without running it, and some"
            " packages are from this repository or from git: list the dependencies in"
            " pyproject.toml (project.dependencies), or add a Dockerfile that installs as the lock"
            " says",
        ) from None


def _requirement_lines(tree: Tree) -> Iterator[str]:
    if "requirements.txt" in tree.files:
        for path in sorted(tree.files):
            if _is_requirements(path):
                yield from tree.text(path).splitlines()


def _python_names(requirement: str) -> list[str]:
    """The name that is asked of an index; none of an option, a path or a direct reference."""
    found = _PYTHON_NAME.match(requirement)
    rest = requirement[found.end() :] if found else ""
    if found is None or found[2] or rest[:1] in ("/", ":", "\\"):
        return []
    return [_normal(found[1])]


def _normal(name: str) -> str:
    """As indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _members(tree: Tree) -> Iterator[dict[str, Any]]:
    """The other packages of a workspace."""
    for path in sorted(tree.contents):
        if path.endswith("/package.json"):
            try:
                found = json.loads(tree.text(path))
            except ValueError:
                continue  # it may be a template, or a test's
            if isinstance(found, dict):
                yield found


def _node_names(package: Mapping[str, Any]) -> Iterator[str]:
    for key in _NODE_DEPENDENCIES:
        listed = package.get(key)
        for name, version in listed.items() if isinstance(listed, dict) else ():
            if not _NODE_ELSEWHERE.match(str(version)):
                yield name


def _pnpm_local(text: str) -> Iterator[str]:
    """Names above a line such as `version: link:../lib`."""
    name = ""
    for line in text.splitlines():
        key, colon, value = line.strip().partition(":")
        if colon and not value.strip():
            name = key.strip("'\"")
        elif key == "version" and value.strip().startswith(("link:", "file:", "workspace:")):
            yield name

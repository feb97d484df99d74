"""Owns how a Python repository is run: by its own server, or by gunicorn or uvicorn, never by a
server of files. Pure; sources are read by their syntax tree, never imported.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from orchestrator.errors import StepError
from orchestrator.source import local_packages
from orchestrator.source.tree import Tree

PORT: Final = 8000
# Where a program starts, by name, the likeliest first.
ENTRY_MODULES: Final = ("wsgi", "asgi", "main", "app", "server", "application", "api", "run")
# What makes an app object, by full name, and what serves it.
FRAMEWORKS: Final = {
    "bottle.Bottle": "gunicorn",
    "django.core.asgi.get_asgi_application": "uvicorn",
    "django.core.wsgi.get_wsgi_application": "gunicorn",
    "falcon.App": "gunicorn",
    "falcon.asgi.App": "uvicorn",
    "fastapi.FastAPI": "uvicorn",
    "flask.Flask": "gunicorn",
    "litestar.Litestar": "uvicorn",
    "quart.Quart": "uvicorn",
    "starlette.applications.Starlette": "uvicorn",
}
# Functions without arguments that make one.
FACTORY_NAMES: Final = ("create_app", "make_app", "get_app")
SERVERS: Final = {"gunicorn": "gunicorn>=22,<24", "uvicorn": "uvicorn>=0.30,<1"}


class AppObject(NamedTuple):
    """Something that a server can serve."""

    path: str
    name: str
    server: str
    is_factory: bool


def find_command(tree: Tree) -> tuple[list[str], tuple[str, ...]]:
    """The command that runs it, and how that was found. Raises StepError."""
    for line in tree.contents.get("Procfile", "").splitlines():
        kind, colon, command = line.partition(":")
        if colon and kind.strip() == "web" and command.strip():
            return ["sh", "-c", command.strip()], (f"Procfile: {line.strip()}",)
    runs_itself = ""
    for path in _candidates(tree):
        # One at a time: the tree of a source takes up to 300 times its size.
        module = _parsed(tree, path)
        found = app_object(path, module) if module else None
        if found is not None:
            return serve_command(found), (f"{found.server} serves {found.name} of {path}",)
        if module and not runs_itself and _is_script(module):
            runs_itself = path
    scripts = _scripts(tree)
    if len(scripts) == 1:
        return [scripts[0]], (f"pyproject.toml: script {scripts[0]}",)
    if runs_itself:
        return ["python", runs_itself], (f"{runs_itself} runs by itself",)
    for path in sorted(tree.files):
        if path == "__main__.py":
            return ["python", "."], (path,)
        if path.endswith("/__main__.py") and path.count("/") == 1:
            return ["python", "-m", path.partition("/")[0]], (path,)
    looked = ", ".join(f"{name}.py" for name in ENTRY_MODULES)
    raise StepError(
        "no_start_command",
        f"cannot detect how to run this Python app: {looked} have no app object of Flask,"
        " Django, FastAPI, Starlette, Quart, Litestar, Falcon or Bottle and no __main__;"
        " add a Procfile with a line such as `web: gunicorn --bind 0.0.0.0:$PORT package:app`",
    )


def options(tree: Tree, command: list[str]) -> dict[str, Any]:
    """What is to be installed for `command`, and where modules are."""
    requirements = "requirements.txt" in tree.files
    project = _pyproject(tree)
    is_package = "build-system" in project or "setup.py" in tree.files
    listed = project.get("project", {}).get("dependencies", [])
    packages = [] if requirements or is_package else [str(package) for package in listed]
    server = next((name for name in SERVERS if f"/{name}" in f"/{command[0]}"), "")
    if "Pipfile" in tree.files and not (requirements or packages or is_package):
        raise StepError(
            "no_requirements",
            "a Pipfile alone is not supported: add requirements.txt"
            " (`pipenv requirements > requirements.txt`)",
        )
    installs_project = is_package and (not requirements or command in _script_commands(tree))
    local_packages.check_python(tree, project, installs_project=installs_project)
    if server and not _requires(tree, server):
        packages.append(SERVERS[server])
    return {
        "command": command,
        "requirements": requirements,
        # What a script of pyproject.toml runs is the installed package, whatever else is listed.
        "install_project": installs_project,
        "packages": packages,
    }


def serve_command(found: AppObject) -> list[str]:
    """The server's command for an app object."""
    folder, _, file = found.path.rpartition("/")
    package = folder.removeprefix("src").strip("/").replace("/", ".")
    stem = file.removesuffix(".py")
    module = ".".join(filter(None, (package, "" if stem == "__init__" else stem)))
    if found.server == "gunicorn":
        call = "()" if found.is_factory else ""
        # Its heartbeat's file must not be on the image's disk, where it can block for seconds.
        return [
            *("gunicorn", f"--bind=0.0.0.0:{PORT}", "--workers=2", "--threads=4"),
            *("--worker-tmp-dir=/dev/shm", f"{module}:{found.name}{call}"),
        ]
    factory = ["--factory"] if found.is_factory else []
    return ["uvicorn", "--host=0.0.0.0", f"--port={PORT}", *factory, f"{module}:{found.name}"]


def app_object(path: str, module: ast.Module) -> AppObject | None:
    """What a module makes at its top, or by a factory."""
    imported = _imported(module)
    for statement in _statements(module.body):
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            continue
        server = _server(value, imported)
        if server:
            for target in targets:
                if isinstance(target, ast.Name):
                    return AppObject(path, target.id, server, False)
    for statement in module.body:
        if isinstance(statement, ast.FunctionDef) and statement.name in FACTORY_NAMES:
            arguments = statement.args
            needed = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
            for inner in ast.walk(statement):
                server = _server(inner, imported | _imported(statement))
                if server and needed == 0 and None not in arguments.kw_defaults:
                    return AppObject(path, statement.name, server, True)
    return None


def _server(value: ast.AST, imported: dict[str, str]) -> str:
    if not isinstance(value, ast.Call):
        return ""
    parts: list[str] = []
    called: ast.expr = value.func
    while isinstance(called, ast.Attribute):
        parts.append(called.attr)
        called = called.value
    if not isinstance(called, ast.Name) or called.id not in imported:
        return ""
    return FRAMEWORKS.get(".".join([imported[called.id], *reversed(parts)]), "")


def _imported(module: ast.AST) -> dict[str, str]:
    """Local names and what they stand for."""
    found = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                # Starlette is FastAPI's too.
                found[alias.asname or alias.name] = name
    return found


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Those that run when a module is imported."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.Try | ast.With) or (
            isinstance(statement, ast.If) and not _is_main_guard(statement)
        ):
            yield from _statements(statement.body)


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.dump(statement.test)


def _is_script(module: ast.Module) -> bool:
    """Whether it does something beside defining things."""
    return any(
        _is_main_guard(statement)
        or isinstance(statement, ast.With | ast.While | ast.For)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call | ast.Await))
        for statement in module.body
    )


def _candidates(tree: Tree) -> list[str]:
    """Sources that may be where it starts: by name, the ones nearer to the top first."""
    files = [f"{name}.py" for name in ENTRY_MODULES]
    found = [
        path
        for path in tree.files
        if path.endswith(".py")
        and (path.rpartition("/")[2] in files or path.endswith("/__init__.py"))
        and not re.search(r"(^|/)(tests?|examples?|docs|migrations)/", path)
    ]
    if not any("/" not in path for path in found):
        # One script of another name is still the one to run.
        found += [path for path in tree.files if path.endswith(".py") and "/" not in path]

    def likeliness(path: str) -> tuple[int, int, str]:
        file = path.rpartition("/")[2]
        return path.count("/"), files.index(file) if file in files else len(files), path

    return sorted(found, key=likeliness)


def _parsed(tree: Tree, path: str) -> ast.Module | None:
    try:
        return ast.parse(tree.contents.get(path, ""))
    except (SyntaxError, ValueError, RecursionError):
        return None  # it may be for another version of Python


def _pyproject(tree: Tree) -> dict[str, Any]:
    if "pyproject.toml" not in tree.files:
        return {}
    try:
        return tomllib.loads(tree.text("pyproject.toml"))
    except tomllib.TOMLDecodeError as error:
        raise StepError("no_start_command", f"pyproject.toml is not valid TOML: {error}") from None


def _scripts(tree: Tree) -> list[str]:
    return list(_pyproject(tree).get("project", {}).get("scripts", {}))


def _script_commands(tree: Tree) -> list[list[str]]:
    return [[script] for script in _scripts(tree)]


def _requires(tree: Tree, package: str) -> bool:
    """Whether the repository installs a package itself."""
    listed = (
        text
        for path, text in tree.contents.items()
        if path.startswith("requirements") or path == "pyproject.toml"
    )
    return any(re.search(rf"(?m)(^|[\s\"']){package}\b", text) for text in listed)

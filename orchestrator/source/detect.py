"""Owns the answer to "what is this repository, and how is it run?". Pure.

A Dockerfile wins; then what the languages' own files say; then a page. The answer carries its
evidence, and a repository that cannot be run gets told what to add.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.errors import StepError
from orchestrator.source import detect_python, local_packages
from orchestrator.source.fetches import fetches
from orchestrator.source.tree import Tree

# The port that an app of each runtime listens on.
PORTS: Final = {"dockerfile": 8080, "go": 8080, "node": 3000, "python": 8000, "static": 80}
# Where the pages of a static site are looked for.
SITE_FOLDERS: Final = ("", "public", "dist", "build", "site", "_site", "www", "html", "docs")
# Folders that a Go program reads when it runs; its sources stay out of the image.
GO_ASSETS: Final = ("assets", "migrations", "public", "static", "templates", "views", "web")
PYTHON_FILES: Final = ("requirements.txt", "pyproject.toml", "setup.py", "Pipfile")

# In go.mod: a module that another folder of the repository stands in for.
_GO_BESIDE: Final = re.compile(r"=>\s*\.\.?/")


@dataclass(frozen=True, slots=True)
class Detection:
    """`options` are what the runtime's Dockerfile template asks for; of a Dockerfile that is there,
    what it makes the engine fetch."""

    runtime: str
    evidence: tuple[str, ...]
    port: int
    options: dict[str, Any] = field(default_factory=dict)


def detect(tree: Tree) -> Detection:
    """Raises StepError for a repository that nobody here can run."""
    if "Dockerfile" in tree.links:
        raise StepError(
            "unsafe_dockerfile", "the Dockerfile is a symbolic link: replace it with a file"
        )
    if "Dockerfile" in tree.files:
        return _dockerfile(tree)
    if "go.mod" in tree.files:
        return _go(tree)
    node, skip_reason = _node(tree)
    if node is not None:
        return node
    if any(name in tree.files for name in PYTHON_FILES) or _has_python_at_top(tree):
        command, evidence = detect_python.find_command(tree)
        named = tuple(name for name in PYTHON_FILES if name in tree.files)
        return _detection("python", *named, *evidence, **detect_python.options(tree, command))
    if skip_reason:
        raise StepError("no_start_command", skip_reason)
    for folder in SITE_FOLDERS:
        page = f"{folder}/index.html" if folder else "index.html"
        if page in tree.files:
            return _detection("static", page, folder=folder)
    raise StepError(
        "unknown_runtime",
        "cannot detect how to run this repository: no Dockerfile, go.mod, package.json,"
        f" {', '.join(PYTHON_FILES)} or *.py in its root, and no index.html there or in"
        f" {', '.join(filter(None, SITE_FOLDERS))}; add one of them, such as a Dockerfile",
    )


def _detection(runtime: str, *evidence: str, **options: Any) -> Detection:
    return Detection(runtime, evidence, PORTS[runtime], options)


def _dockerfile(tree: Tree) -> Detection:
    fetched = [each.as_dict() for each in fetches(tree.text("Dockerfile"))]
    return _detection("dockerfile", "Dockerfile", fetches=fetched)


def _go(tree: Tree) -> Detection:
    """The program is at the top, or the only one (or the module's own) in cmd/."""
    programs = sorted(
        {
            path.rpartition("/")[0]
            for path, text in tree.contents.items()
            if path.endswith(".go") and not path.endswith("_test.go") and _is_go_program(text)
        }
    )
    module = _go_module(tree.text("go.mod")).rpartition("/")[2]
    commands = [folder for folder in programs if folder.startswith("cmd/")]
    if "" in programs:
        package = "."
    elif f"cmd/{module}" in commands:
        package = f"./cmd/{module}"
    elif len(commands) == 1:
        package = f"./{commands[0]}"
    else:
        found = ", ".join(programs) or "none"
        raise StepError(
            "no_start_command",
            "go.mod found, but not one package main in the root or in cmd/"
            f" (found: {found}); move it there, or add a Dockerfile",
        )
    return _detection(
        "go",
        "go.mod",
        f"package main in {package}",
        package=package,
        # What is beside it is no matter of the proxy of modules.
        whole_tree="go.work" in tree.files or bool(_GO_BESIDE.search(tree.text("go.mod"))),
        assets=[name for name in GO_ASSETS if tree.has_folder(name)],
    )


def _go_module(text: str) -> str:
    for line in text.splitlines():
        if line.startswith("module "):
            return line.removeprefix("module ").strip().strip('"')
    return ""


def _is_go_program(text: str) -> bool:
    return any(line.split("//")[0].split() == ["package", "main"] for line in text.splitlines())


def _node(tree: Tree) -> tuple[Detection | None, str]:
    """How Node starts it; else None, and why not, if package.json has more to it than a page."""
    if "package.json" not in tree.files:
        return None, ""
    try:
        package = json.loads(tree.text("package.json"))
        scripts = package.get("scripts") or {}
        main = package.get("main") or "index.js"
        start, build = scripts.get("start"), scripts.get("build")
    except (ValueError, AttributeError):
        raise StepError("no_start_command", "package.json is not a valid JSON object") from None
    main = str(main).removeprefix("./")
    if start:
        command, evidence = ["npm", "start"], f"script start: {start}"
    elif "server.js" in tree.files:
        command, evidence = ["node", "server.js"], "server.js"
    elif main in tree.files:
        command, evidence = ["node", main], f"main: {main}"
    elif build or "index.html" not in tree.files:
        return None, (
            'package.json has no script "start", no main that exists and no server.js:'
            " add a start script"
        )
    else:
        return None, ""
    locks = ("package-lock.json", "npm-shrinkwrap.json")
    lock = next((name for name in locks if name in tree.files), "")
    if not lock:
        local_packages.check_node(tree, package)
    return _detection(
        "node",
        "package.json",
        evidence,
        *filter(None, (lock,)),
        command=command,
        install=["npm", "ci" if lock else "install"],
        build=bool(build),
    ), ""


def _has_python_at_top(tree: Tree) -> bool:
    return any(path.endswith(".py") and "/" not in path for path in tree.files)

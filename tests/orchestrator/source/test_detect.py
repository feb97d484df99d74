"""Proves how a repository's runtime, and the way to run it, is found."""

import json
import os
from pathlib import Path

import pytest

from orchestrator.errors import StepError
from orchestrator.source.detect import Detection, detect
from orchestrator.source.tree import MAX_FILE_BYTES, Tree, read_tree

FLASK = "from flask import Flask\napp = Flask(__name__)\n"
MAIN = "package main\n"


def tree(**files: str) -> Tree:
    return of(files)


def of(files: dict[str, str]) -> Tree:
    return Tree(frozenset(files), files)


def python(source: str, path: str = "app.py", **files: str) -> list[str]:
    command: list[str] = detect(of({path: source, **files})).options["command"]
    return command


def node(package: object, *others: str) -> Detection:
    return detect(of({"package.json": json.dumps(package), **dict.fromkeys(others, "")}))


class TestWhichRuntime:
    @pytest.mark.parametrize(
        ("files", "runtime", "port"),
        [
            ({"Dockerfile": "", "go.mod": "", "package.json": "{}"}, "dockerfile", 8080),
            ({"go.mod": "module m", "main.go": MAIN, "package.json": "{}"}, "go", 8080),
            ({"package.json": '{"scripts":{"start":"x"}}', "app.py": FLASK}, "node", 3000),
            ({"package.json": "{}", "index.html": "", "app.py": FLASK}, "python", 8000),
            ({"requirements.txt": "", "app.py": FLASK}, "python", 8000),
            ({"index.html": ""}, "static", 80),
            ({"public/index.html": "", "README.md": ""}, "static", 80),
        ],
    )
    def test_each_is_known_by_its_files(
        self, files: dict[str, str], runtime: str, port: int
    ) -> None:
        found = detect(of(files))
        assert (found.runtime, found.port) == (runtime, port)
        assert found.evidence

    def test_what_nobody_can_run_is_told_what_to_add(self) -> None:
        with pytest.raises(StepError, match="add one of them, such as a Dockerfile") as caught:
            detect(of({"README.md": ""}))
        assert caught.value.kind == "unknown_runtime"

    def test_a_dockerfile_that_is_a_link_is_refused(self) -> None:
        with pytest.raises(StepError, match="replace it with a file"):
            detect(Tree(frozenset(), {}, frozenset({"Dockerfile"})))


class TestGo:
    def package(self, *folders: str) -> str:
        files = {f"{folder}main.go": MAIN for folder in folders}
        package: str = detect(of({"go.mod": "module example.com/own\n", **files})).options[
            "package"
        ]
        return package

    def test_the_program_is_at_the_top_or_in_cmd(self) -> None:
        assert self.package("", "cmd/tool/") == "."
        assert self.package("cmd/any/") == "./cmd/any"
        assert self.package("cmd/other/", "cmd/own/") == "./cmd/own"

    def test_of_several_programs_none_is_guessed(self) -> None:
        with pytest.raises(StepError, match="found: cmd/a, cmd/b"):
            self.package("cmd/a/", "cmd/b/")

    def test_folders_that_it_reads_go_along(self) -> None:
        files = {"go.mod": "", "main.go": MAIN, "templates/x.html": "", "internal/x.go": ""}
        assert detect(of(files)).options["assets"] == ["templates"]


class TestNode:
    def test_the_start_script_wins(self) -> None:
        found = node({"scripts": {"start": "x", "build": "y"}, "main": "a.js"}, "a.js", "server.js")
        assert found.options == {
            "command": ["npm", "start"],
            "install": ["npm", "install"],
            "build": True,
        }

    def test_else_it_is_the_server_or_the_main_file(self) -> None:
        assert node({}, "server.js").options["command"] == ["node", "server.js"]
        assert node({"main": "./a.js"}, "a.js").options["command"] == ["node", "a.js"]
        assert node({}, "index.js").options["command"] == ["node", "index.js"]

    def test_a_lock_is_installed_as_it_stands(self) -> None:
        found = node({}, "index.js", "package-lock.json")
        assert found.options["install"] == ["npm", "ci"]

    @pytest.mark.parametrize("package", [{}, {"main": "gone.js"}])
    def test_without_a_start_it_is_told_what_to_add(self, package: object) -> None:
        with pytest.raises(StepError, match='no script "start"') as caught:
            node(package)
        assert caught.value.kind == "no_start_command"

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"scripts": 3}'])
    def test_a_broken_package_is_told(self, text: str) -> None:
        with pytest.raises(StepError, match=r"package.json is not a valid JSON object"):
            detect(of({"package.json": text}))


class TestPython:
    GUNICORN = (
        *("gunicorn", "--bind=0.0.0.0:8000", "--workers=2", "--threads=4"),
        "--worker-tmp-dir=/dev/shm",
    )
    UVICORN = ("uvicorn", "--host=0.0.0.0", "--port=8000")

    @pytest.mark.parametrize(
        ("source", "name"),
        [
            (FLASK, "app"),
            ("import flask as f\nsite = f.Flask('x')", "site"),
            ("import falcon\napi = falcon.App()", "api"),
            ("from bottle import Bottle as B\ntry:\n  b: B = B()\nexcept: pass", "b"),
            ("from flask import Flask\ndef create_app(x=1):\n  return Flask('x')", "create_app()"),
            (
                "import django.core.wsgi as w\napplication = w.get_wsgi_application()",
                "application",
            ),
        ],
    )
    def test_gunicorn_serves_wsgi(self, source: str, name: str) -> None:
        assert python(source) == [*self.GUNICORN, f"app:{name}"]

    @pytest.mark.parametrize(
        ("source", "name"),
        [
            ("import fastapi\nx = fastapi.FastAPI()", "x"),
            ("from starlette.applications import Starlette\nx: object = Starlette()", "x"),
            ("import falcon.asgi\nx = falcon.asgi.App()", "x"),
        ],
    )
    def test_uvicorn_serves_asgi(self, source: str, name: str) -> None:
        assert python(source) == [*self.UVICORN, f"app:{name}"]

    @pytest.mark.parametrize(
        ("path", "module"),
        [
            ("main.py", "main"),
            ("src/main.py", "main"),
            ("src/pkg/app.py", "pkg.app"),
            ("pkg/__init__.py", "pkg"),
        ],
    )
    def test_the_module_is_named_as_it_is_imported(self, path: str, module: str) -> None:
        assert python(FLASK, path, **{"requirements.txt": ""})[-1] == f"{module}:app"

    def test_djangos_wsgi_module_wins_over_its_asgi_module(self) -> None:
        source = "from django.core.{0} import get_{0}_application as g\napplication = g()"
        files = {f"site/{kind}.py": source.format(kind) for kind in ("asgi", "wsgi")}
        assert python("", "requirements.txt", **files)[-1] == "site.wsgi:application"

    def test_a_procfile_wins(self) -> None:
        assert python(FLASK, Procfile="worker: a\nweb: python b.py $PORT\n") == [
            *("sh", "-c", "python b.py $PORT")
        ]

    def test_a_factory_that_needs_something_and_an_object_in_a_function_are_none(self) -> None:
        source = "from flask import Flask\ndef create_app(x):\n  return Flask('x')\n"
        with pytest.raises(StepError):
            python(source)
        with pytest.raises(StepError):
            python("from flask import Flask\ndef f():\n  app = Flask('')\n")

    def test_a_script_that_does_something_is_run(self) -> None:
        assert python("import x\nx.serve()", "main.py") == ["python", "main.py"]
        assert python("if __name__ == '__main__':\n  pass", "any.py") == ["python", "any.py"]

    def test_a_script_of_the_project_is_run(self) -> None:
        toml = '[build-system]\nrequires=[]\n[project]\nname="x"\nscripts={serve="x:main"}\n'
        found = detect(of({"pyproject.toml": toml}))
        assert found.options["command"] == ["serve"]
        assert found.options["install_project"]

    def test_without_a_way_to_run_it_a_procfile_is_asked_for(self) -> None:
        with pytest.raises(StepError, match="add a Procfile") as caught:
            python("def f(): pass")
        assert caught.value.kind == "no_start_command"

    def test_a_source_that_does_not_parse_is_passed_over(self) -> None:
        assert python("print 1", **{"main.py": FLASK})[-1] == "main:app"

    def test_the_server_is_installed_unless_the_repository_does_it(self) -> None:
        def packages(requirements: str) -> list[str]:
            files = {"app.py": FLASK, "requirements.txt": requirements}
            found: list[str] = detect(of(files)).options["packages"]
            return found

        assert packages("flask\n") == ["gunicorn>=22,<24"]
        assert packages("flask\ngunicorn==21\n") == []

    def test_dependencies_of_a_project_that_is_no_package_are_installed(self) -> None:
        toml = '[project]\nname="x"\ndependencies=["flask>=3"]\n'
        found = detect(of({"app.py": FLASK, "pyproject.toml": toml}))
        assert found.options["packages"] == ["flask>=3", "gunicorn>=22,<24"]


class TestReading:
    def test_links_are_told_and_never_followed(self, tmp_path: Path) -> None:
        (tmp_path / "Dockerfile").symlink_to("/etc/hostname")
        (tmp_path / "folder").symlink_to("/etc")
        found = read_tree(tmp_path, print)
        assert found.links == {"Dockerfile", "folder"}
        assert not found.files

    def test_only_small_texts_are_read(self, tmp_path: Path) -> None:
        (tmp_path / "big.py").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
        (tmp_path / "binary.py").write_bytes(b"\xff")
        (tmp_path / "Procfile").write_bytes("\ufeffweb: x".encode())
        os.mkfifo(tmp_path / "pipe.py")
        found = read_tree(tmp_path, print)
        assert found.contents == {"Procfile": "web: x"}
        assert found.files == {"big.py", "binary.py", "Procfile", "pipe.py"}

    def test_other_peoples_code_is_not_looked_at(self, tmp_path: Path) -> None:
        for name in ("node_modules/x/app.py", ".git/app.py", "a/b/c/d/e/app.py", "a/app.py"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("")
        assert read_tree(tmp_path, print).files == {"a/app.py"}

"""Proves that no package which comes from the repository, or git, is asked of a public index."""

import json
import re
from typing import ClassVar

import pytest

from orchestrator.errors import StepError
from orchestrator.source.detect import Detection, detect
from orchestrator.source.dockerfile import render
from orchestrator.source.tree import Tree

APP = "from flask import Flask\napp = Flask(__name__)\n"
NEEDS_LIB = '[project]\nname = "app"\ndependencies = ["flask", "My_Lib>=1"]\n'


def of(files: dict[str, str]) -> Detection:
    return detect(Tree(frozenset(files), files))


def python(**files: str) -> Detection:
    named = {name.replace("__", "."): text for name, text in files.items()}
    return of({"app.py": APP, **named})


def node(package: object, **files: str) -> Detection:
    named = {name.replace("__", ".").replace("SLASH", "/"): text for name, text in files.items()}
    return of({"server.js": "", "package.json": json.dumps(package), **named})


class TestPython:
    @pytest.mark.parametrize(
        "source",
        [
            '{ editable = "libs/my-lib" }',
            '{ virtual = "libs/my-lib" }',
            '{ directory = "libs/my-lib" }',
            '{ git = "https://git.test/my-lib?rev=1#2" }',
            '{ url = "https://a.test/my.whl" }',
        ],
    )
    def test_what_uv_has_locked_elsewhere_is_refused(self, source: str) -> None:
        lock = f'[[package]]\nname = "my-lib"\nversion = "1"\nsource = {source}\n'
        with pytest.raises(StepError, match=r"my-lib: by uv\.lock from this repository") as caught:
            python(pyproject__toml=NEEDS_LIB, uv__lock=lock)
        assert caught.value.kind == "local_dependency"

    def test_requirements_that_nobody_looks_at_are_refused_beside_such_a_lock(self) -> None:
        lock = '[[package]]\nname = "my-lib"\nsource = { editable = "lib" }\n'
        files = {"app.py": APP, "requirements.txt": "-r deps/base.txt\n"}
        with pytest.raises(StepError, match=r"what deps/base\.txt asks of PyPI") as caught:
            of({**files, "uv.lock": lock})
        assert caught.value.kind == "local_dependency"
        of(files)
        of({**files, "requirements.txt": "-r requirements-base.txt\n", "uv.lock": lock})

    @pytest.mark.parametrize(
        ("name", "lock"),
        [
            ("poetry.lock", '[[package]]\nname = "my-lib"\n[package.source]\ntype = "directory"\n'),
            ("poetry.lock", '[[package]]\nname = "my-lib"\n[package.source]\ntype = "git"\n'),
            ("pdm.lock", '[[package]]\nname = "my-lib"\npath = "./libs/my-lib"\n'),
            ("Pipfile.lock", '{"default": {"my-lib": {"editable": true, "path": "./x"}}}'),
        ],
    )
    def test_so_is_what_other_tools_have(self, name: str, lock: str) -> None:
        files = {"app.py": APP, "requirements.txt": "flask\nmy.lib[x] == 1\n", name: lock}
        with pytest.raises(StepError, match=f"my-lib: by {name}"):
            of(files)

    @pytest.mark.parametrize(
        "sources",
        [
            "[tool.uv.sources]\nmy-lib = { workspace = true }\n",
            '[tool.uv.sources]\nmy-lib = [{ path = "x", marker = "y" }]\n',
            '[tool.poetry.dependencies]\nmy-lib = { path = "x" }\n',
        ],
    )
    @pytest.mark.parametrize("build", ["", '[build-system]\nbuild-backend = "hatchling.build"\n'])
    def test_without_a_lock_the_project_itself_says_it(self, sources: str, build: str) -> None:
        with pytest.raises(StepError, match=r"my-lib: by pyproject\.toml"):
            python(pyproject__toml=NEEDS_LIB + sources + build)

    def test_what_only_another_package_needs_counts_too(self) -> None:
        lock = (
            '[[package]]\nname = "flask"\nsource = { registry = "https://index.test/simple" }\n'
            'dependencies = [{ name = "click" }]\n'
            '[[package]]\nname = "click"\nsource = { git = "https://git.test/fork" }\n'
        )
        with pytest.raises(StepError, match=r"click: by uv\.lock"):
            python(requirements__txt="flask\n", uv__lock=lock)

    def test_the_project_itself_and_packages_of_the_index_are_fine(self) -> None:
        lock = (
            '[[package]]\nname = "app"\nsource = { editable = "." }\n'
            '[[package]]\nname = "my-lib"\nsource = { registry = "https://index.test/simple" }\n'
        )
        found = python(pyproject__toml=NEEDS_LIB, uv__lock=lock)
        assert found.options["packages"][:2] == ["flask", "My_Lib>=1"]

    LOCK: ClassVar = '[[package]]\nname = "my-lib"\nsource = { editable = "lib" }\n'

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("setup.cfg", "[options]\ninstall_requires =\n    flask\n    My.Lib>=1\n"),
            ("setup.cfg", "[options]\ninstall_requires = flask; my_lib\n"),
            ("setup.cfg", "[options]\nsetup_requires = my-lib\n"),
            ("setup.py", "from setuptools import setup\nsetup(install_requires=['my_lib>1'])\n"),
            ("setup.py", "import setuptools as s\ns.setup(setup_requires='flask\\nmy-lib')\n"),
            ("pyproject.toml", '[build-system]\nrequires = ["setuptools", "my-lib"]\n'),
        ],
    )
    def test_what_an_install_of_the_project_asks_for_elsewhere_counts_too(
        self, name: str, text: str
    ) -> None:
        files = {"app.py": APP, "setup.py": "", "uv.lock": self.LOCK}
        with pytest.raises(StepError, match=r"my-lib: by uv\.lock") as caught:
            of({**files, name: text})
        assert caught.value.kind == "local_dependency"
        assert of({"app.py": APP, "setup.py": "", name: text}).runtime == "python"
        assert of({**files, name: re.sub("(?i)lib", "other", text)}).runtime == "python"
        # Where requirements are listed, the project itself is not installed.
        assert of({**files, "requirements.txt": "flask\n", name: text}).runtime == "python"

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("setup.cfg", "[options]\ninstall_requires = file: deps.txt\n"),
            ("setup.cfg", "install_requires"),
            ("setup.py", "import setuptools\nsetuptools.setup(install_requires=read('deps'))\n"),
            ("setup.py", "import setuptools\nsetuptools.setup(**CONFIG)\n"),
            ("setup.py", "def"),
            (
                "pyproject.toml",
                '[tool.setuptools.dynamic]\ndependencies = { file = ["deps.txt"] }\n',
            ),
        ],
    )
    def test_what_cannot_be_told_is_refused_beside_a_lock_with_such_packages(
        self, name: str, text: str
    ) -> None:
        files = {"app.py": APP, "setup.py": "", name: text}
        with pytest.raises(StepError, match="cannot be told without running it") as caught:
            of({**files, "uv.lock": self.LOCK})
        assert caught.value.kind == "local_dependency"
        assert of(files).runtime == "python"

    def test_what_names_its_place_itself_is_asked_of_nobody(self) -> None:
        lock = '[[package]]\nname = "my-lib"\nsource = { directory = "x" }\n'
        text = "flask\nmy-lib @ file:///app/x\n./my-lib\n-e ./my-lib\ngit+https://git.test/my-lib\n"
        assert python(requirements__txt=text, uv__lock=lock).runtime == "python"


class TestNode:
    PACKAGE: ClassVar = {"dependencies": {"express": "4", "@me/lib": "^1.0.0"}}

    @pytest.mark.parametrize(
        ("name", "lock"),
        [
            ("yarn__lock", '"@me/lib@^1.0.0, @me/lib@workspace:packages/lib":\n  version: 0.0.0\n'),
            ("bun__lock", '{"packages": {"@me/lib": ["@me/lib@workspace:packages/lib"]}}'),
            (
                "pnpm-lock__yaml",
                "importers:\n  .:\n    other:\n      '@me/lib':\n        version: link:lib\n",
            ),
        ],
    )
    def test_what_another_tools_lock_links_is_refused(self, name: str, lock: str) -> None:
        with pytest.raises(StepError, match=r"@me/lib: by .* asked of the npm registry"):
            node(self.PACKAGE, **{name: lock})
        assert node({"dependencies": {"express": "4"}}, **{name: lock}).runtime == "node"

    def test_a_member_of_the_workspace_is_asked_of_nobody(self) -> None:
        member = json.dumps({"name": "@me/lib", "version": "1.0.0"})
        workspace = {**self.PACKAGE, "workspaces": ["packages/*"]}
        with pytest.raises(StepError, match="@me/lib: by the workspace"):
            node(workspace, packagesSLASHlibSLASHpackage__json=member)
        locked = node(
            workspace, packagesSLASHlibSLASHpackage__json=member, **{"package-lock__json": "{}"}
        )
        assert locked.options["install"] == ["npm", "ci"]

    @pytest.mark.parametrize("version", ["file:x", "link:x", "workspace:*", "me/lib", "./x"])
    def test_what_names_its_place_itself_is_fine(self, version: str) -> None:
        package = {"dependencies": {"lib": version}}
        assert node(package, yarn__lock="lib@workspace:x:\n").runtime == "node"


class TestGo:
    @pytest.mark.parametrize(
        "files",
        [
            {"go.mod": "module m\n", "go.work": "use ./lib\n"},
            {"go.mod": "module m\nreplace a.test/lib => ./lib\n"},
            {"go.mod": "module m\nreplace (\n\ta.test/lib v1 => ../lib\n)\n"},
        ],
    )
    def test_modules_beside_it_are_there_before_any_is_fetched(self, files: dict[str, str]) -> None:
        text = render(of({**files, "main.go": "package main\n"}))
        assert "go mod download" not in text

    def test_else_they_are_fetched_before_the_sources_are_there(self) -> None:
        text = render(of({"go.mod": "module m\n", "main.go": "package main\n"}))
        assert text.index("go mod download") < text.index("COPY . .")

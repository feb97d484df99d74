"""Proves that an app of each runtime is detected, built by a real engine, and really answers."""

import io
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import httpx
import pytest
from docker.models.containers import Container

from orchestrator.source.build_context import dockerfile_name, tar_stream
from orchestrator.source.detect import detect
from orchestrator.source.dockerfile import render
from orchestrator.source.tree import read_tree
from tests.orchestrator import base_images
from tests.process import ask

# The base images are made from some hundred packages, and one process of the tests imports them.
pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("base images")]

PATIENCE = 60.0
LABEL = "fairlead.test.runtimes"
KEPT = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE"),
    *("SETGID", "SETUID"),
)

Files = dict[str, str]


class App:
    """A container that runs, as strictly held as a deploy's is."""

    def __init__(self, container: Container, port: int) -> None:
        self._container = container
        self._port = port

    def get(self, path: str) -> httpx.Response:
        """The first answer."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self._container.reload()
            published = self._container.ports.get(f"{self._port}/tcp")
            if self._container.status != "running" or not published:
                pytest.fail(f"{self._container.status}: {self._container.logs().decode()}")
            address = f"http://127.0.0.1:{published[0]['HostPort']}"
            try:
                return ask("GET", address + path, timeout=5)
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    pytest.fail(self._container.logs().decode())

    def finds(self, path: str) -> set[str]:
        """Every name below a folder of its disk."""
        archive, _ = self._container.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as tar:
            return {name.partition("/")[2] for name in tar.getnames()}

    def user(self) -> str:
        """Whom it runs as."""
        return str(self._container.attrs["Config"]["User"])


Deploys = Callable[[Files], App]


@pytest.fixture(scope="module")
def builder(engine_host: str) -> str:
    """An engine with the images that the templates build on."""
    base_images.make(engine_host)
    return engine_host


@pytest.fixture
def deploys(builder: str, tmp_path: Path) -> Iterator[Deploys]:
    """Detects, builds and starts; what it made is removed."""
    client = docker.DockerClient(builder, timeout=600)
    tag = f"fairlead-test-runtimes:{tmp_path.name.lower().strip('_')}-{os.getpid()}"
    tree = tmp_path / "tree"

    def deploy(files: Files) -> App:
        for name, text in {**files, ".git/config": "x", ".env": "SECRET=1"}.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        detection = detect(read_tree(tree, print))
        dockerfile = None if detection.runtime == "dockerfile" else render(detection)
        context = tar_stream(
            tree, dockerfile=dockerfile, max_bytes=10**7, on_warning=print, on_read=print
        )
        output = client.api.build(
            fileobj=context,  # type: ignore[arg-type]
            custom_context=True,
            dockerfile=dockerfile_name(tree, generated=dockerfile is not None),
            tag=tag,
            rm=True,
            forcerm=True,
            decode=True,
            labels={LABEL: "1"},
        )
        said = [json.dumps(line) for line in output]
        assert "Successfully tagged" in said[-1], "\n".join(said)
        container = client.containers.run(
            tag,
            detach=True,
            ports={f"{detection.port}/tcp": ("127.0.0.1", 0)},
            labels={LABEL: "1"},
            cap_drop=["ALL"],
            cap_add=list(KEPT),
            security_opt=["no-new-privileges"],
            pids_limit=512,
            mem_limit="256m",
            init=True,
        )
        return App(container, detection.port)

    yield deploy
    for container in client.containers.list(
        all=True, filters={"ancestor": tag}, ignore_removed=True
    ):
        container.remove(force=True, v=True)
    client.images.remove(tag, force=True)
    client.images.prune({"label": LABEL})
    client.close()


def test_a_dockerfile_of_its_own_is_used(deploys: Deploys) -> None:
    app = deploys(
        {
            "Dockerfile": "FROM busybox:latest\nCOPY . /site\nUSER 1000:1000\nEXPOSE 8080\n"
            'CMD ["httpd", "-f", "-p", "8080", "-h", "/site"]\n',
            "index.html": "its own",
            ".dockerignore": ".env\n",
        }
    )
    assert app.get("/").text == "its own"
    assert app.finds("/site") == {"", "Dockerfile", ".dockerignore", "index.html"}


def test_a_go_program_is_built_and_answers_without_its_sources(deploys: Deploys) -> None:
    app = deploys(
        {
            "go.mod": "module example.com/hello\n\ngo 1.19\n",
            "cmd/hello/main.go": "package main\n"
            'import ("net/http"; "os")\n'
            "func main() {\n"
            '  http.Handle("/", http.FileServer(http.Dir("static")))\n'
            '  http.ListenAndServe(":" + os.Getenv("PORT"), nil)\n'
            "}\n",
            "static/index.html": "hello from go",
        }
    )
    assert app.get("/").text == "hello from go"
    assert app.finds("/app") == {"", "app", "static", "static/index.html"}
    assert app.user() == "1000:1000"


def test_a_node_server_is_built_and_started_by_its_script(deploys: Deploys) -> None:
    server = (
        'const page = require("fs").readFileSync("built.txt");'
        'require("http").createServer((_, answer) => answer.end(page))'
        ".listen(process.env.PORT);"
    )
    scripts = {"build": "echo built > built.txt", "start": "node server.js"}
    package = {"name": "hello", "version": "1.0.0", "scripts": scripts}
    lock = {"name": "hello", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": package}}
    app = deploys(
        {
            "package.json": json.dumps(package),
            "package-lock.json": json.dumps(lock),
            "server.js": server,
        }
    )
    assert app.get("/").text == "built\n"
    assert not {".git", ".env"} & app.finds("/app")
    assert app.user() == "1000:1000"


def test_a_flask_app_is_served_by_gunicorn_and_its_source_by_nobody(deploys: Deploys) -> None:
    app = deploys(
        {
            "requirements.txt": "flask\n",
            "app.py": "from flask import Flask\nsite = Flask(__name__)\n"
            "@site.get('/')\ndef home(): return 'hello from flask'\n"
            "if __name__ == '__main__': site.run()\n",
        }
    )
    assert app.get("/").text == "hello from flask"
    assert app.get("/").headers["server"] == "gunicorn"
    assert app.get("/app.py").status_code == 404
    assert not {".git", ".env"} & app.finds("/app")
    assert app.user() == "1000:1000"


def test_a_starlette_app_is_served_by_uvicorn(deploys: Deploys) -> None:
    app = deploys(
        {
            "pyproject.toml": '[project]\nname = "hello"\nversion = "1"\n'
            'dependencies = ["starlette"]\n',
            "src/hello/main.py": "from starlette.applications import Starlette\n"
            "from starlette.responses import PlainTextResponse\n"
            "from starlette.routing import Route\n"
            "async def home(request): return PlainTextResponse('hello from starlette')\n"
            "app: Starlette = Starlette(routes=[Route('/', home)])\n",
            "src/hello/__init__.py": "",
        }
    )
    assert app.get("/").text == "hello from starlette"
    assert app.get("/").headers["server"] == "uvicorn"
    assert app.get("/src/hello/main.py").status_code == 404


def test_a_python_script_serves_by_itself(deploys: Deploys) -> None:
    app = deploys(
        {
            "serve.py": "import http.server, os\n"
            "class Handler(http.server.BaseHTTPRequestHandler):\n"
            "    def do_GET(self):\n"
            "        self.send_response(200)\n"
            "        self.end_headers()\n"
            "        self.wfile.write(b'hello from a script')\n"
            "address = ('', int(os.environ['PORT']))\n"
            "http.server.ThreadingHTTPServer(address, Handler).serve_forever()\n",
        }
    )
    assert app.get("/").text == "hello from a script"


def test_a_procfile_says_how_python_is_run(deploys: Deploys) -> None:
    app = deploys(
        {
            "Procfile": "web: cd pages && python -m http.server $PORT\n",
            "requirements.txt": "",
            "pages/index.html": "hello from a Procfile",
        }
    )
    assert app.get("/").text == "hello from a Procfile"


def test_a_static_site_is_served_without_what_is_not_of_the_site(deploys: Deploys) -> None:
    app = deploys(
        {
            "index.html": "a page",
            "about.html": "another",
            "css/site.css": "a {}",
            ".well-known/security.txt": "x",
            ".github/workflow": "x",
        }
    )
    assert app.get("/").text == "a page"
    assert app.get("/about").text == "another"
    assert app.get("/css/site.css").headers["content-type"] == "text/css"
    assert app.get("/.well-known/security.txt").status_code == 200
    assert app.get("/gone").status_code == 404
    assert app.get("/css").headers["location"] == "/css/"
    assert app.finds("/site") == {
        *("", "index.html", "about.html", "css", "css/site.css"),
        *(".well-known", ".well-known/security.txt"),
    }
    assert app.user() == "1000:1000"

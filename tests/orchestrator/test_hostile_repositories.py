"""Proves that no repository hurts the machine: each is pushed to the real daemon, which answers all
the while, and what its deploy ends with says what is wrong with it.
"""

import hashlib
import io
import json
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from orchestrator.source.fetches import OWN_PLATFORM
from orchestrator.source.tree import MAX_FILE_BYTES
from tests.harness import Conversation
from tests.orchestrator.daemon import LOOK_SECONDS, Daemon
from tests.orchestrator.repository import Repository, serving
from tests.process import Process, ask

PAUSE = re.compile(r"(?m)^fairlead_orchestrator_loop_pause_max_seconds (\S+)$")

API = "http://127.0.0.1:8081/api/apps"
LISTS = "x=[" + "1," * 500 + "]\n"

Make = Callable[[Repository], None]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "app")


@pytest.fixture
def edge(conversation: Conversation, tmp_path: Path) -> Process:
    return Process(conversation, tmp_path / "fairlead.db", workers="1")


@pytest.fixture
def daemon(conversation: Conversation, edge: Process, tmp_path: Path, engine_host: str) -> Daemon:
    return Daemon(conversation, edge.db, engine_host).starts()


@pytest.fixture
def answers(daemon: Daemon) -> Iterator[list[int]]:
    """What the daemon answers meanwhile to somebody who asks all the time."""
    answers: list[int] = []
    ended = threading.Event()

    def ask_on() -> None:
        with httpx.Client(timeout=30) as client:
            while not ended.is_set():
                answers.append(client.get(f"{daemon.url}/healthz").status_code)
                ended.wait(0.02)

    asking = threading.Thread(target=ask_on)
    asking.start()
    yield answers
    ended.set()
    asking.join()


def of(files: dict[str, str]) -> Make:
    return lambda repository: void(repository.commits(files))


def void(_: object) -> None:
    """Nothing of what a commit returns."""


def dockerfile(*lines: str) -> Make:
    return of({"Dockerfile": "\n".join(["FROM busybox", *lines, ""])})


def image_with(trigger: str, name: str) -> bytes:
    """As `docker load` takes it. No Dockerfile gives every trigger that an image can have."""
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    config = {
        "architecture": OWN_PLATFORM.partition("/")[2],
        "os": "linux",
        "config": {"OnBuild": [trigger]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(empty.getvalue()).hexdigest()}"],
        },
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        "config.json": json.dumps(config).encode(),
        "layer.tar": empty.getvalue(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    image = io.BytesIO()
    with tarfile.open(fileobj=image, mode="w") as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return image.getvalue()


def with_a_submodule(repository: Repository) -> None:
    """A site whose pages would be in a submodule, which is not fetched."""
    repository.commits({".gitmodules": '[submodule "s"]\n\tpath = site\n\turl = ext::sh -c id\n'})
    tip = repository.git("rev-parse", "HEAD")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{tip},site")
    repository.git("commit", "--quiet", "--message=submodule")


def with_pipes_for_links(repository: Repository) -> None:
    (repository.folder / "Dockerfile").symlink_to("/proc/self/fd/0")
    repository.commits({})


HOSTILE: list[tuple[str, Make, str, str]] = [
    ("deep JSON", of({"package.json": '{"a":' * 20_000}), "bad_file", "package.json: it is nested"),
    ("deep TOML", of({"pyproject.toml": "a=" + "[" * 20_000, "app.py": ""}), "bad_file", "toml"),
    (
        "odd JSON",
        of({"package.json": '{"main": {}, "scripts": []}'}),
        "no_start_command",
        "package",
    ),
    (
        "odd TOML",
        of({"pyproject.toml": "project=[1]", "main.py": ""}),
        "bad_file",
        "pyproject.toml",
    ),
    ("a huge file", of({"package.json": " " * MAX_FILE_BYTES + "{}"}), "bad_file", "package.json"),
    (
        "sources that take long",
        of({f"app{number}.py": LISTS * (MAX_FILE_BYTES // len(LISTS)) for number in range(30)}),
        "too_large",
        "CPU time, or all memory in app",
    ),
    ("a Dockerfile that is a link", with_pipes_for_links, "unsafe_dockerfile", "symbolic link"),
    (
        "a pointer of git LFS",
        of({"Dockerfile": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"}),
        "bad_file",
        "git LFS",
    ),
    ("a submodule", with_a_submodule, "unknown_runtime", "cannot detect"),
    (
        "a pattern that is none",
        of({**serving(""), ".dockerignore": "["}),
        "bad_dockerignore",
        "'['",
    ),
    (
        "ADD of the API",
        dockerfile("ADD http://127.0.0.1:8081/api/apps /x"),
        "",
        "no public address",
    ),
    ("ADD of a name of it", dockerfile("ADD http://localhost:8082/ /x"), "", "no public address"),
    ("ADD of a variable", dockerfile("ARG U", "ADD $U /x"), "", "is not certain"),
    (
        "ADD of a variable that is not ASCII",
        dockerfile("ENV U=a/", "ADD $U\u00e9 /x"),
        "",
        "is not certain",
    ),
    (
        "ADD of a variable that is set by another",
        dockerfile("ENV U=a/ P=U=http://127.0.0.1:8081/", "ENV $P=1", "ADD $U /x"),
        "",
        "is not certain",
    ),
    (
        "an argument that takes its value from no list",
        of({"Dockerfile": 'ARG I=fairlead-test/other:1\nARG ["I=busybox"]\nFROM $I\n'}),
        "",
        "is not certain",
    ),
    (
        "a mark that the engine leaves out",
        dockerfile('ADD ["\\ufeffhttp://127.0.0.1:8081/", "/x"]'),
        "",
        "no public address",
    ),
    (
        "a stage that is called as an image",
        of({"Dockerfile": "FROM busybox AS deadbeef\nCOPY --from=deadbeef / /\n"}),
        "",
        "may be the id of another app's image",
    ),
    (
        "a flag that ends elsewhere",
        dockerfile("ADD --chown='1\\' --x=' http://127.0.0.1:8081/ /x"),
        "",
        "a flag with",
    ),
    (
        "an image of another platform",
        of({"Dockerfile": "FROM --platform=linux/s390x busybox\n"}),
        "",
        "not supported",
    ),
    ("FROM of another app", dockerfile("FROM fairlead-test/other:1"), "", "image of another app"),
    ("FROM of an id", dockerfile("COPY --from=a / /"), "", "may be the id of another app's image"),
    ("a registry on loopback", dockerfile("FROM 127.0.0.1:5000/a"), "", "no public address"),
    ("the host's network", dockerfile("RUN --network=host true"), "", "--network=host"),
    ("a trigger", dockerfile("ONBUILD ADD https://a.test/ /"), "", "ONBUILD may not"),
]


def test_each_fails_with_its_reason_and_nothing_else_happens(
    daemon: Daemon, tmp_path: Path, answers: list[int]
) -> None:
    pushed: dict[str, int] = {}
    for number, (what, make, *_) in enumerate(HOSTILE):
        repository = Repository(tmp_path / f"app-{number}")
        make(repository)
        pushed[what] = daemon.is_pushed(repository, f"app-{number}", wait=0).json()["deploy_id"]
    for what, _, kind, text in HOSTILE:
        failed = daemon.ended(pushed[what])
        expected = ("failed", kind or "unsafe_dockerfile")
        assert (failed["state"], failed["error_kind"]) == expected, (what, failed["error"])
        assert text in failed["error"], what
    assert daemon.containers() == []
    assert set(answers) == {200}
    assert PAUSE.search(daemon.get("/metrics").text)


@pytest.mark.parametrize(
    "trigger",
    [
        f"ADD {API} /x",
        f"\nADD {API} /x",
        f"# escape=`\nADD {API} /x",
        f"ONBUILD ADD {API} /x",
    ],
)
def test_a_trigger_of_a_base_image_is_refused_before_the_build(
    daemon: Daemon, repository: Repository, trigger: str
) -> None:
    daemon.engine.images.load(image_with(trigger, "hostile-base:1"))
    try:
        repository.commits({"Dockerfile": "FROM hostile-base:1\n"})
        daemon.is_pushed(repository, "app", wait=30)
        failed = daemon.ended(1)
    finally:
        daemon.engine.images.remove("hostile-base:1")
    assert failed["error_kind"] == "unsafe_dockerfile"
    assert "the base image 'hostile-base:1' has a trigger" in failed["error"]


def test_a_base_image_that_is_nowhere_is_said(daemon: Daemon, repository: Repository) -> None:
    repository.commits({"Dockerfile": "FROM nobody/nothing:1\n"})
    daemon.is_pushed(repository, "app", wait=30)
    failed = daemon.ended(1)
    assert failed["error_kind"] == "base_image_missing"
    assert "cannot pull the base image of `FROM nobody/nothing:1`" in failed["error"]


def test_names_patterns_and_attributes_of_a_bad_mind_deploy_as_any_others(
    daemon: Daemon, edge: Process, repository: Repository, tmp_path: Path, answers: list[int]
) -> None:
    touched = tmp_path / "touched"
    files = serving("held")
    repository.commits(
        {
            **files,
            "Dockerfile": files["Dockerfile"].replace("FROM", f"FROM --platform={OWN_PLATFORM}"),
            "a\nb\x1b[31m": "",
            "'\"$(id)": "",
            ".dockerignore": "*a*a*a*a*a*a*a*a*a*a*b\n" + "**/" * 300 + "c\n",
            "a" * 90: "",
            ".gitattributes": "* filter=evil diff=evil merge=evil ident\n",
            ".gitconfig": f'[filter "evil"]\n\tsmudge = touch {touched}\n',
        }
    )
    (repository.folder / "loop").symlink_to("loop")
    (repository.folder / "here").symlink_to(".")
    repository.commits({})
    daemon.deploys(repository, "app", domain="app.test")
    url = f"http://127.0.0.1:{edge.port}/"
    assert ask("GET", url, headers={"Host": "app.test"}).text.strip() == "held"
    assert not touched.exists()
    assert set(answers) == {200}


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_hundred_thousand_files_deploy_while_the_daemon_answers(
    daemon: Daemon, repository: Repository, answers: list[int]
) -> None:
    for folder in range(100):
        (repository.folder / str(folder)).mkdir()
        for number in range(1000):
            (repository.folder / str(folder) / str(number)).touch()
    repository.commits(serving("many"))
    daemon.is_pushed(repository, "app", domain="app.test")
    while daemon.deploy(1)["state"] in ("queued", "running"):
        time.sleep(LOOK_SECONDS)
    assert daemon.deploy(1)["state"] == "live"
    assert set(answers) == {200}
    found = PAUSE.search(daemon.get("/metrics").text)
    assert found is not None
    shutil.rmtree(repository.folder)

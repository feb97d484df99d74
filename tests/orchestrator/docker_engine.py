"""Owns the Docker Engine of the tests: one that is reachable already, or one of their own.

As root on Debian, an engine is started in a temporary folder. Elsewhere the tests that need one are
skipped; where CI is "true", that is a failure.
"""

import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException, ImageNotFound

from tests.orchestrator.engine_network import EngineNetwork, OrdinaryNetwork
from tests.programs import free_port

START_SECONDS = 60.0
"""Within which an engine must answer; it takes two."""

LOOK_SECONDS = 0.05

MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 16 * 2**30
"""Bytes free, for an engine to keep its images in memory: the largest, which several may have, and
what is built on it, take 3 GiB."""

BUSYBOX = "busybox:latest"
"""What nearly every test builds on. It is made here: no registry can be reached."""

APP_SUBNETS: dict[str, str] = {}
"""FAIRLEAD_APP_SUBNETS for each engine of our own, by its address."""

_DOCKERFILE = b"""FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
"""


@contextmanager
def running() -> Iterator[str]:
    """The address of an engine that has the image BUSYBOX."""
    given = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if answers(given):
        make_busybox(given)
        yield given
        return
    lacks = what_is_missing()
    if lacks:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no Docker Engine: {lacks}")
        pytest.skip(f"no Docker Engine: {lacks}")
    with of_our_own() as process:
        yield process.host


def app_subnets(host: str) -> str:
    """FAIRLEAD_APP_SUBNETS for the engine at `host`."""
    return APP_SUBNETS.get(host, "10.213.0.0/16")


def what_is_missing() -> str:
    """Why no engine can be started here; empty if one can."""
    if os.geteuid() != 0:
        return "none is running, and only root can start one"
    for program in ("dockerd", "ip", "iptables", "busybox"):
        if shutil.which(program) is None:
            return f"{program} is not installed: run `make programs`"
    return ""


def answers(host: str) -> bool:
    """Whether an engine is there."""
    # docker-py never closes a socket that it cannot connect.
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as sock:
            if sock.connect_ex(host.removeprefix("unix://")) != 0:
                return False
    try:
        client = docker.DockerClient(host, timeout=5)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except (DockerException, OSError):
        return False
    finally:
        client.close()


@contextmanager
def of_our_own(
    *, over_tcp: bool = False, disk: int = 0, quotas: bool = False
) -> Iterator["EngineProcess"]:
    """An engine with the image BUSYBOX, which ends with the block, and all that it has made.

    It listens on a port of this machine too, if that is asked for; and has a disk of its own of so
    many bytes, with `quotas` for its containers (on btrfs then).
    """
    # A socket's path has at most 107 bytes, so none of pytest's long names is in it.
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="engine-", dir=_memory()))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        network = EngineNetwork()
        stack.callback(network.close)
        engine = EngineProcess(
            folder, network, f"tcp://127.0.0.1:{free_port()}" if over_tcp else ""
        )
        stack.callback(engine.ends)
        if disk:
            engine.data.mkdir()
            where = ["-t", "tmpfs", "-o", f"size={disk}", "tmpfs"]
            if quotas:
                file = folder / "disk"
                file.touch()
                os.truncate(file, disk)
                subprocess.run(["mkfs.btrfs", "-q", file], check=True, capture_output=True)
                where = ["-o", "loop", str(file)]
            subprocess.run(["mount", *where, engine.data], check=True)
        engine.starts()
        make_busybox(engine.host)
        yield engine


def _memory() -> Path | None:
    """Where files cost no disk, if there is room: images are made of very many small ones."""
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED
    return MEMORY if has_room else None


class EngineProcess:
    """An engine that can be stopped and started again, as by a reboot of the machine."""

    def __init__(
        self, folder: Path, network: EngineNetwork | OrdinaryNetwork, tcp: str = ""
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.tcp = tcp
        self.network = network
        self.options = list(network.options)
        self.host = f"unix://{folder}/docker.sock"
        APP_SUBNETS[self.host] = str(network.app_subnets)
        self._process: subprocess.Popen[bytes] | None = None

    def starts(self) -> None:
        """Returns when it answers."""
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [
                "dockerd",
                f"--data-root={self.data}",
                f"--exec-root={self.folder}/exec",
                f"--pidfile={self.folder}/pid",
                f"--host={self.host}",
                *([f"--host={self.tcp}", "--tls=false"] if self.tcp else []),
                *self.options,
            ],
            stdout=log,
            stderr=log,
            pass_fds=[self.network.lock],
        )
        log.close()
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.host):
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                said = (self.folder / "log").read_text(errors="replace")[-4000:]
                raise AssertionError(f"the engine does not start:\n{said}")
            time.sleep(LOOK_SECONDS)

    def stops(self) -> None:
        """Returns when it has ended, and its containers with it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_SECONDS)
            self._process = None

    def ends(self) -> None:
        """Nothing of it is left, however it was treated."""
        self.stops()
        self.loses_power()
        # One that was killed leaves its folder mounted, and the next one takes that for its own.
        _unmount(str(self.folder))

    def is_killed(self) -> None:
        """Returns when it is dead; its containers live on, until it is started again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_SECONDS)
            self._process = None
            # It goes with dockerd, but a zombie that nobody reaps passes for one that runs.
            (self.folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def loses_power(self) -> None:
        """It is dead, and all of its containers are, with their networks and whatever else ran."""
        # Its whole path, which no process but one of this engine has in its command.
        shims = [pid for pid, command in _commands() if f"{self.folder}/" in command]
        self.is_killed()
        for shim in shims:
            for pid in (shim, *_descendants(shim)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        _unmount(f"{self.folder}/exec/netns")
        self.network.is_forgotten()


def _unmount(folder: str) -> None:
    """All that is mounted in it, the innermost first."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in reversed(points):
        if point.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", point], check=True)


def _commands() -> Iterator[tuple[int, str]]:
    """Process id and command line of every process here."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield int(folder.name), (folder / "cmdline").read_text(errors="replace")


def _descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that these started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [each for child in map(int, children) for each in (child, *_descendants(child))]


def make_busybox(host: str) -> None:
    """Build BUSYBOX from Debian's static busybox, unless the engine has it."""
    client = docker.DockerClient(host)
    try:
        client.images.get(BUSYBOX)
    except ImageNotFound:
        program = shutil.which("busybox")
        assert program is not None, "busybox is not installed: run `make programs`"
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            tar.add(program, "busybox")
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(_DOCKERFILE)
            tar.addfile(entry, io.BytesIO(_DOCKERFILE))
        context.seek(0)
        client.images.build(fileobj=context, custom_context=True, tag=BUSYBOX, rm=True)
    finally:
        client.close()

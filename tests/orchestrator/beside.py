"""Owns what another engine does to one of the tests': `python -m tests.orchestrator.beside`.

Run it in a network namespace of its own, as its test does: the other engine is set up as any
machine's might be, and removes docker0 and all rules of engines when it starts.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
from docker.models.containers import Container

from tests.orchestrator.docker_engine import (
    BUSYBOX,
    LOOK_SECONDS,
    START_SECONDS,
    EngineProcess,
    answers,
    of_our_own,
)
from tests.process import ask

SERVES = (
    "mkdir /www; echo hello > /www/index.html; httpd -p 8080 -h /www && touch /listens; sleep 1000"
)


@contextmanager
def foreign() -> Iterator[None]:
    """An engine with a network of its own settings: no default bridge, the usual rules."""
    with tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as folder:
        host = f"unix://{folder}/docker.sock"
        command = [
            *("dockerd", f"--data-root={folder}/data", f"--exec-root={folder}/exec"),
            *(f"--pidfile={folder}/pid", f"--host={host}", "--bridge=none"),
        ]
        with Path(folder, "log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not answers(host):
                ended = process.poll() is not None or time.monotonic() > deadline
                assert not ended, Path(folder, "log").read_text()
                time.sleep(LOOK_SECONDS)
            yield
        finally:
            process.terminate()
            process.wait(START_SECONDS)


class Apps:
    """An app on the default bridge and one on a network, each with a neighbour there."""

    def __init__(self, engine: EngineProcess) -> None:
        self._client = docker.DockerClient(engine.host)
        self._client.networks.create("apps")
        self._pairs = [
            (self._runs(network, SERVES), self._runs(network, "exec sleep 1000"))
            for network in ("bridge", "apps")
        ]
        for app, _ in self._pairs:
            waits = "until [ -e /listens ]; do usleep 20000; done"
            assert app.exec_run(["sh", "-c", waits]).exit_code == 0

    def _runs(self, network: str, script: str) -> Container:
        return self._client.containers.run(
            BUSYBOX,
            ["sh", "-c", script],
            detach=True,
            init=True,
            network=network,
            ports={"8080/tcp": ("127.0.0.1", 0)},
        )

    def are_reached(self) -> None:
        """Each is, by its neighbour and at its published port. Raises AssertionError."""
        for app, neighbour in self._pairs:
            app.reload()
            settings = app.attrs["NetworkSettings"]
            (network,) = settings["Networks"].values()
            published = settings["Ports"]["8080/tcp"][0]["HostPort"]
            asks = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 10 {network['IPAddress']} 8080"
            said = neighbour.exec_run(["sh", "-c", asks])
            assert isinstance(said.output, bytes)
            assert said.output.endswith(b"\r\n\r\nhello\n"), (settings, said)
            answer = ask("GET", f"http://127.0.0.1:{published}/")
            assert answer.text == "hello\n"

    def close(self) -> None:
        """End the conversation with the engine."""
        self._client.close()


def bridges() -> set[str]:
    """Those of this network namespace."""
    command = ["ip", "-json", "link", "show", "type", "bridge"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {link["ifname"] for link in json.loads(shown)}


def main() -> None:
    """Raises AssertionError if another engine disturbs ours, or if something is left of ours."""
    with of_our_own() as engine:
        made = engine.network.bridge
        assert made in bridges()
        apps = Apps(engine)
        apps.are_reached()
        with of_our_own() as other:
            assert not engine.network.range.overlaps(other.network.range)
            apps.are_reached()
        apps.are_reached()
        with foreign():
            apps.are_reached()
        apps.are_reached()
        apps.close()
    assert bridges() == set()
    rules = subprocess.run(["iptables-save"], check=True, capture_output=True, text=True).stdout
    assert str(engine.network.range) not in rules


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ.pop("DOCKER_HOST", None)
    main()

"""Owns the real program in the tests: `python -m edge` with its workers, and its admin API."""

import contextlib
import fcntl
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from edge.control.client import request
from edge.routing.store_writer import RouteWriter
from tests.harness import Client, Conversation, connect

PATIENCE = 60.0
"""Seconds that a start or an end of processes may take on a busy machine."""

LOOK_SECONDS = 0.02

SMALL_PIPE = 4096
"""Bytes; the least that there is. 64 KiB is usual."""

TOKEN = "a-token-of-the-tests"

NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def ask(method: str, url: str, **options: Any) -> httpx.Response:
    """What a server on this machine answers, on a connection of its own.

    Without a context, httpx reads the certificates of all authorities for each request: 40 ms.
    """
    given = {"timeout": PATIENCE, "trust_env": False, "verify": NO_AUTHORITIES, **options}
    return httpx.request(method, url, **given)


class Origin(ThreadingHTTPServer):
    """An upstream that answers whoever asks, as often as they like, with its own port."""

    daemon_threads = True

    class Handler(BaseHTTPRequestHandler):
        """Any GET."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer."""
            assert isinstance(self.server, Origin)
            text = self.server.port.encode()
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    def __init__(self, conversation: Conversation) -> None:
        self.status = 200
        super().__init__(("127.0.0.1", 0), self.Handler)
        thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        conversation.closes_at_end(self.server_close)
        conversation.closes_at_end(self.shutdown)
        self.port = str(self.server_port)
        self.target = f"127.0.0.1:{self.port}"


class Process:
    """A running edge. `settings` are those of the environment, without FAIRLEAD_.

    `activated_by` is a listening socket that it gets as systemd would pass it; `program` is what
    Python runs; `descriptors` is its `ulimit -n`, `stdout` a file descriptor for it; for `pool` see
    `joins`.
    """

    def __init__(
        self,
        conversation: Conversation,
        db: Path,
        *,
        pool: "list[Process] | None" = None,
        activated_by: socket.socket | None = None,
        program: Sequence[str] = ("-m", "edge"),
        descriptors: int | None = None,
        stdout: int | None = None,
        **settings: str,
    ) -> None:
        self.db = db
        self.control = db.with_suffix(".sock")
        environment = {
            "FAIRLEAD_DB": str(db),
            "FAIRLEAD_HTTP_ADDR": "127.0.0.1:0",
            "FAIRLEAD_ADMIN_ADDR": "127.0.0.1:0",
            "FAIRLEAD_POLL_INTERVAL": "3600",
            "FAIRLEAD_WORKERS": "2",
            "FAIRLEAD_API_TOKEN": TOKEN,
        }
        environment.update({f"FAIRLEAD_{name.upper()}": text for name, text in settings.items()})
        command = [sys.executable, *program]
        inherited = []
        if activated_by is not None:
            # LISTEN_PID is the program's own, and its first socket is number 3.
            inherited = [activated_by.fileno()]
            script = f'exec 3<&{inherited[0]}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
            command = ["bash", "-c", script, "bash", *command]
        if descriptors is not None:
            command = ["bash", "-c", f'ulimit -n {descriptors}; exec "$@"', "bash", *command]
        self.popen = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=stdout,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=inherited,
        )
        self._is_over = False  # whoever took over from it included
        self.joins(conversation, pool)
        self._unread = b""
        self.heard: list[str] = []
        self.port = _port(self.says("serving on"))
        self.admin_port = _port(self.says("admin on"))

    def joins(self, conversation: Conversation, pool: "list[Process] | None") -> None:
        """Takes part in a conversation, and ends at its end.

        With a pool, it goes there instead if it is as good as new but for its routes, and for what
        it has counted; whoever drains a target undoes it.
        """
        self._conversation = conversation
        conversation.closes_at_end(partial(self._rests, pool))

    def _rests(self, pool: "list[Process] | None") -> None:
        if pool is not None and self._is_as_new():
            pool.append(self)
        else:
            self.is_killed()

    def _is_as_new(self) -> bool:
        """Nobody took over from it, and each of its workers is its first."""
        if self.popen.poll() is not None:
            return False
        shown = request(self.control, "GET", "/workers")
        return (
            shown is not None
            and shown["pid"] == self.popen.pid
            and all(
                (worker["state"], worker["restarts"]) == ("serving", 0)
                for worker in shown["workers"]
            )
        )

    def says(self, text: str) -> str:
        """The next line on stderr that has this text in it."""
        while True:
            while b"\n" not in self._unread:
                self._unread += self._says_more(text)
            line, _, self._unread = self._unread.partition(b"\n")
            self._conversation.says("process", f"says {line!r}")
            self.heard.append(line.decode())
            if text in line.decode():
                return line.decode()

    def _says_more(self, awaited: str) -> bytes:
        assert self.popen.stderr is not None
        poll = select.poll()  # select() takes no descriptor from 1024 on
        poll.register(self.popen.stderr, select.POLLIN)
        data = self.popen.stderr.read(65536) if poll.poll(PATIENCE * 1000) else None
        return data or self._conversation.fails(f"the process never said {awaited!r}")

    def has_said(self) -> list[str]:
        """All lines on the stderr of a process that has ended."""
        assert self.popen.stderr is not None
        return [*self.heard, *(self._unread + self.popen.stderr.read()).decode().splitlines()]

    def is_not_heard(self) -> None:
        """From now on nobody reads its stderr, whose pipe is full."""
        assert self.popen.stderr is not None
        fill(self.popen.stderr.fileno())

    def connects(self) -> Client:
        """A client of this process."""
        return connect(self._conversation, ("127.0.0.1", self.port))

    def gets(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._conversation.says("process", f"gets {number.name}")
        self.popen.send_signal(number)

    def ends(self) -> int:
        """Its exit code."""
        return self.popen.wait(PATIENCE)

    def admin(self, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        """What the admin API answers over TCP, to an admin unless other headers are given."""
        given = {"headers": {"Authorization": f"Bearer {TOKEN}"}, **options}
        return ask(method, f"http://127.0.0.1:{self.admin_port}{path}", **given)

    def asks(self, path: str, **fields: object) -> dict[str, Any]:
        """What a change over the control socket answers. Raises EdgeError."""
        answer = request(self.control, "POST", path, fields)
        assert answer is not None, "nobody listens on the control socket"
        return answer

    def is_given(self, routes: Mapping[str, str]) -> int:
        """Its routes are these, host and target, and no others; which version of the table."""
        writer = RouteWriter(self.db)
        for host, target in routes.items():
            writer.set(host, target)
        for found in self.admin("/routes").json()["routes"]:
            if found["route"] not in routes:
                writer.remove(found["route"])
        version: int = self.asks("/reload")["version"]
        return version

    def workers(self) -> list[dict[str, Any]]:
        """What it says of its workers."""
        found: list[dict[str, Any]] = self.admin("/workers").json()["workers"]
        return found

    def until(self, path: str, wanted: str) -> httpx.Response:
        """The first answer on `path` with this text in it."""
        deadline = time.monotonic() + PATIENCE
        answer = self.admin(path)
        while wanted not in answer.text:
            if time.monotonic() > deadline:
                self._conversation.fails(f"{path} never said {wanted!r}, but {answer.text}")
            time.sleep(LOOK_SECONDS)
            answer = self.admin(path)
        return answer

    def is_succeeded_by(self, pid: int) -> None:
        """An upgrade is done: the process that took over ends in order too."""
        os.kill(pid, signal.SIGTERM)
        self.sees_end_of(pid)
        self._is_over = True

    def is_succeeded_by_nobody(self) -> None:
        """Nobody holds its listening socket any more."""
        deadline = time.monotonic() + PATIENCE
        with contextlib.suppress(ConnectionRefusedError):
            while time.monotonic() < deadline:
                socket.create_connection(("127.0.0.1", self.port)).close()
                time.sleep(LOOK_SECONDS)
            self._conversation.fails("another process listens after the end")

    def sees_end_of(self, pid: int) -> None:
        """Waits for a process that is another's child, or ours."""
        if pid == self.popen.pid:
            self.ends()
            return
        deadline = time.monotonic() + PATIENCE
        while is_alive(pid):
            if time.monotonic() > deadline:
                self._conversation.fails(f"process {pid} did not end")
            time.sleep(LOOK_SECONDS)

    def is_killed(self) -> None:
        """It ends, or whichever has taken over from it."""
        successor = None if self._is_over else request(self.control, "GET", "/workers")
        if successor is not None and successor["pid"] != self.popen.pid:
            os.kill(successor["pid"], signal.SIGTERM)
        # In order, so that what it has covered is written down.
        self.popen.terminate()
        try:
            self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        if self.popen.stderr is not None:
            self.popen.stderr.close()


def processes_of(db: Path) -> set[int]:
    """Every process of any edge of this database, whoever its parent is by now."""
    wanted = f"FAIRLEAD_DB={db}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return found


def is_worker(pid: int) -> bool:
    """One that was forked has the command line of its supervisor; one that starts has no name."""
    folder = Path(f"/proc/{pid}")
    try:
        return (
            folder.joinpath("comm").read_text() == "fairlead-worker\n"
            or b"\0edge.worker\0" in folder.joinpath("cmdline").read_bytes()
        )
    except OSError:
        return False


def fill(reader: int) -> None:
    """From now on the pipe with this reading end, now a small one, takes nothing."""
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, SMALL_PIPE)
    writer = os.open(f"/proc/self/fd/{reader}", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.close(writer)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that waits for its parent to take note of its end does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _port(line: str) -> int:
    found = re.search(r" port (\d+)", line)
    assert found is not None, line
    return int(found[1])

"""Owns the real program in the tests: `python -m edge` with its workers, and its admin surface."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from edge.control_client import request
from tests.harness import Client, Conversation, connect

PATIENCE = 20.0
"""Seconds that a start or an end of processes may take on a busy machine."""


class Process:
    """A running edge. `settings` are those of the environment, without FAIRLEAD_."""

    def __init__(self, conversation: Conversation, db: Path, **settings: str) -> None:
        self._conversation = conversation
        self.control = db.with_suffix(".sock")
        environment = {
            "FAIRLEAD_DB": str(db),
            "FAIRLEAD_HTTP_ADDR": "127.0.0.1:0",
            "FAIRLEAD_ADMIN_ADDR": "127.0.0.1:0",
            "FAIRLEAD_POLL_INTERVAL": "3600",
            "FAIRLEAD_WORKERS": "2",
        }
        environment.update({f"FAIRLEAD_{name.upper()}": text for name, text in settings.items()})
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "edge"],
            env={**os.environ, **environment},
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        conversation.closes_at_end(self._is_killed)
        self._unread = b""
        self.port = _port(self.says("serving on"))
        self.admin_port = _port(self.says("admin on"))

    def says(self, text: str) -> str:
        """The next line on stderr that has this text in it."""
        while True:
            while b"\n" not in self._unread:
                self._unread += self._says_more(text)
            line, _, self._unread = self._unread.partition(b"\n")
            self._conversation.says("process", f"says {line!r}")
            if text in line.decode():
                return line.decode()

    def _says_more(self, awaited: str) -> bytes:
        assert self.popen.stderr is not None
        ready, _, _ = select.select([self.popen.stderr], [], [], PATIENCE)
        data = self.popen.stderr.read(65536) if ready else None
        return data or self._conversation.fails(f"the process never said {awaited!r}")

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
        """What the admin surface answers over TCP."""
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        return httpx.request(method, url, timeout=PATIENCE, trust_env=False, **options)

    def asks(self, path: str, **fields: object) -> dict[str, Any]:
        """What a change over the control socket answers. Raises EdgeError."""
        answer = request(self.control, "POST", path, fields)
        assert answer is not None, "nobody listens on the control socket"
        return answer

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
            answer = self.admin(path)
        return answer

    def _is_killed(self) -> None:
        self.popen.kill()
        self.popen.wait()
        if self.popen.stderr is not None:
            self.popen.stderr.close()


def _port(line: str) -> int:
    found = re.search(r" port (\d+)", line)
    assert found is not None, line
    return int(found[1])

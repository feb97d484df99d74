"""Proves how a process begins that is a copy of this one."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from edge.supervisor.forked import Forked

SCRIPT = """
import json, os, signal, sys
from edge.supervisor.forked import Forked

kept, closed = os.pipe(), os.pipe()

def begin():
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    CODE

signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))
forked = Forked.start([kept[1]], begin)
if forked is None:
    seen = {
        "descriptors": sorted(set(map(int, os.listdir("/proc/self/fd")))),
        "stdin": os.readlink("/proc/self/fd/0"),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }
    os.write(kept[1], json.dumps(seen).encode())
    sys.exit(7)
os.close(kept[1])
said = b""
while piece := os.read(kept[0], 4096):
    said += piece
forked.wait()
print(json.dumps({
    "said": json.loads(said or "null"),
    "kept": kept[1],
    "code": forked.returncode,
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
}))
"""


def seen(code: str = "pass") -> tuple[dict[str, object], str]:
    """What original and copy see, in a process without threads; and what both print as errors."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("CODE", code)],
        stdin=subprocess.PIPE,
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(done.stdout), done.stderr


def test_it_has_the_descriptors_that_it_is_given_and_goes_its_own_way() -> None:
    found, _ = seen()
    copy = found["said"]
    assert isinstance(copy, dict)
    kept = found["kept"]
    # One is that of the folder that is being listed.
    assert [each for each in copy["descriptors"] if each <= 2 or each == kept] == [0, 1, 2, kept]
    assert len(copy["descriptors"]) == 5
    assert copy["stdin"] == "/dev/null"
    assert copy["blocked"] == []
    assert found["code"] == 7
    assert found["blocked"] == [signal.SIGHUP]


def test_one_that_cannot_begin_ends_and_never_goes_on_as_the_original() -> None:
    found, errors = seen("raise OSError('no lock')")
    assert (found["said"], found["code"]) == (None, 1)
    assert "no lock" in errors


def test_where_none_can_be_made_signals_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> int:
        raise OSError(errno.EAGAIN, "too many processes")

    monkeypatch.setattr(os, "fork", fails)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(OSError, match="too many processes"):
        Forked.start([], lambda: None)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before

"""Proves what the kernel does for a process that can do nothing itself."""

import signal
import subprocess
import sys

from tests.process import PATIENCE

LOOP = "while True: pass"


def run(code: str) -> int:
    """The exit code of a Python that runs this."""
    program = f"from edge.control import lifeline\n{code}"
    return subprocess.run([sys.executable, "-c", program], timeout=PATIENCE).returncode


def test_one_that_shows_no_life_is_ended() -> None:
    assert run(f"lifeline.limit(0.05)\n{LOOP}") == -signal.SIGALRM


def test_also_when_it_has_become_another_program() -> None:
    become = f"os.execv(sys.executable, [sys.executable, '-S', '-c', {LOOP!r}])"
    assert run(f"import os, sys\nlifeline.limit(1)\n{become}") == -signal.SIGALRM


def test_a_limit_is_over_with_the_next() -> None:
    assert run("lifeline.limit(0.05)\nlifeline.limit(0)\nimport time\ntime.sleep(0.1)") == 0


def test_one_that_is_stopped_goes_on_when_its_parent_ends() -> None:
    # The parent ends as soon as the child is stopped; that one writes when it goes on.
    child = "lifeline.resume_with_parent(); os.kill(os.getpid(), signal.SIGSTOP); os.write(1, b'x')"
    parent = (
        "import os, signal\n"
        "from edge.control import lifeline\n"
        "pid = os.fork()\n"
        f"if not pid: {child}; os._exit(0)\n"
        "os.waitpid(pid, os.WUNTRACED)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as popen:
        assert popen.communicate(timeout=PATIENCE)[0] == b"x"

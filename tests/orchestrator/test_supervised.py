"""Proves that an orchestrator ends with its supervisor, also when it hangs."""

import os
import signal
import subprocess
import sys

from tests.process import PATIENCE

HANGS = """
import os, signal
from orchestrator import daemon
daemon._STOP_LIMIT = 1
signal.signal(signal.SIGTERM, signal.SIG_IGN)
daemon.stop_with_supervisor(os.environ)
while True: pass
"""


def test_one_that_hangs_is_ended_by_the_kernel() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGS],
        stdin=subprocess.PIPE,
        env={**os.environ, "FAIRLEAD_SUPERVISED": "1"},
    ) as popen:
        assert popen.stdin is not None
        popen.stdin.close()
        assert popen.wait(PATIENCE) == -signal.SIGALRM

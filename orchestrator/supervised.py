"""Owns how a supervised daemon learns that its supervisor has died: its standard input ends."""

import os
import signal
import threading
from collections.abc import MutableMapping
from typing import Final

_VARIABLE: Final = "FAIRLEAD_SUPERVISED"
_STDIN: Final = 0


def stop_with_supervisor(environ: MutableMapping[str, str]) -> None:
    """Once the supervisor is gone, this process gets SIGTERM; nothing where it has none."""
    if environ.pop(_VARIABLE, ""):
        threading.Thread(target=_watch, name="supervisor", daemon=True).start()


def _watch() -> None:
    while os.read(_STDIN, 4096):
        pass  # nobody writes
    os.kill(os.getpid(), signal.SIGTERM)

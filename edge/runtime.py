"""Owns what all parts of one worker share: its clock, its loop, its settings, its counters and its
budget of descriptors.
"""

import asyncio
from collections.abc import Callable

from edge.boot import boot_id
from edge.net.budget import Budget
from edge.net.memory import BufferLimit
from edge.net.shortage import Shortage
from edge.settings.settings import Settings
from edge.telemetry.metrics import Metrics


class Runtime:
    """Given to whatever serves in a worker; it knows nothing of what that is.

    `clock` gives seconds that only go forward; every deadline is on it. `loop` is there once the
    worker starts. `boot` is that of the machine. `leader`: of several workers, one speaks of what
    is the same for all.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.clock = clock
        self.boot = boot_id()
        self.metrics = Metrics()
        self.budget = Budget()
        self.shortage = Shortage(self.metrics.shortages)
        self.buffer_limit = BufferLimit()
        self.leader = True

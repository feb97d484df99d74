"""Owns which process serves before and after this one, and asking the one after."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from edge.control.channel import ChannelError, Message
from edge.control.client import request


class Succession:
    """`upgrading` is held while a successor starts; it is found at `control_path` later."""

    def __init__(self, control_path: Path) -> None:
        self.upgrading = asyncio.Lock()
        self.handed_over = False
        self.predecessor_exited = asyncio.Event()  # what this edge took over from has ended
        self.predecessor_exited.set()
        self._control_path = control_path

    async def has_successor(self) -> bool:
        """Whether another process serves now; where one is about to, that is waited for."""
        async with self.upgrading:
            return self.handed_over

    async def forward(self, path: str, fields: Mapping[str, object]) -> Message:
        """What the successor answers. Raises ChannelError."""
        answer: Message | None = await asyncio.to_thread(
            request, self._control_path, "POST", path, fields
        )
        if answer is None:
            raise ChannelError("the edge that took over has exited")
        return answer

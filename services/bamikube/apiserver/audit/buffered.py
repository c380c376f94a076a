"""Events on their way into the log while the requests they are about go on (``--audit-log-mode=batch``).

A disk that is slow holds up the log and nobody else; what finds the buffer full is lost, and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from bamikube.apiserver.audit import figures
from bamikube.apiserver.audit.truncating import Sink
from bamikube.kit.world import World


class Buffered:
    """In front of ``sink``: up to ``buffer`` events wait; ``size`` of them are written in one go, or fewer when the first has
    waited for ``wait`` seconds."""

    def __init__(self, sink: Sink, world: World, *, size: int, wait: float, buffer: int) -> None:
        self._sink = sink
        self._world = world
        self._size, self._wait, self._buffer = size, wait, buffer
        self._waiting: deque[dict[str, Any]] = deque()
        self._some = asyncio.Event()
        self._filled = asyncio.Event()

    def write(self, event: dict[str, Any]) -> bool:
        if len(self._waiting) >= self._buffer:
            figures.lost("buffered")
            return True
        self._waiting.append(event)
        self._some.set()
        if len(self._waiting) >= self._size:
            self._filled.set()
        return True

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._some.wait()
            if self._wait:
                try:
                    async with asyncio.timeout(self._wait):
                        await self._filled.wait()
                except TimeoutError:
                    pass
            for _ in range(min(self._size, len(self._waiting))):
                self._sink.write(self._waiting.popleft())
            if len(self._waiting) < self._size:
                self._filled.clear()
            if not self._waiting:
                self._some.clear()
            await self._world.clock.sleep(0)

    def close(self) -> None:
        """What still waits is written."""
        while self._waiting:
            self._sink.write(self._waiting.popleft())
        self._sink.close()

"""How many pods a node starts at a time.

CRI starts cost CPU, not waiting, so a few at once are faster than many. But one that hangs (a network plugin that does
not answer, a runtime that waits for a dead disk) costs nothing, and must hold up nobody: a start that takes long is
no longer counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LONG = 3.0  # seconds after which a start is no longer counted


class Slots:
    def __init__(self, number: int) -> None:
        self._gate = asyncio.Semaphore(number)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a place, and hold it for as long as the body takes, but not for longer than LONG."""
        await self._gate.acquire()
        counted = True

        def give_back() -> None:
            nonlocal counted
            if counted:
                counted = False
                self._gate.release()

        timer = asyncio.get_running_loop().call_later(LONG, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()

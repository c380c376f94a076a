"""At most so many at a time, but for those that take long: what hangs holds up nobody.

The pods that a node starts, for example: CRI starts cost CPU, not waiting, so a few at once are faster than many. But one that
hangs (a network plugin that does not answer, a runtime that waits for a dead disk) costs nothing, and is no longer counted
after a while. So it is with requests over a pool of connections: few connections serve a crowd as fast as many, and
each costs a handshake and 64 KB.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """``long``: seconds after which what is under way is no longer counted."""

    def __init__(self, number: int, long: float) -> None:
        self._gate, self._long = asyncio.Semaphore(number), long

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a place, and hold it for as long as the body takes, but not for too long."""
        await self._gate.acquire()
        counted = True

        def give_back() -> None:
            nonlocal counted
            if counted:
                counted = False
                self._gate.release()

        timer = asyncio.get_running_loop().call_later(self._long, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()

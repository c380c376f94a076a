"""Taking turns at an object that several writers want to change at once.

A write that loses the race for its object is tried again; with many writers most tries are lost, and some writers lose
every one. So whoever has lost waits for his turn, and whoever comes while others wait does the same::

    a, b, c patch one object     a wins; b and c have lost, and queue
    d comes                      somebody queues: so does d
    b, c, d                      one after the other; each wins at once, unless another API server is faster

Waiting has an end: a webhook that is asked about a write may write the same object itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

PATIENCE = 2.0  # seconds until somebody goes on out of turn


@dataclass(slots=True)
class _Queue:
    """``there`` counts who has the turn and who waits for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    there: int = 0


class Turns:
    """The queues of objects that are contended now, by their keys."""

    def __init__(self) -> None:
        self._queues: dict[bytes, _Queue] = {}

    def contended(self, key: bytes) -> bool:
        return key in self._queues

    @contextlib.asynccontextmanager
    async def taken(self, key: bytes) -> AsyncIterator[None]:
        """Wait for the turn at an object, and keep it for the length of the block."""
        queue = self._queues.setdefault(key, _Queue())
        queue.there += 1
        mine = False
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    mine = await queue.lock.acquire()
            yield
        finally:
            if mine:
                queue.lock.release()
            queue.there -= 1
            if not queue.there:
                del self._queues[key]

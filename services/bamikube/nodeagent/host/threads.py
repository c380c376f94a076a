"""Blocking work beside the event loop, where one piece that hangs costs one thread and nobody else's time.

A pool would be emptied by a few mounts that never return; and its threads are joined when the process ends, so that a
hung file server would keep the node agent from stopping. So each piece of work gets a thread of its own, which the
process does not wait for. A thread costs a twentieth of a millisecond.
"""

from __future__ import annotations

import _thread
import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def beside(work: Callable[[], T]) -> asyncio.Future[T]:
    """Start ``work`` on a thread of its own; the future gets what it returns or raises, whoever still waits."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(setter: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            setter(value)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            answer: tuple[Callable[[Any], None], Any] = (future.set_exception, error)
        else:
            answer = (future.set_result, result)
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, *answer)

    _thread.start_new_thread(run, ())  # Thread.start would wait for its turn: milliseconds, in a crowd
    return future


class OneAtATime:
    """Blocking work that may hang: as long as it does it is waited for again, not begun again beside itself."""

    def __init__(self) -> None:
        self._under_way: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[[], T], patience: float) -> T | None:
        """What ``work`` returns, or None when that takes longer than ``patience`` seconds. Raises what it raises."""
        if self._under_way is None or self._under_way.done():
            self._under_way = beside(work)
        done, _ = await asyncio.wait({self._under_way}, timeout=patience)
        return done.pop().result() if done else None

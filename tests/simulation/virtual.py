"""An event loop on virtual time: waiting costs nothing, and the same seed gives the same history.

The loop's ``time()`` is a number that only moves when nothing is left to do: then it jumps to the next timer. Ten
minutes of leases, back-offs and grace periods pass in the time it takes to compute what happens in them. Nothing may
wait for the outside (sockets, threads); a loop with neither work nor timers is stuck for ever, and says so.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(Exception):
    """Everybody waits and no timer is set: nothing can ever happen again."""


class _Selector(selectors.DefaultSelector):
    """Instead of sleeping for ``timeout``, move the loop's time on by it."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            raise Stuck("all tasks wait and no timer is set")
        self.loop.advance(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose clock starts at 0 and is moved by its own timers."""

    def __init__(self) -> None:
        self._now = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)

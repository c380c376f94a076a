"""Memory that was needed for a moment, given back to the machine.

glibc keeps what a burst of work has freed, for the next one: some megabytes after a hundred pods have started at once. A
service that is idle for the rest of the day has no use for them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from bamikube.kit.clock import Clock

PERIOD = 60.0  # seconds


def _trim() -> Callable[[int], object] | None:
    """glibc's ``malloc_trim``; other C libraries have none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


async def give_back(clock: Clock) -> None:
    """Give back what is free once a minute, for ever. It takes a millisecond."""
    trim = _trim()
    while trim is not None:
        await clock.sleep(PERIOD)
        trim(0)

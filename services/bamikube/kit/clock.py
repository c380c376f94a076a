"""Time, as a value that is handed in.

Nothing outside ``kit`` asks the operating system what time it is. A service receives a :class:`Clock`; in a
cluster that is :class:`SystemClock`, in the simulation it is :class:`LoopClock`, whose wall time follows the
event loop's own (virtual) time, so that a ten-minute history runs in milliseconds and replays exactly.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """Wall time in seconds since the epoch, a monotonic time in seconds, and a way to wait."""

    def now(self) -> float: ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class LoopClock:
    """A clock that follows the running event loop: virtual when the loop's time is virtual."""

    def __init__(self, epoch: float = 1_700_000_000.0) -> None:
        self._epoch = epoch

    def now(self) -> float:
        return self._epoch + asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


def rfc3339(timestamp: float) -> str:
    """``metav1.Time``: whole seconds, UTC, as ``2026-01-02T03:04:05Z``."""
    return _second(int(timestamp))


@lru_cache(maxsize=256)
def _second(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(timestamp: float) -> str:
    """``metav1.MicroTime``: six decimals, UTC (leases, events)."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch of a ``Time`` or ``MicroTime``. Raises ValueError on anything else."""
    if "T" not in text:
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return parsed.timestamp()

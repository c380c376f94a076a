"""The queue of pods that wait for a node.

Three places: *active* (by priority, then by age), *backing off* (tried, and not again before a moment that doubles with
every try), and *unschedulable* (nothing has changed since it fitted nowhere). An event that could help - a node
appears, a pod leaves - takes pods out of the last: only those that were rejected by a plugin the event concerns. Missed
causes are made good by a flush: after five minutes a pod is tried again anyhow.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from dataclasses import dataclass

from bamikube.kit.world import World
from bamikube.scheduler.model import PodInfo

FLUSH_SECONDS = 30.0


@dataclass(slots=True)
class _Waiting:
    pod: PodInfo
    since: float  # monotonic: when it first came
    tries: int = 0
    place: str = "active"
    rejected_by: frozenset[str] = frozenset()
    parked: float = 0.0  # monotonic: when it became unschedulable
    token: int = 0  # entries of the heaps with an older token are void
    moved: int = 0  # events seen when it was taken


class SchedulingQueue:
    """Keys of pods; one is handed out until it is put back, parked or removed."""

    def __init__(self, world: World, initial: float = 1.0, most: float = 10.0, flush: float = 300.0) -> None:
        self._world = world
        self._initial, self._most, self._flush = initial, most, flush
        self._waiting: dict[str, _Waiting] = {}
        self._active: list[tuple[int, float, int, str]] = []
        self._backoff: list[tuple[float, int, str]] = []
        self._tokens = 0
        self._cycle = 0
        self._events: list[tuple[int, frozenset[str] | None]] = []
        self._wake = asyncio.Event()
        self._backed = asyncio.Event()

    def counts(self) -> dict[str, int]:
        """How many pods are in each place."""
        found = {"active": 0, "backoff": 0, "unschedulable": 0, "taken": 0}
        for waiting in self._waiting.values():
            found[waiting.place] += 1
        return found

    def add(self, pod: PodInfo) -> None:
        """A pod is new, or was changed so that it may fit now."""
        held = self._waiting.get(pod.key)
        if held is None:
            held = self._waiting[pod.key] = _Waiting(pod, self._world.clock.monotonic())
        held.pod = pod
        if held.place != "taken":
            self._activate(held)
        else:
            self._note(None)

    def refresh(self, pod: PodInfo) -> None:
        """A change that cannot help a pod: kept, and nothing else."""
        if (held := self._waiting.get(pod.key)) is not None:
            held.pod = pod

    def remove(self, key: str) -> None:
        """The pod is gone or has its node."""
        self._waiting.pop(key, None)

    async def get(self) -> PodInfo:
        """The next pod; waits for one."""
        while True:
            while self._active:
                _, _, token, key = heapq.heappop(self._active)
                held = self._waiting.get(key)
                if held is not None and held.token == token and held.place == "active":
                    held.place, held.moved = "taken", self._cycle
                    held.tries += 1
                    return held.pod
            self._wake.clear()
            await self._wake.wait()

    def park(self, key: str, rejected_by: frozenset[str]) -> None:
        """It fitted nowhere. If something that could help happened meanwhile, it only backs off."""
        held = self._waiting.get(key)
        if held is None or held.place != "taken":
            return
        held.rejected_by, held.parked = rejected_by, self._world.clock.monotonic()
        missed = [plugins for cycle, plugins in self._events if cycle > held.moved]
        if any(plugins is None or not rejected_by or plugins & rejected_by for plugins in missed):
            self._back_off(held)
        else:
            held.place = "unschedulable"

    def retry(self, key: str) -> None:
        """Something went wrong on the way to the API server: again after a pause."""
        held = self._waiting.get(key)
        if held is not None and held.place == "taken":
            held.parked = self._world.clock.monotonic()
            self._back_off(held)

    def happened(self, plugins: frozenset[str] | None) -> None:
        """Something changed that may turn a "no" of these plugins (None: of any) into a "yes"."""
        self._note(plugins)
        for held in list(self._waiting.values()):
            if held.place == "unschedulable" and (
                plugins is None or not held.rejected_by or plugins & held.rejected_by
            ):
                self._back_off(held)

    async def run(self) -> None:
        """Bring back those whose pause is over, until cancelled."""
        while True:
            now = self._world.clock.monotonic()
            while self._backoff and self._backoff[0][0] <= now:
                _, token, key = heapq.heappop(self._backoff)
                held = self._waiting.get(key)
                if held is not None and held.token == token and held.place == "backoff":
                    self._activate(held)
            for held in list(self._waiting.values()):
                if held.place == "unschedulable" and now - held.parked >= self._flush:
                    self._activate(held)
            wait = min(FLUSH_SECONDS, self._backoff[0][0] - now) if self._backoff else FLUSH_SECONDS
            self._backed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.001, wait)):
                    await self._backed.wait()

    def _note(self, plugins: frozenset[str] | None) -> None:
        self._cycle += 1
        oldest = min((w.moved for w in self._waiting.values() if w.place == "taken"), default=self._cycle)
        self._events = [event for event in self._events if event[0] > oldest]
        if oldest < self._cycle:
            self._events.append((self._cycle, plugins))

    def _activate(self, held: _Waiting) -> None:
        self._tokens += 1
        held.token, held.place = self._tokens, "active"
        heapq.heappush(self._active, (-held.pod.priority, held.since, held.token, held.pod.key))
        self._wake.set()

    def _back_off(self, held: _Waiting) -> None:
        pause = min(self._most, self._initial * 2 ** min(held.tries - 1, 30))
        due = held.parked + pause
        if due <= self._world.clock.monotonic():
            self._activate(held)
            return
        self._tokens += 1
        held.token, held.place = self._tokens, "backoff"
        heapq.heappush(self._backoff, (due, held.token, held.pod.key))
        self._backed.set()

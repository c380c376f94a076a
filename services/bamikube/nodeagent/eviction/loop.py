"""The two loops that end pods for the node's sake: one looks at what the node has left, one at what pods were given.

The first acts on one threshold at a time: it frees what nobody needs (dead containers of ended pods, unused images), and where
that does not help one pod has to go, whose end is waited for before the node is looked at again. What a pod takes on disk
has to be counted file by file, so the second loop does not hold up the first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from bamikube.kit.world import World
from bamikube.nodeagent import figures
from bamikube.nodeagent.eviction import local, words
from bamikube.nodeagent.eviction.decide import Book, Observations, Verdict, decide, met
from bamikube.nodeagent.eviction.looks import Looks
from bamikube.nodeagent.eviction.rank import ranked
from bamikube.nodeagent.eviction.thresholds import Threshold
from bamikube.nodeagent.eviction.usage import Uses
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import Memory, Rejection, RuntimeState
from bamikube.nodeagent.runtime.port import RuntimeFailure

log = logging.getLogger(__name__)

PERIOD = 10.0  # seconds between two looks
IMMEDIATE = 1.0  # seconds of grace where there is no time to lose
CLEANUP = 30.0  # seconds the end of a pod is waited for
FREEING = 60.0  # seconds the runtime is given to remove images
POLL = 0.25


class Evictable(Protocol):
    """A pod that may have to go: its worker."""

    pod: JSON
    status: JSON
    state: RuntimeState
    memory: Memory

    def put_out(self, why: Rejection) -> None: ...

    def forget_dead(self) -> None: ...


class Tells(Protocol):
    """Writes an event about a pod."""

    def __call__(
        self, pod: JSON, type: str, reason: str, message: str, *, annotations: Mapping[str, str] | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """``transition``: seconds a condition stays; ``most_grace``: seconds a pod gets at most at a soft threshold."""

    thresholds: tuple[Threshold, ...] = ()
    transition: float = 300.0
    most_grace: float = 0.0


class Evictor:
    """``tell`` writes a warning of the node, ``event`` one about a pod; ``free`` removes unused images,
    ``changed`` has the node's conditions written."""

    def __init__(
        self,
        world: World,
        policy: Policy,
        looks: Looks,
        workers: Callable[[], Iterable[Evictable]],
        tell: Callable[[str, str], None],
        event: Tells,
        free: Callable[[], Awaitable[object]],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._world, self._policy, self._looks = world, policy, looks
        self._workers, self._tell, self._event = workers, tell, event
        self._free, self._changed = free, changed
        self._book = Book()
        self.conditions: tuple[str, ...] = ()  # what the node is short of, as its conditions are called

    # -- what the node has left --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at the node for ever."""
        while True:
            gone: list[Evictable] = []
            try:
                gone = await self.round()
            except (RuntimeFailure, OSError) as failure:
                log.warning("cannot see what the node has left: %s", failure)
            except Exception:  # a node nobody looks after any more would be worse than one look that failed
                log.exception("looking at what the node has left failed")
            if gone:
                await self._end_of(gone)
            else:
                await self._world.clock.sleep(PERIOD)

    async def round(self) -> list[Evictable]:
        """One look at the node; the pods that have to go."""
        policy, observed = self._policy, await self._looks.glance()
        verdict = decide(policy.thresholds, observed, self._book, self._world.clock.now(), policy.transition)
        before, self._book, self.conditions = self.conditions, verdict.book, verdict.conditions
        if self.conditions != before:
            self._changed()
        if not verdict.due:
            return []
        first = verdict.due[0]
        resource = first.about.resource
        log.warning("the node is short of %s (%s): attempting to reclaim it", resource, first.signal)
        self._tell("EvictionThresholdMet", f"Attempting to reclaim {resource}")
        on_disk = resource in ("ephemeral-storage", "inodes")
        used = await (self._looks.taken() if on_disk else self._looks.uses())
        if on_disk and await self._reclaimed(first, used.dedicated):
            log.info("freed enough %s without ending a pod", resource)
            return []
        return self._evict_one(first, verdict, observed, used)

    async def _reclaimed(self, threshold: Threshold, dedicated: bool) -> bool:
        """Free what nobody needs on the disk in question; whether no threshold is met any more."""
        if dedicated and threshold.signal.startswith("nodefs."):
            return False  # neither containers nor images lie there
        ended = [w for w in self._workers() if facts.terminal({"status": w.status})]
        for worker in ended:
            worker.forget_dead()
        until = self._world.clock.monotonic() + CLEANUP / 3
        while any(w.state.containers for w in ended) and self._world.clock.monotonic() < until:
            await self._world.clock.sleep(POLL)
        try:
            async with asyncio.timeout(FREEING):
                await self._free()
        except (RuntimeFailure, TimeoutError) as failure:
            log.warning("cannot remove unused images: %s", str(failure) or "the runtime takes too long")
        return not met(self._policy.thresholds, await self._looks.glance(), reclaimed=True)

    def _evict_one(
        self, first: Threshold, verdict: Verdict, observed: Observations, used: Uses
    ) -> list[Evictable]:
        running = {facts.uid(w.pod): w for w in self._active()}
        pods = [worker.pod for worker in running.values()]
        resource = first.about.resource
        if not pods:
            log.warning("the node is short of %s, and no pod runs that could be ended", resource)
            return []
        for threshold in verdict.due:
            age = self._world.clock.now() - observed[threshold.signal].time
            figures.EVICTION_STATS_AGE.labels(threshold.signal).observe(age)
        for pod in ranked(pods, used.pods, first.signal, resource, used.dedicated):
            grace = IMMEDIATE if first.hard else min(self._policy.most_grace, facts.grace(pod))
            use = used.pods.get(facts.uid(pod))
            text = words.starved(pod, use, resource, verdict.due, observed)
            notes = words.notes(pod, use, resource)
            if self._evict(running[facts.uid(pod)], text, grace, first.signal, notes):
                return [running[facts.uid(pod)]]
        log.warning("the node is short of %s, and every pod that runs is critical", resource)
        return []

    # -- what pods were given ----------------------------------------------------------------------------------

    async def watch_limits(self) -> None:
        """Look at the pods' own limits for ever."""
        while True:
            try:
                await self.hold_to_limits()
            except (RuntimeFailure, OSError) as failure:
                log.warning("cannot see what pods take on disks: %s", failure)
            except Exception:
                log.exception("looking at what pods take on disks failed")
            await self._world.clock.sleep(PERIOD)

    async def hold_to_limits(self) -> list[Evictable]:
        """End the pods that take more of the disk than they were given."""
        limited = [worker for worker in self._active() if local.bounded(worker.pod)]
        if not limited:
            return []
        used, gone = await self._looks.taken(), []
        for worker in limited:
            use = used.pods.get(facts.uid(worker.pod))
            above = local.above_limit(worker.pod, use, used.dedicated) if use is not None else None
            if above is not None and self._evict(worker, above[1], IMMEDIATE, above[0]):
                gone.append(worker)
        return gone

    # -- both --------------------------------------------------------------------------------------------------

    def _active(self) -> list[Evictable]:
        """The pods of which something runs, without those that were told to go already."""
        return [
            w
            for w in self._workers()
            if w.state.running() and w.memory.rejected is None and not facts.terminal({"status": w.status})
        ]

    def _evict(
        self, worker: Evictable, text: str, grace: float, signal: str, notes: dict[str, str] | None = None
    ) -> bool:
        """Tell a pod to go. ``notes`` are there when it goes for the node's sake: then it is a disruption."""
        name = facts.full_name(worker.pod)
        if facts.critical(worker.pod):
            log.warning("pod %s is critical and is not evicted: %s", name, text)
            return False
        if worker.memory.rejected is not None:
            return False  # the other loop was first
        log.warning("evicting pod %s: %s", name, text)
        self._event(worker.pod, "Warning", words.REASON, text, annotations=notes)
        figures.EVICTIONS.of(signal).inc()
        worker.put_out(Rejection(words.REASON, text, grace, disrupted=notes is not None))
        return True

    async def _end_of(self, gone: list[Evictable]) -> None:
        clock = self._world.clock
        until = clock.monotonic() + CLEANUP
        while not all(worker.memory.cleaned for worker in gone):
            if clock.monotonic() >= until:
                names = ", ".join(facts.full_name(worker.pod) for worker in gone)
                log.warning("still waiting for the end of evicted pods: %s", names)
                return
            await clock.sleep(POLL)

"""Keeping etcd's history at a stated length, with one owner however many API servers there are.

Every ``interval`` each compactor tries to write one *mark* key under the guard of the mark it saw last. One of them
succeeds: it owns this round. The mark's own revision together with the time written into it is a sample "at this time
etcd was at this revision"; the samples younger than the window are kept in the mark's value, so that a restarted or
another API server goes on where the last one stopped. What leaves the window at its old end is the revision to
compact to.

    window 600 s, interval 60 s:
    marks   00:00 @17   00:01 @230   ...   00:10 @9001   00:11 @9400
    at 00:11 the sample 00:01 @230 is 600 s old: compact(230)

Compacting to a mark's own revision is on purpose: that revision is a put. etcd 3.4 drops a *deletion* at exactly the
compacted revision from its history while still admitting watches from there, which would lose it unseen.
Source of the idea: kube-apiserver's ``compact_rev_key``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from bamikube.kit.world import World
from bamikube.store.port import Compare, KeyValue, Put, Store, StoreError

log = logging.getLogger(__name__)

MARK = b"/bamikube/compaction"


@dataclass(frozen=True, slots=True)
class Sample:
    """At ``time`` (seconds since the epoch) etcd was at ``revision``."""

    time: float
    revision: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a round comes to: where to compact to (0: nowhere yet), which samples to keep, and why."""

    compact_to: int
    keep: tuple[Sample, ...]
    reason: str


def plan(samples: tuple[Sample, ...], now: float, window: float) -> Plan:
    """The newest sample that is at least ``window`` seconds old is where history may begin.

    It is kept until a newer one takes its place, so that a compaction that failed is repeated. Samples from the
    future (a clock was set back) are dropped: they would hold compaction up for as long as they are ahead.
    """
    usable = [sample for sample in samples if sample.time <= now]
    old = [sample for sample in usable if now - sample.time >= window]
    if not old:
        return Plan(0, tuple(usable), "no sample is as old as the window yet")
    edge = max(old, key=lambda sample: sample.revision)
    keep = (edge, *(sample for sample in usable if now - sample.time < window))
    return Plan(edge.revision, keep, f"revision {edge.revision} is {now - edge.time:.0f} s old")


class Compactor:
    """Compacts ``store`` so that about ``window_seconds`` of history stay. ``run()`` it in every API server.

    ``is_leader`` may hold a compactor back (by default none is: the guard on the mark decides).
    """

    def __init__(
        self,
        store: Store,
        world: World,
        window_seconds: float = 600.0,
        is_leader: Callable[[], bool] = lambda: True,
        *,
        interval: float | None = None,
    ) -> None:
        self._store = store
        self._world = world
        self._window = window_seconds
        self._is_leader = is_leader
        self._interval = interval or max(window_seconds / 10, 1.0)
        self.compacted = 0  # the revision this compactor compacted to last

    async def run(self) -> None:
        """Rounds until cancelled. A failed round is logged and made up for by the next one."""
        while True:
            try:
                if self._is_leader():
                    await self.round()
            except StoreError as error:
                log.warning("compaction round failed, the next one is in %g s: %s", self._interval, error)
            # A little apart from the other API servers, so that not all of them write at the same moment.
            await self._world.clock.sleep(self._interval * self._world.chance.uniform(0.9, 1.1))

    async def round(self) -> Plan | None:
        """One round. None when another compactor owns it. Raises :class:`StoreError`."""
        found = await self._store.get(MARK)
        samples = parse(found)
        now = self._world.clock.now()
        if samples and 0 <= now - samples[-1].time < self._interval * 0.8:
            return None
        decided = plan(samples, now, self._window)
        guard = Compare(MARK, found.mod_revision if found else 0)
        outcome = await self._store.txn([guard], [Put(MARK, render(decided.keep, now))])
        if not outcome.succeeded:
            return None
        if decided.compact_to > self.compacted:
            await self._store.compact(decided.compact_to)
            self.compacted = decided.compact_to
            log.info("compacted etcd: %s", decided.reason)
        return decided


def render(samples: tuple[Sample, ...], now: float) -> bytes:
    """A mark's value: when it is written, and the samples before it."""
    return orjson.dumps({"time": now, "samples": [[sample.time, sample.revision] for sample in samples]})


def parse(mark: KeyValue | None) -> tuple[Sample, ...]:
    """The samples a mark holds, oldest first, its own revision being the last. A broken mark holds itself only."""
    if mark is None:
        return ()
    try:
        document = orjson.loads(mark.value)
        samples = [Sample(float(time), int(revision)) for time, revision in document["samples"]]
        return (*samples, Sample(float(document["time"]), mark.mod_revision))
    except (ValueError, TypeError, KeyError) as error:
        log.warning("the compaction mark %s cannot be read (%s); starting over", MARK.decode(), error)
        return ()

"""Compaction keeps the window, goes on after a restart, and has one owner at a time."""

from __future__ import annotations

import asyncio

import pytest

from bamikube.kit.chance import Chance
from bamikube.kit.world import World
from bamikube.store.compaction import MARK, Compactor, Sample, parse, plan
from bamikube.store.model import ModelStore
from bamikube.store.port import Compacted, Put


class HandClock:
    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


def test_the_plan_keeps_the_window_and_its_edge() -> None:
    samples = (Sample(0, 17), Sample(60, 230), Sample(600, 9001))
    assert plan(samples, 599, 600).compact_to == 0
    decided = plan(samples, 660, 600)
    assert decided.compact_to == 230
    assert decided.keep == (Sample(60, 230), Sample(600, 9001))


def test_samples_from_the_future_are_dropped() -> None:
    assert plan((Sample(5000, 9),), 100, 600).keep == ()


async def test_rounds_compact_to_the_window_and_survive_a_restart() -> None:
    clock = HandClock()
    world = World(clock, Chance(1))
    store = ModelStore(world)
    revisions: dict[float, int] = {}
    for minute in range(30):
        compactor = Compactor(store, world, 600)  # a new one each time: all state is in the store
        await compactor.round()
        revisions[clock.time] = (await store.txn([], [Put(b"/a", b"%d" % minute)])).revision
        clock.time += 60
    now = clock.time
    young = next(revision for time, revision in revisions.items() if now - time <= 540)
    old = next(revision for time, revision in revisions.items() if now - time >= 780)
    assert await store.get(b"/a", revision=young) is not None
    with pytest.raises(Compacted):
        await store.get(b"/a", revision=old)
    assert len(parse(await store.get(MARK))) <= 13


async def test_of_several_compactors_one_owns_a_round() -> None:
    world = World(HandClock(), Chance(1))
    store = ModelStore(world)
    rounds = await asyncio.gather(*(Compactor(store, world, 600).round() for _ in range(5)))
    assert sum(found is not None for found in rounds) == 1


async def test_a_broken_mark_is_replaced() -> None:
    world = World(HandClock(), Chance(1))
    store = ModelStore(world)
    await store.txn([], [Put(MARK, b"nonsense")])
    assert await Compactor(store, world).round() is not None
    assert len(parse(await store.get(MARK))) == 1

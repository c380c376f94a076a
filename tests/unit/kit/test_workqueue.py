"""The work queue keeps client-go's promises."""

from __future__ import annotations

import asyncio

from bamikube.kit.tasks import Tasks
from bamikube.kit.workqueue import WorkQueue, work
from bamikube.kit.world import World


async def test_a_key_added_twice_is_handed_out_once() -> None:
    queue = WorkQueue(World())
    queue.add("a")
    queue.add("a")
    assert await queue.get() == "a"
    assert len(queue) == 0


async def test_a_key_is_never_with_two_workers() -> None:
    queue = WorkQueue(World())
    queue.add("a")
    held = await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done(held)
    assert len(queue) == 1


async def test_the_earliest_delay_counts() -> None:
    queue = WorkQueue(World())
    queue.add_after("a", 60)
    queue.add_after("a", 0.01)
    assert await asyncio.wait_for(queue.get(), 5) == "a"


async def test_failures_back_off_and_success_forgets() -> None:
    tasks = Tasks("test")
    queue = WorkQueue(World(), base=0.001)
    seen: list[int] = []
    finished = asyncio.Event()

    async def sync(key: str) -> float | None:
        seen.append(queue.failures(key))
        if len(seen) < 4:
            raise ValueError("not yet")
        finished.set()
        return None

    queue.add("a")
    tasks.spawn(work(queue, sync, workers=2, tasks=tasks))
    await asyncio.wait_for(finished.wait(), 5)
    await tasks.close()
    assert seen == [0, 1, 2, 3]
    assert queue.failures("a") == 0


async def test_a_cancelled_getter_does_not_swallow_a_wake_up() -> None:
    queue = WorkQueue(World())
    first = asyncio.ensure_future(queue.get())
    second = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await asyncio.wait_for(second, 5) == "a"

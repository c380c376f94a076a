"""A call to etcd that ends in the moment its caller is cancelled: the caller is cancelled all the same."""

from __future__ import annotations

import asyncio

import pytest

from bamikube.store.etcd import _finished
from bamikube.store.port import Unavailable


async def deaf(outcome: asyncio.Future[str]) -> str:
    """As grpc.aio: a cancellation that comes late is forgotten, and the outcome handed over."""
    try:
        return await outcome
    except asyncio.CancelledError:
        if outcome.cancelled():
            return "outcome"
        return outcome.result()


async def test_an_outcome_does_not_hide_a_cancellation() -> None:
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(_finished(deaf(outcome)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_failure_does_not_hide_a_cancellation_and_deadlines_stay_deadlines() -> None:
    async def fails() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise Unavailable("gone") from None

    task = asyncio.ensure_future(_finished(fails()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await _finished(fails())
    with pytest.raises(Unavailable):
        async with asyncio.timeout(5):
            await _finished(_refused())


async def _refused() -> None:
    raise Unavailable("no")


async def test_a_task_that_was_cancelled_before_may_still_clean_up() -> None:
    said = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            said.append(await _finished(asyncio.sleep(0, "cleaned up")))

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled() and said == ["cleaned up"]

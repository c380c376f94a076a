"""Turns at contended objects."""

from __future__ import annotations

import asyncio

import pytest

from bamikube.apiserver.registry import turns


async def test_one_after_the_other_in_the_order_they_came() -> None:
    queue, told = turns.Turns(), list[str]()

    async def write(name: str) -> None:
        async with queue.taken(b"k"):
            told.append(f"{name} begins")
            await asyncio.sleep(0)
            told.append(f"{name} ends")

    async with queue.taken(b"other"):
        await asyncio.gather(*(write(name) for name in "abc"))
        assert not queue.contended(b"k") and queue.contended(b"other")
    assert told == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]


async def test_a_write_within_a_write_is_not_held_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 0.01)
    queue = turns.Turns()
    async with queue.taken(b"k"), queue.taken(b"k"):
        pass
    assert not queue.contended(b"k")


async def test_who_gives_up_leaves_the_queue() -> None:
    queue = turns.Turns()
    async with queue.taken(b"k"):

        async def wait() -> None:
            async with queue.taken(b"k"):
                raise AssertionError("it never was his turn")

        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert not queue.contended(b"k")

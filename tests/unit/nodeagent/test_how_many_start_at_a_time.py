"""A start that hangs holds its place for a moment only; memory is given back; what ``/healthz`` says of a loop that hangs."""

from __future__ import annotations

import asyncio

import pytest

from bamikube.kit import memory
from bamikube.kit.health import HealthServer
from bamikube.kit.http import Request
from bamikube.kit.slots import Slots
from bamikube.nodeagent.pod.context import LONG
from bamikube.nodeagent.server.app import _health
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode


def test_starts_that_hang_are_not_counted_for_long() -> None:
    async def life() -> None:
        slots, begun = Slots(2, LONG), []
        loop, goes_on = asyncio.get_running_loop(), asyncio.Event()

        async def start(name: str, hangs: bool) -> None:
            async with slots.one():
                begun.append((name, round(loop.time() - first)))
                if hangs:
                    await goes_on.wait()

        first = loop.time()
        tasks = [asyncio.ensure_future(start(name, True)) for name in "ab"]
        tasks.append(asyncio.ensure_future(start("c", False)))
        await asyncio.sleep(LONG - 0.1)
        assert [name for name, _ in begun] == ["a", "b"]
        await asyncio.sleep(0.2)
        assert begun[2:] == [("c", round(LONG))]
        goes_on.set()
        await asyncio.gather(*tasks)

        # What hung and has ended now has given back no more than it took.
        goes_on.clear()
        begun.clear()
        tasks = [asyncio.ensure_future(start(name, True)) for name in "abc"]
        await asyncio.sleep(0.1)
        assert len(begun) == 2
        goes_on.set()
        await asyncio.gather(*tasks)

    virtual.run(life())


def test_memory_is_given_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(memory, "_trim", lambda: asked.append)

    async def life() -> None:
        giving = asyncio.ensure_future(memory.give_back(HollowNode().clock))
        await asyncio.sleep(2 * memory.PERIOD + 1)
        giving.cancel()

    virtual.run(life())
    assert asked == [0, 0]


@pytest.mark.parametrize(
    ("path", "turns", "code", "text"),
    [
        ("", True, 200, "ok"),
        ("ping", False, 200, "ok"),
        (
            "",
            False,
            500,
            "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n",
        ),
        ("syncloop", False, 500, "internal server error: sync Loop took longer than expected\n"),
    ],
)
def test_health_of_the_node_agent_in_the_kubelets_words(path: str, turns: bool, code: int, text: str) -> None:
    answer = _health(Request.make("GET", f"/healthz/{path}"), path, turns)
    assert (answer.status, bytes(answer.body).decode()) == (code, text)


def test_a_service_whose_check_fails_is_not_healthy() -> None:
    class Service:
        name = "it"

        def __init__(self) -> None:
            self.ready, self.checks = asyncio.Event(), {"syncloop": lambda: False}

    server = HealthServer(Service())
    assert server.answer("/healthz")[::2] == (
        500,
        b"[+]ping ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n",
    )
    assert server.answer("/healthz/syncloop")[0] == 500 and server.answer("/healthz/ping")[0] == 200
    assert server.answer("/healthz/other")[0] == 404

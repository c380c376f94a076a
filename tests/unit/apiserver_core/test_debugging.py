"""``/debug`` with ``--profiling``, and without: what waits, what runs, where the time goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.identity import MASTERS, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.kit.http import Request, Response
from bamikube.kit.world import World
from bamikube.store.model import ModelStore

FLOWS = "/debug/api_priority_and_fairness"


class Administrator:
    async def authenticate(self, request: Request) -> User | None:
        return User("admin", (MASTERS,))


async def served(profiling: bool) -> AsyncIterator[ApiServer]:
    world = World()
    options = ApiServerOptions(profiling=profiling)
    server = ApiServer(ModelStore(world), options, world, methods=(Administrator(),))
    running = asyncio.ensure_future(server.run())
    await asyncio.wait_for(server.ready.wait(), 10)
    yield server
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async for one in served(profiling=True):
        yield one


async def text(server: ApiServer, path: str, status: int = 200) -> str:
    answer = await server.handle(Request.make("GET", path))
    assert isinstance(answer, Response) and answer.status == status, answer
    return answer.joined().decode()


async def test_it_is_off_unless_asked_for() -> None:
    async for server in served(profiling=False):
        for path in (f"{FLOWS}/dump_priority_levels", "/debug/pprof/", "/debug/pprof/goroutine"):
            await text(server, path, 404)


async def test_levels_queues_and_who_waits(server: ApiServer) -> None:
    somebody = Attributes(User("somebody", ("system:authenticated",)), "list", "", "", "v1", "pods")
    await text(server, "/version")  # whoever comes first makes flow control take in its objects
    level = server.flow.levels["global-default"]
    taken = server.flow.enter(somebody, level.nominal)
    assert taken is not None and taken.level is level
    level.borrowing = 0
    waiting = asyncio.ensure_future(server.flow.wait(somebody, 3))
    await asyncio.sleep(0)  # it runs as far as it can: into the queue
    assert level.waiting == 1
    rows = [line.split() for line in (await text(server, f"{FLOWS}/dump_priority_levels")).splitlines()]
    table = {
        row[0].rstrip(","): dict(zip((name.rstrip(",") for name in rows[0]), row, strict=True))
        for row in rows
    }
    found = table["global-default"]
    assert found["ActiveQueues"] == "1," and found["WaitingRequests"] == "1,"
    assert found["IsIdle"] == "false," and found["ExecutingRequests"] == "1,"
    assert table["exempt"]["ActiveQueues"] == "<none>,"
    queues = await text(server, f"{FLOWS}/dump_queues")
    assert sum(line.startswith("global-default,") for line in queues.splitlines()) == len(level.queues)
    requests = await text(server, f"{FLOWS}/dump_requests")
    assert [line.split()[-2] for line in requests.splitlines()[1:]] == ["3,"]
    server.flow.leave(taken, level.nominal)
    server.flow.leave(await waiting, 3)


async def test_tasks_and_a_profile(server: ApiServer) -> None:
    assert "task apiserver/cache" in await text(server, "/debug/pprof/goroutine")
    assert "profile" in await text(server, "/debug/pprof/")
    stacks = await text(server, "/debug/pprof/profile?seconds=0.05")
    assert stacks and all(line.rsplit(" ", 1)[1].isdigit() for line in stacks.splitlines())
    for seconds in ("x", "-1", "0", "100", "nan"):
        assert "must be a number" in await text(server, f"/debug/pprof/profile?seconds={seconds}", 400)
    await text(server, "/debug/nothing", 404)

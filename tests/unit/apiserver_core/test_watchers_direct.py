"""Events that go straight to a watcher's connection keep their order with those that its stream hands over."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from bamikube.apiserver.cache.watcher import Filter, Group, Watcher
from bamikube.kit.http import Request, Stream
from bamikube.kit.httpserver import serve
from bamikube.kit.tasks import Tasks


class Quiet:
    """As much of a slot as a watcher that never lags asks for."""

    def leave(self, watcher: Watcher) -> None:
        pass

    def flush(self) -> None:
        pass

    def reached(self) -> int:
        return 0


def watcher() -> Watcher:
    return Watcher(cast(Any, Quiet()), Group(Filter(), cast(Any, None)), 0, bookmarks=False)


def stream(one: Watcher) -> Any:
    deadline = time.monotonic() + 20
    return one.stream(
        [b"first;"], initial_end=False, deadline=deadline, bookmark_every=60, monotonic=time.monotonic
    )


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.sampled_from(["push", "run", "open", "shut"]), max_size=40))
def test_every_event_arrives_once_and_in_order(steps: list[str]) -> None:
    async def play() -> tuple[list[bytes], int]:
        out: list[bytes] = []
        takes = True
        one = watcher()

        def sink(chunk: bytes) -> bool:
            if takes:
                out.append(chunk)
            return takes

        async def write() -> None:
            async for chunk in stream(one):
                out.append(chunk)
                await asyncio.sleep(0)  # as an edge that waits for its connection

        one.direct(sink)
        task = asyncio.ensure_future(write())
        pushed = 0
        for step in steps:
            if step == "push":
                pushed += 1
                one.push(b"%d;" % pushed, pushed)
            elif step == "run":
                await asyncio.sleep(0)
            else:
                takes = step == "open"
        one.end()
        await task
        return out, pushed

    out, pushed = asyncio.run(play())
    assert b"".join(out) == b"first;" + b"".join(b"%d;" % number for number in range(1, pushed + 1))


async def test_a_connection_that_is_not_read_is_not_written_to_and_loses_nothing() -> None:
    one = watcher()
    tasks = Tasks("edge")

    async def handle(request: Request) -> Stream:
        return Stream(200, stream(one), direct=one.direct)

    server = await serve(handle, host="127.0.0.1", port=0, tasks=tasks)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 16)
    writer.write(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"first;\r\n")
    assert b"Transfer-Encoding: chunked" in head
    lines = [b"%06d;" % number * 2_000 for number in range(300)]  # 4 MB: more than socket and buffers hold
    for number, line in enumerate(lines):
        one.push(line, number + 1)
        if number % 10 == 0:
            await asyncio.sleep(0)
    one.end()
    body = bytearray()
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    assert body == b"".join(lines)
    writer.close()
    await server.close()
    await tasks.close()

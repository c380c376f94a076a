"""A crowd of requests over a few connections: those that hang, and watches, hold up nobody."""

from __future__ import annotations

import asyncio

from bamikube.client import transport
from bamikube.client.transport import HttpTransport
from bamikube.kit.http import Request, Response
from bamikube.kit.httpserver import serve
from bamikube.kit.tasks import Tasks
from bamikube.pki.kubeconfig import Access


async def test_only_so_many_are_under_way_but_for_those_that_take_long() -> None:
    under_way, most, goes_on = 0, 0, asyncio.Event()

    async def handle(request: Request) -> Response:
        nonlocal under_way, most
        if request.path == "/hangs":
            await goes_on.wait()
            return Response(200, b"{}")
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return Response(200, b"{}")

    tasks = Tasks("test")
    server = await serve(handle, host="127.0.0.1", port=0, tasks=tasks)
    carrier = HttpTransport(Access(f"http://127.0.0.1:{server.port}"), at_a_time=3)
    try:
        crowd = [carrier.send("GET", "/quick", headers={}) for _ in range(20)]
        assert {answer.status for answer in await asyncio.gather(*crowd)} == {200}
        assert most == 3
        hanging = [asyncio.ensure_future(carrier.send("GET", "/hangs", headers={})) for _ in range(3)]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(transport.LONG + 2.0):
            assert (await carrier.send("GET", "/quick", headers={})).status == 200
        goes_on.set()
        await asyncio.gather(*hanging)
    finally:
        await carrier.close()
        await server.close()
        await tasks.close()

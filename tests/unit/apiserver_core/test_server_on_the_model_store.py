"""The whole API server on the in-memory store: no socket, no etcd. What the simulation relies on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from bamikube.apiserver.identity import MASTERS, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.kit.http import Request, Response, Stream
from bamikube.kit.world import World
from bamikube.store.model import ModelStore

CMS = "/api/v1/namespaces/default/configmaps"


class Everybody:
    async def authenticate(self, request: Request) -> User | None:
        return User("admin", (MASTERS,))


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    world = World()
    made = ApiServer(ModelStore(world), ApiServerOptions(), world, methods=(Everybody(),))
    running = asyncio.ensure_future(made.run())
    await asyncio.wait_for(made.ready.wait(), 10)
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def call(server: ApiServer, method: str, target: str, body: Any = None) -> tuple[int, Any]:
    data = orjson.dumps(body) if body is not None else b""
    answer = await server.handle(Request.make(method, target, body=data))
    assert isinstance(answer, Response)
    return answer.status, orjson.loads(answer.joined())


async def test_a_write_is_read_back_even_while_the_watch_is_dead(server: ApiServer) -> None:
    """A consistent read never answers from a cache that is behind: it asks the store instead."""
    await call(server, "POST", CMS, {"metadata": {"name": "a"}, "data": {"k": "1"}})
    server.cache.feed = lambda changes: None  # type: ignore[method-assign]  # the watch goes deaf
    status, made = await call(server, "POST", CMS, {"metadata": {"name": "b"}, "data": {"k": "2"}})
    assert status == 201
    status, read = await call(server, "GET", f"{CMS}/b")
    assert status == 200 and read == made
    _, listed = await call(server, "GET", CMS)
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a", "b"]


async def test_a_watcher_that_does_not_read_catches_up_and_misses_nothing(server: ApiServer) -> None:
    answer = await server.handle(Request.make("GET", f"{CMS}?watch=true&resourceVersion=0"))
    assert isinstance(answer, Stream)
    pending = asyncio.ensure_future(anext(answer.chunks))
    await asyncio.sleep(0)
    big = "x" * 200_000
    for i in range(40):  # twice the buffer of a watcher
        await call(server, "POST", CMS, {"metadata": {"name": f"c{i:02}"}, "data": {"k": big}})
    lines = (await pending).splitlines()
    while len(lines) < 40:
        lines += (await asyncio.wait_for(anext(answer.chunks), 5)).splitlines()
    names = [orjson.loads(line)["object"]["metadata"]["name"] for line in lines]
    assert names == [f"c{i:02}" for i in range(40)]
    await answer.chunks.aclose()  # type: ignore[attr-defined]
    assert not server.cache.watchers


async def test_health_says_what_is_checked(server: ApiServer) -> None:
    answer = await server.handle(Request.make("GET", "/readyz?verbose"))
    assert isinstance(answer, Response)
    for name in (
        "etcd",
        "poststarthook/rbac/bootstrap-roles",
        "poststarthook/crd-informer-synced",
        "shutdown",
    ):
        assert f"[+]{name} ok\n".encode() in answer.joined()
    assert answer.joined().endswith(b"readyz check passed\n")
    assert (await server.handle(Request.make("GET", "/livez/ping"))).status == 200  # type: ignore[union-attr]
    metrics = await server.handle(Request.make("GET", "/metrics"))
    assert isinstance(metrics, Response) and b"apiserver_request_total" in metrics.joined()


async def test_a_request_may_ask_for_less_time(server: ApiServer) -> None:
    for text in ("3m", "0s", "-1s", ""):
        assert (await call(server, "GET", f"/version?timeout={text}"))[0] == 200
    status, refused = await call(server, "GET", "/version?timeout=invalid")
    assert (status, refused["message"]) == (
        400,
        'invalid timeout specified in the request URL - time: invalid duration "invalid"',
    )
    forever = asyncio.Event()

    async def stuck(*_: Any, **__: Any) -> None:
        await forever.wait()

    server.cache.consistent = stuck  # type: ignore[method-assign,assignment]
    status, late = await call(server, "GET", f"{CMS}?timeout=20ms")
    assert (status, late["reason"], late["message"]) == (
        504,
        "Timeout",
        "Timeout: request did not complete within requested timeout - context deadline exceeded",
    )


async def test_everybody_who_patches_one_object_gets_his_turn(server: ApiServer) -> None:
    """Kubernetes carries out every patch that names no version, however many come at once."""
    await call(server, "POST", CMS, {"metadata": {"name": "one"}})

    async def patch(number: int, query: str, media: str, body: Any) -> int:
        headers = {"content-type": f"application/{media}"}
        target = f"{CMS}/one?fieldManager=m{number}{query}"
        answer = await server.handle(Request.make("PATCH", target, headers=headers, body=orjson.dumps(body)))
        assert isinstance(answer, Response)
        return answer.status

    whole = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}
    waiting = [
        patch(number, "", "merge-patch+json", {"data": {f"m{number}": "x"}})
        if number % 2
        else patch(number, "", "apply-patch+yaml", {**whole, "data": {f"a{number}": "x"}})
        for number in range(80)
    ]
    assert set(await asyncio.gather(*waiting)) == {200}
    assert len((await call(server, "GET", f"{CMS}/one"))[1]["data"]) == 80
    assert not server.registry.turns.contended(b"/registry/configmaps/default/one")


async def test_what_is_nested_too_deep_is_refused_and_spoils_no_list(server: ApiServer) -> None:
    """JSON is written 254 levels deep at most: what is stored leaves room for what answers put around it."""
    revisions = "/apis/apps/v1/namespaces/default/controllerrevisions"
    statuses = []
    for depth in range(234, 258):
        data: dict[str, Any] = {}
        for _ in range(depth - 1):
            data = {"a": data}
        # json: the body itself may be deeper than orjson writes
        body = json.dumps({"metadata": {"name": f"d{depth}"}, "revision": 1, "data": data}).encode()
        answer = await server.handle(Request.make("POST", revisions, body=body))
        statuses.append(answer.status)
        for accept in ("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"):
            listed = await server.handle(Request.make("GET", revisions, headers={"accept": accept}))
            assert listed.status == 200, (depth, accept)
    assert statuses == sorted(statuses) and set(statuses) == {201, 400}

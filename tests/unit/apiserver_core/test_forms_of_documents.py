"""What is no resource has forms, too: who takes none of them is refused as Kubernetes' router, or its aggregator, refuses him."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from bamikube.apiserver.identity import MASTERS, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.kit.http import Request, Response
from bamikube.kit.world import World
from bamikube.store.model import ModelStore

ALL = "application/json, application/yaml, application/vnd.kubernetes.protobuf"


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


async def ask(server: ApiServer, path: str, accept: str, **more: str) -> Response:
    headers = {"accept": accept, **{name.replace("_", "-"): value for name, value in more.items()}}
    answer = await server.handle(Request.make("GET", path, headers=headers))
    assert isinstance(answer, Response)
    return answer


REFUSED = [
    ("/version", "text/html", "406: Not Acceptable\n\nAvailable representations: application/json"),
    ("/version", "application/cbor", "406: Not Acceptable\n\nAvailable representations: application/json"),
    ("/version", "application/*", "406: Not Acceptable\n\nAvailable representations: application/json"),
    ("/api", "text/html", f"406: Not Acceptable\n\nAvailable representations: {ALL}"),
    ("/api/v1", "image/png, text/html;q=0.5", f"406: Not Acceptable\n\nAvailable representations: {ALL}"),
    ("/apis/apps/v1", "text/html", f"406: Not Acceptable\n\nAvailable representations: {ALL}"),
    ("/apis", "text/html", f"only the following media types are accepted: {ALL}"),
    ("/apis/apps", "text/html", f"only the following media types are accepted: {ALL}"),
]
TAKEN = ("", "*/*", "application/json", "text/html, */*;q=0.1", "text/html,application/json;q=0.9")


async def test_forms_that_there_are_and_are_not(server: ApiServer) -> None:
    for path, accept, said in REFUSED:
        answer = await ask(server, path, accept)
        assert answer.status == 406 and orjson.loads(answer.joined())["message"] == said, (path, accept)
    for path in ("/version", "/api", "/apis", "/apis/apps", "/api/v1", "/apis/apps/v1"):
        for accept in TAKEN:
            answer = await ask(server, path, accept)
            assert answer.status == 200 and answer.content_type == "application/json", (path, accept)

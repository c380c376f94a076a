"""Watches and tokens by websocket, as browsers use them, through the API server and its HTTP edge."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from bamikube.api.errors import ApiError
from bamikube.apiserver.authn.authenticator import TOKEN_PROTOCOL, bearer_token
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.apiserver.subresources.streams import forwarded
from bamikube.kit.http import Request
from bamikube.kit.httpserver import serve
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.store.model import ModelStore

TOKEN = "an+odd/token~"
OFFERED = TOKEN_PROTOCOL + base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")
MAPS = "/api/v1/namespaces/default/configmaps"


def asking(protocols: str, **headers: str) -> Request:
    return Request("GET", "/", headers={"sec-websocket-protocol": protocols} | headers)


def test_a_token_among_the_protocols() -> None:
    assert bearer_token(asking(f"base64.binary.k8s.io, {OFFERED}")) == TOKEN
    assert bearer_token(asking("v5.channel.k8s.io")) == ""
    assert bearer_token(asking(OFFERED, authorization="Bearer other")) == "other"


@pytest.mark.parametrize(
    "protocols", [OFFERED, f"x, {TOKEN_PROTOCOL}", f"x,{TOKEN_PROTOCOL}%%", f"x,{OFFERED},{OFFERED}"]
)
def test_a_token_that_cannot_be_taken_is_refused(protocols: str) -> None:
    with pytest.raises(ApiError) as caught:
        bearer_token(asking(protocols))
    assert caught.value.code == 401


def test_a_token_stays_here() -> None:
    request = asking(
        f"{OFFERED}, v4.channel.k8s.io, channel.k8s.io", upgrade="websocket", connection="Upgrade"
    )
    assert ("sec-websocket-protocol", "v4.channel.k8s.io, channel.k8s.io") in forwarded(request, "node:10250")


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    world, tasks = World(), Tasks("test")
    tokens = tmp_path / "tokens.csv"
    tokens.write_text(f"{TOKEN},admin,1,system:masters\n")
    api = ApiServer(ModelStore(world), ApiServerOptions(token_auth_file=str(tokens)), world)
    tasks.spawn(api.run(), "apiserver")
    await api.ready.wait()
    server = await serve(api.handle, host="127.0.0.1", port=0, tasks=tasks)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", headers=headers) as session:
        async with session.post(MAPS, json={"metadata": {"name": "one"}}) as answer:
            assert answer.status == 201
        yield session
    await server.close(0)
    await tasks.close()


async def test_a_watch_by_websocket(edge: aiohttp.ClientSession) -> None:
    browser = {"Authorization": ""}  # which cannot send it
    async with (
        asyncio.timeout(10),
        edge.ws_connect(
            f"{MAPS}?watch=1&resourceVersion=0", protocols=["base64.binary.k8s.io", OFFERED], headers=browser
        ) as socket,
    ):
        assert socket.protocol == "base64.binary.k8s.io"
        first = json.loads(await socket.receive_str())
        assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "one")
        async with edge.post(MAPS, json={"metadata": {"name": "two"}}) as answer:
            assert answer.status == 201
        async with edge.delete(f"{MAPS}/two") as answer:
            assert answer.status == 200
        heard = [json.loads(await socket.receive_str()) for _ in range(2)]
        assert [event["type"] for event in heard] == ["ADDED", "DELETED"]
    query = f"{MAPS}?watch=1&resourceVersion=0&timeoutSeconds=1"
    async with asyncio.timeout(10), edge.ws_connect(query) as socket:
        assert [json.loads(message.data)["type"] async for message in socket] == ["ADDED"]
        assert socket.close_code == 1000


async def test_a_watch_in_protobuf(edge: aiohttp.ClientSession) -> None:
    accept = {"Accept": "application/vnd.kubernetes.protobuf;stream=watch"}
    query = f"{MAPS}?watch=1&resourceVersion=0&timeoutSeconds=1"
    async with asyncio.timeout(10), edge.ws_connect(query, headers=accept) as socket:
        heard = [message async for message in socket]
    assert [message.type for message in heard] == [aiohttp.WSMsgType.BINARY]
    assert b"ADDED" in heard[0].data and b"one" in heard[0].data


async def test_what_is_no_websocket_is_told_so(edge: aiohttp.ClientSession) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    async with edge.get(f"{MAPS}?watch=1", headers=upgrade) as answer:
        assert (answer.status, (await answer.json())["reason"]) == (400, "BadRequest")

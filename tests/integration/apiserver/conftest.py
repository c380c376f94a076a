"""An API server on real etcd, spoken to without sockets: the same ``handle`` the HTTP edge calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from bamikube.apiserver.identity import MASTERS, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.kit.http import Request, Response, Stream
from bamikube.kit.world import World
from bamikube.store.etcd import EtcdStore
from tests.support.etcd import EtcdServer, etcd_server


class HeaderMethod:
    """Users by the header ``x-test-user``; no header is the administrator."""

    async def authenticate(self, request: Request) -> User | None:
        name = request.headers.get("x-test-user", "admin")
        return User(name, (MASTERS,) if name == "admin" else ())


class Api:
    """Requests and answers as a test wants them: dictionaries."""

    def __init__(self, server: ApiServer, store: EtcdStore) -> None:
        self.server = server
        self.store = store

    async def raw(self, method: str, target: str, body: Any = None, **headers: str) -> Any:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        return await self.server.handle(Request.make(method, target, headers=names, body=data))

    async def call(self, method: str, target: str, body: Any = None, code: int = 200, **headers: str) -> Any:
        answer = await self.raw(method, target, body, **headers)
        assert isinstance(answer, Response)
        text = answer.joined()
        decoded = text if text == b"404 page not found\n" else orjson.loads(text)
        assert answer.status == code, decoded
        return decoded

    async def get(self, target: str, code: int = 200, **headers: str) -> Any:
        return await self.call("GET", target, None, code, **headers)

    async def post(self, target: str, body: Any, code: int = 201, **headers: str) -> Any:
        return await self.call("POST", target, body, code, **headers)

    async def put(self, target: str, body: Any, code: int = 200, **headers: str) -> Any:
        return await self.call("PUT", target, body, code, **headers)

    async def patch(self, target: str, body: Any, code: int = 200, kind: str = "merge-patch+json") -> Any:
        return await self.call("PATCH", target, body, code, content_type=f"application/{kind}")

    async def delete(self, target: str, body: Any = None, code: int = 200) -> Any:
        return await self.call("DELETE", target, body, code)

    async def watch(self, target: str, **headers: str) -> Watch:
        joint = "&" if "?" in target else "?"
        answer = await self.raw("GET", f"{target}{joint}watch=true", **headers)
        assert isinstance(answer, Stream), orjson.loads(answer.joined())
        return Watch(answer)


class Watch:
    """Events of one stream."""

    def __init__(self, stream: Stream) -> None:
        self._chunks = stream.chunks
        self._lines: list[bytes] = []

    async def next(self, timeout: float = 5.0) -> dict[str, Any]:
        while not self._lines:
            chunk = await asyncio.wait_for(anext(self._chunks), timeout)
            self._lines = [line for line in chunk.split(b"\n") if line]
        event: dict[str, Any] = orjson.loads(self._lines.pop(0))
        return event

    async def take(self, count: int) -> list[tuple[str, str]]:
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]

    async def close(self) -> None:
        await self._chunks.aclose()  # type: ignore[attr-defined]


@pytest.fixture(scope="package")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with etcd_server(Path(tmp_path_factory.mktemp("etcd"))) as server:
        yield server


_count = 0


@pytest.fixture
async def api(etcd: EtcdServer) -> AsyncIterator[Api]:
    """A server with an empty key space of its own."""
    async for one in started(etcd):
        yield one


@pytest.fixture
async def every(etcd: EtcdServer) -> AsyncIterator[Api]:
    """As ``api``, by the name under which the test of all resources takes it."""
    async for one in started(etcd):
        yield one


async def started(etcd: EtcdServer) -> AsyncIterator[Api]:
    """A running server, stopped afterwards."""
    global _count
    _count += 1
    world = World()
    store = EtcdStore(etcd.endpoints, world=world, prefix=f"/test-{_count}".encode())
    server = ApiServer(store, ApiServerOptions(etcd_compaction_interval=0), world, methods=(HeaderMethod(),))
    running = asyncio.ensure_future(server.run())
    await asyncio.wait_for(server.ready.wait(), 20)
    yield Api(server, store)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()

"""A reader over plain dictionaries, and a whole API server over the model store: no sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.kit.chance import Chance
from bamikube.kit.http import Request, Response
from bamikube.kit.world import World
from bamikube.store.model import ModelStore

Key = tuple[str, str]


class DictReader:
    """The Reader protocol over dictionaries; ``put`` and ``drop`` tell subscribers."""

    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self.synced.set()
        self.objects: dict[Key, dict[tuple[str, str], dict[str, Any]]] = {}
        self.callbacks: dict[Key, list[Callable[..., None]]] = {}

    def get(self, resource_key: Key, namespace: str, name: str) -> dict[str, Any] | None:
        return self.objects.get(resource_key, {}).get((namespace, name))

    def list(self, resource_key: Key, namespace: str = "") -> list[dict[str, Any]]:
        found = self.objects.get(resource_key, {})
        return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    async def consistent(self, timeout: float = 3.0) -> bool:
        return True

    def subscribe(self, resource_key: Key, callback: Callable[..., None], only: str = "") -> None:
        def told(kind: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
            metadata = (new or old or {})["metadata"]
            if only in ("", f"{metadata.get('namespace', '')}/{metadata['name']}".lstrip("/")):
                callback(kind, old, new)

        self.callbacks.setdefault(resource_key, []).append(told)
        for obj in self.list(resource_key):
            told("ADDED", None, obj)

    def put(self, resource_key: Key, obj: dict[str, Any]) -> None:
        key = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        old = self.objects.setdefault(resource_key, {}).get(key)
        self.objects[resource_key][key] = obj
        for callback in self.callbacks.get(resource_key, []):
            callback("MODIFIED" if old else "ADDED", old, obj)

    def drop(self, resource_key: Key, namespace: str, name: str) -> None:
        old = self.objects[resource_key].pop((namespace, name))
        for callback in self.callbacks.get(resource_key, []):
            callback("DELETED", old, None)


@pytest.fixture
def reader() -> DictReader:
    return DictReader()


@pytest.fixture
def world() -> World:
    return World(chance=Chance(7))


class Caller:
    """Requests to an API server as one user (by a method of authentication that believes a header)."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    async def __call__(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        user: str = "admin",
        groups: str = "system:masters",
        **headers: str,
    ) -> tuple[int, Any]:
        sent = {"x-test-user": user, "x-test-groups": groups, "content-type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = b"" if body is None else orjson.dumps(body)
        answer = await self.server.handle(Request.make(method, target, headers=sent, body=data))
        assert isinstance(answer, Response), answer
        content = answer.joined()
        plain = answer.content_type.startswith("text/plain")
        return answer.status, orjson.loads(content) if content and not plain else None


class HeaderMethod:
    async def authenticate(self, request: Request) -> Any:
        from bamikube.apiserver.identity import User

        name = request.headers.get("x-test-user")
        if not name:
            return None
        return User(name, tuple(one for one in request.headers.get("x-test-groups", "").split(",") if one))


@contextlib.asynccontextmanager
async def running(store: ModelStore, world: World, **options: Any) -> AsyncIterator[Caller]:
    server = ApiServer(store, ApiServerOptions(**options), world, methods=(HeaderMethod(),))
    task = asyncio.ensure_future(server.run())
    try:
        async with asyncio.timeout(20):
            await server.ready.wait()
        yield Caller(server)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def call(world: World) -> AsyncIterator[Caller]:
    store = ModelStore(world)
    async with running(store, world) as caller:
        for namespace in ("default", "kube-system"):
            body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            status, answer = await caller("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", body)
            assert status == 201, answer
        yield caller
    await store.close()

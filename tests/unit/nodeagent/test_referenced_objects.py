"""What pods refer to is watched while they are there, told once it changes, and asked for where a watch is silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bamikube.apiserver.identity import MASTERS, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.client.client import Client
from bamikube.client.transport import InProcessTransport
from bamikube.kit.http import Request
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.nodeagent.referenced import Referenced, references
from bamikube.store.model import ModelStore

JSON = dict[str, Any]


def pod(uid: str, *names: str, generation: int = 1) -> JSON:
    volumes = [{"name": name, "configMap": {"name": name}} for name in names]
    meta = {"name": uid, "namespace": "default", "uid": uid, "generation": generation}
    return {"metadata": meta, "spec": {"containers": [], "volumes": volumes}}


def test_everything_a_pod_refers_to_is_found() -> None:
    def variable(field: str, name: str) -> JSON:
        return {"name": "V", "valueFrom": {field: {"name": name, "key": "k"}}}

    spec = {
        "imagePullSecrets": [{"name": "pull"}, {}],
        "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "init"}}]}],
        "containers": [{"name": "c", "env": [variable("secretKeyRef", "one"), variable("configMapKeyRef", "two")]}],
        "ephemeralContainers": [{"name": "e", "envFrom": [{"secretRef": {"name": "debug"}}]}],
        "volumes": [
            {"name": "a", "secret": {"secretName": "three"}},
            {"name": "b", "projected": {"sources": [{"configMap": {"name": "four"}}, {"downwardAPI": {}}]}},
            {"name": "c", "emptyDir": {}},
        ],
    }  # fmt: skip
    assert references({"metadata": {}, "spec": spec}) == {
        ("Secret", "pull"), ("ConfigMap", "init"), ("Secret", "one"), ("ConfigMap", "two"), ("Secret", "debug"),
        ("Secret", "three"), ("ConfigMap", "four"),
    }  # fmt: skip


class Administrator:
    async def authenticate(self, request: Request) -> User | None:
        return User("admin", (MASTERS,))


class Watched:
    def __init__(self, client: Client, world: World) -> None:
        self.client = client
        self.referenced = Referenced(client, world)
        self.told: list[set[str]] = []
        self.referenced.tell = self.told.append

    async def write(self, name: str, value: str, **more: Any) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}
        body |= {"data": {"k": value}, **more}
        old = await self.client.list("configmaps", "default", fields=f"metadata.name={name}")
        await (self.client.update if old["items"] else self.client.create)("configmaps", body)

    async def value(self, name: str) -> str | None:
        found = await self.referenced.get("ConfigMap", "default", name)
        return None if found is None else str(found["data"]["k"])

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - a poll is all a test needs
                await asyncio.sleep(0.005)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    world, tasks = World(), Tasks("test")
    server = ApiServer(ModelStore(world), ApiServerOptions(), world, methods=(Administrator(),))
    tasks.spawn(server.run(), "apiserver")
    await server.ready.wait()
    one = Watched(Client(InProcessTransport(server.handle), world), world)
    async with asyncio.timeout(10):
        while not (await one.client.list("namespaces"))["items"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    yield one
    await one.referenced.close()
    await tasks.close()


async def test_a_change_is_told_to_all_pods_that_refer_to_it(watched: Watched) -> None:
    await watched.write("x", "1")
    watched.referenced.hold(pod("a", "x", "later"))
    watched.referenced.hold(pod("b", "x"))
    assert await watched.value("x") == "1" and await watched.value("later") is None
    assert watched.told == []
    await watched.write("x", "2")
    await watched.until(lambda: watched.told == [{"a", "b"}])
    assert await watched.value("x") == "2"
    await watched.write("later", "here")
    await watched.until(lambda: watched.told[1:] == [{"a"}])
    assert await watched.value("later") == "here"
    watched.referenced.release("b")
    await watched.client.delete("configmaps", "x", "default")
    await watched.until(lambda: watched.told[2:] == [{"a"}])
    assert await watched.value("x") is None


async def test_watches_end_with_the_last_pod_and_with_immutable_objects(watched: Watched) -> None:
    await watched.write("fixed", "1", immutable=True)
    await watched.write("free", "1")
    watched.referenced.hold(pod("a", "fixed", "free"))
    assert await watched.value("fixed") == "1"
    assert await watched.value("free") == "1"
    await watched.until(lambda: len(watched.referenced._tasks) == 1)
    assert await watched.value("fixed") == "1"
    watched.referenced.hold(pod("a", "fixed"))  # of the same generation: nothing to be read
    assert len(watched.referenced._tasks) == 1
    watched.referenced.hold(pod("a", "fixed", generation=2))
    await watched.until(lambda: len(watched.referenced._tasks) == 0)
    watched.referenced.release("a")
    watched.referenced.release("unknown")
    assert watched.referenced._entries == {} and watched.referenced._held == {}
    await watched.referenced.close()
    watched.referenced.hold(pod("late", "free"))
    assert watched.referenced._entries == {}

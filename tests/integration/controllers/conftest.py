"""Controllers on a real API server and a real etcd, with hollow nodes that run every pod in their heads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bamikube.api.errors import ApiError
from bamikube.apiserver.identity import ALL_AUTHENTICATED, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.client.client import Client
from bamikube.client.transport import InProcessTransport
from bamikube.controllers.options import ControllersOptions
from bamikube.controllers.service import Controllers
from bamikube.kit.http import Request
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.store.etcd import EtcdStore
from tests.support.etcd import EtcdServer, etcd_server

Object = dict[str, Any]


class NamedUsers:
    """The user's name and groups stand in headers."""

    async def authenticate(self, request: Request) -> User | None:
        name = request.headers.get("x-test-user", "")
        groups = tuple(part for part in request.headers.get("x-test-groups", "").split(",") if part)
        return User(name, (*groups, ALL_AUTHENTICATED)) if name else None


class ControlPlane:
    """A served API, and processes that come and go."""

    def __init__(self, server: ApiServer, world: World, tasks: Tasks) -> None:
        self.server = server
        self.world = world
        self.tasks = tasks
        self.admin = self.client("admin", "system:masters")

    def client(self, user: str, groups: str = "") -> Client:
        headers = {"x-test-user": user, "x-test-groups": groups}
        return Client(InProcessTransport(self.server.handle, headers), self.world)

    def controllers(self, **options: Any) -> asyncio.Task[None]:
        """Controllers as the user whose roles they have in a cluster."""
        given: Any = {"kubeconfig": "none", "leader_elect": False} | options
        client = self.client("system:kube-controller-manager")
        service = Controllers(client, ControllersOptions(**given), self.world, "-----CA-----\n")
        return self.tasks.spawn(service.run(), "controllers")

    async def until(self, what: str, holds: Callable[[], Awaitable[Any]], seconds: float = 30.0) -> Any:
        """Wait until ``holds`` says something true, and return it. A missing object is not true yet."""
        found: Any = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        found = await holds()
                    except ApiError as error:
                        if error.code != 404:
                            raise
                        found = None
                    if found:
                        return found
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"{what}: not within {seconds:.0f} s")

    async def gone(self, resource: str, name: str, namespace: str = "") -> None:
        async def missing() -> bool:
            try:
                await self.admin.get(resource, name, namespace)
            except ApiError as error:
                return error.code == 404
            return False

        await self.until(f"{resource} {name} is gone", missing)

    async def run_pods(self) -> None:
        """Bind every pod to the node ``hollow``, make it ready, and let it go when it is asked to."""
        number = 0
        while True:
            events = self.admin.watch("pods", resource_version="0")
            async for event in events:
                pod = event.object
                if event.type not in ("ADDED", "MODIFIED"):
                    continue
                name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
                try:
                    if "deletionTimestamp" in pod["metadata"]:
                        await self.admin.delete("pods", name, namespace, grace_seconds=0)
                    elif (pod.get("status") or {}).get("phase") == "Pending" and not held_back(pod):
                        if not pod["spec"].get("nodeName"):
                            target = {"apiVersion": "v1", "kind": "Node", "name": "hollow"}
                            body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}}
                            await self.admin.create_subresource(
                                "pods", name, "binding", body | {"target": target}, namespace
                            )
                        number += 1
                        await self.set_ready(name, namespace, f"10.244.{number // 250}.{number % 250 + 1}")
                except ApiError as error:
                    if error.code not in (404, 409):
                        raise

    async def set_ready(self, name: str, namespace: str, ip: str = "", ready: bool = True) -> None:
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        status: Object = {"phase": "Running", "conditions": [condition]}
        if ip:
            status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
        patch = {"status": status}
        await self.admin.patch("pods", name, patch, namespace, kind="strategic", subresource="status")


def held_back(pod: Object) -> bool:
    """A pod with this image never starts."""
    return bool(pod["spec"]["containers"][0]["image"] == "broken:1")


def deployment(name: str = "web", replicas: int = 3, image: str = "app:1", **spec: Any) -> Object:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [{"name": "c", "image": image}],
                    "terminationGracePeriodSeconds": 1,
                },
            },
        }
        | spec,
    }


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with etcd_server(Path(tmp_path_factory.mktemp("etcd"))) as server:
        yield server


_count = 0


@pytest.fixture
async def plane(etcd: EtcdServer) -> AsyncIterator[ControlPlane]:
    """A running API server with an empty key space of its own and one node."""
    global _count
    _count += 1
    world = World()
    store = EtcdStore(etcd.endpoints, world=world, prefix=f"/controllers-{_count}".encode())
    server = ApiServer(store, ApiServerOptions(etcd_compaction_interval=0), world, methods=(NamedUsers(),))
    tasks = Tasks("test")
    running = asyncio.ensure_future(server.run())
    await asyncio.wait_for(server.ready.wait(), 20)
    one = ControlPlane(server, world, tasks)
    body: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "hollow"}}
    await one.admin.create("nodes", body)
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    await one.admin.patch("nodes", "hollow", {"status": {"conditions": [ready]}}, subresource="status")
    try:
        yield one
    finally:
        await tasks.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()

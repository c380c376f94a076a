"""The node agent's own loops against the real API server: registration, lease, a pod from binding to deletion.

The API server keeps its state in the store's model (etcd has tests of its own); containers are real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bamikube.api.errors import ApiError
from bamikube.apiserver.identity import MASTERS, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.client.client import Client
from bamikube.client.events import EventRecorder
from bamikube.client.informer import Informer
from bamikube.client.transport import InProcessTransport
from bamikube.kit.http import Request
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.nodeagent.agent import PodAgent
from bamikube.nodeagent.api import ClusterApi
from bamikube.nodeagent.node import facts, status
from bamikube.nodeagent.node.registrar import Registrar
from bamikube.store.model import ModelStore


class Administrator:
    async def authenticate(self, request: Request) -> User | None:
        return User("admin", (MASTERS,))


@pytest.fixture
async def cluster(node: Any, tmp_path: Path) -> AsyncIterator[Any]:
    world, tasks = World(), Tasks("test")
    server = ApiServer(ModelStore(world), ApiServerOptions(), world, methods=(Administrator(),))
    tasks.spawn(server.run(), "apiserver")
    await server.ready.wait()
    client = Client(InProcessTransport(server.handle), world)
    recorder = EventRecorder(client, world, "kubelet", "node-1")
    services = Informer(client, "services", world)
    pods = Informer(client, "pods", world, fields="spec.nodeName=node-1")
    node.shared.api = ClusterApi(client, recorder, services)
    agent = PodAgent(node.shared, pods)
    config = status.NodeConfig("node-1", "node-1", ("192.0.2.1",), {"role": "test"}, (), 10250, 110)
    registrar = Registrar(client, world, node.runtime, config, facts.inspect(tmp_path), tmp_path)
    for name, work in (
        ("events", recorder.run()), ("services", services.run()), ("pods", pods.run()),
        ("agent", agent.run()), ("node", registrar.run()), ("lease", registrar.renew()),
    ):  # fmt: skip
        tasks.spawn(work, name)
    client.agent = agent  # type: ignore[attr-defined]
    yield client
    await tasks.close()


async def get(client: Any, *what: str) -> dict[str, Any] | None:
    try:
        return await client.get(*what)
    except ApiError as error:
        if error.code == 404:
            return None
        raise


async def eventually(world: World, client: Any, what: tuple[str, ...], condition: Any) -> Any:
    for _ in range(1000):
        found = await get(client, *what)
        if condition(found):
            return found
        await world.clock.sleep(0.03)
    raise AssertionError(f"{what}: {found}")


async def test_a_node_registers_and_runs_a_bound_pod(cluster: Any) -> None:
    world = World()
    made = await eventually(world, cluster, ("nodes", "node-1"), lambda n: n and "Ready" in str(n["status"]))
    conditions = {c["type"]: c["status"] for c in made["status"]["conditions"]}
    assert conditions["Ready"] == "True" and conditions["MemoryPressure"] == "False"
    assert made["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://1.")
    assert made["metadata"]["labels"]["role"] == "test"
    await eventually(world, cluster, ("leases.coordination.k8s.io", "node-1", "kube-node-lease"), bool)

    await eventually(world, cluster, ("namespaces", "default"), bool)
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": "default"},
    }
    await cluster.create("serviceaccounts", account)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "nodeName": "node-1",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": "bamikube.test/busybox:1", "command": ["sleep", "1000"]}],
        },
    }
    await cluster.create("pods", pod)
    where = ("pods", "web", "default")
    ready = await eventually(world, cluster, where, lambda p: p and p["status"]["phase"] == "Running")
    assert ready["status"]["podIP"] == ready["status"]["podIPs"][0]["ip"]
    await cluster.delete("pods", "web", "default")
    await eventually(world, cluster, where, lambda p: p is None)
    async with asyncio.timeout(10):
        while cluster.agent.workers:
            await world.clock.sleep(0.03)
    events = await cluster.list("events", namespace="default")
    assert {e["reason"] for e in events["items"]} >= {"Pulled", "Created", "Started", "Killing"}

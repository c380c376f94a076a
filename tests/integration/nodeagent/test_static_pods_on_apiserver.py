"""A static pod on a private containerd: it runs while the API server is down, its mirror comes later."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

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
from bamikube.nodeagent.node.own import OwnNode
from bamikube.nodeagent.pod.gate import Gate
from bamikube.nodeagent.referenced import Referenced
from bamikube.nodeagent.sources.files import ManifestFiles
from bamikube.nodeagent.sources.mirrors import Mirrors
from bamikube.store.model import ModelStore
from tests.integration.nodeagent.test_node_on_apiserver import Administrator, eventually, get

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: bamikube.test/busybox:1
    command: [sh, -c, "echo %s; trap 'exit 0' TERM; sleep 1000 & wait"]
"""
MIRROR = ("pods", "web-node-1", "default")


async def test_a_static_pod_runs_without_an_api_server_and_is_mirrored_later(
    node: Any, tmp_path: Path
) -> None:
    world, tasks, up = World(), Tasks("test"), asyncio.Event()
    server = ApiServer(ModelStore(world), ApiServerOptions(), world, methods=(Administrator(),))

    async def handle(request: Request) -> Any:
        if not up.is_set():
            raise ConnectionRefusedError("the API server is down")
        return await server.handle(request)

    client = Client(InProcessTransport(handle), world)
    pods = Informer(client, "pods", world, fields="spec.nodeName=node-1")
    referenced = Referenced(client, world)
    recorder = EventRecorder(client, world, "kubelet", "node-1")
    node.shared.api = ClusterApi(client, recorder, Informer(client, "services", world), referenced)
    can = {"cpu": "2", "memory": "4Gi", "pods": "110", "ephemeral-storage": "9Gi"}
    at_first = {"metadata": {"name": "node-1"}, "spec": {}, "status": {"allocatable": can}}
    own = OwnNode(client, world, "node-1", at_first)
    agent = PodAgent(node.shared, pods, referenced, Gate(own.current, own.fresh))
    mirrors = Mirrors(client, world, pods, own.current, agent.static_pods, lambda: agent.manifests_read)
    agent.mirrored, agent.manifests_read = mirrors.changed, False
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "web.yaml").write_text(MANIFEST % "first")
    (folder / "faulty.yaml").write_text("kind: Pod")
    for name, work in (
        ("files", ManifestFiles(world, str(folder), "node-1", agent.keep).run()), ("agent", agent.run()),
        ("pods", pods.run()), ("own", own.run()), ("mirrors", mirrors.run()),
    ):  # fmt: skip
        tasks.spawn(work, name)
    try:
        async with asyncio.timeout(30):
            while not any(w.status.get("phase") == "Running" for w in agent.workers.values()):
                await world.clock.sleep(0.03)
        assert not pods.synced.is_set(), "nobody has heard the API server yet"
        (first,) = agent.workers
        tasks.spawn(server.run(), "apiserver")
        await server.ready.wait()
        up.set()
        await eventually(world, client, ("namespaces", "default"), bool)
        made = await client.create(
            "nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}
        )
        ready = await eventually(
            world, client, MIRROR, lambda p: p and (p.get("status") or {}).get("phase") == "Running"
        )
        assert ready["metadata"]["annotations"]["kubernetes.io/config.mirror"] == first
        assert ready["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
        assert ready["status"]["podIP"] and ready["status"]["containerStatuses"][0]["ready"]
        started = ready["status"]["containerStatuses"][0]["containerID"]
        await client.delete(*MIRROR, grace_seconds=0)
        again = await eventually(
            world, client, MIRROR,
            lambda p: p and p["metadata"]["uid"] != ready["metadata"]["uid"] and p["status"].get("containerStatuses"),
        )  # fmt: skip
        assert again["status"]["containerStatuses"][0]["containerID"] == started, "the pod did not notice"
        (folder / "web.yaml").write_text(MANIFEST % "second")
        await eventually(
            world, client, MIRROR,
            lambda p: p and p["metadata"]["annotations"]["kubernetes.io/config.mirror"] != first
            and p["status"].get("phase") == "Running",
        )  # fmt: skip
        (folder / "web.yaml").unlink()
        await eventually(world, client, MIRROR, lambda p: p is None)
        async with asyncio.timeout(10):
            while agent.workers:
                await world.clock.sleep(0.03)
        assert await get(client, *MIRROR) is None
    finally:
        await tasks.close()

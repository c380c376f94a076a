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
from bamikube.nodeagent.node.own import OwnNode
from bamikube.nodeagent.node.registrar import Registrar
from bamikube.nodeagent.pod.gate import Gate
from bamikube.nodeagent.referenced import Referenced
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
    referenced = Referenced(client, world)
    node.shared.api = ClusterApi(client, recorder, services, referenced)
    config = status.NodeConfig("node-1", "node-1", ("192.0.2.1",), {"role": "test"}, (), 10250, 110)
    own = OwnNode(client, world, "node-1", {"metadata": {"name": "node-1"}, "status": {}})
    agent = PodAgent(node.shared, pods, referenced, Gate(own.current, own.fresh))
    told: list[tuple[str, str, str]] = []

    def tell(*words: str) -> None:
        told.append(words)  # type: ignore[arg-type]

    registrar = Registrar(
        client, world, node.runtime, config, facts.inspect(tmp_path), lambda: ("DiskPressure",), tell
    )
    for name, work in (
        ("events", recorder.run()), ("services", services.run()), ("own", own.run()),
        ("node", registrar.run()), ("lease", registrar.renew()),
    ):  # fmt: skip
        tasks.spawn(work, name)
    await registrar.registered.wait()
    await own.synced.wait()
    for name, work in (("pods", pods.run()), ("agent", agent.run())):
        tasks.spawn(work, name)
    client.told = told  # type: ignore[attr-defined]
    client.own = own  # type: ignore[attr-defined]
    client.agent = agent  # type: ignore[attr-defined]
    client.registrar = registrar  # type: ignore[attr-defined]
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


async def prepare(world: World, cluster: Any) -> None:
    await eventually(world, cluster, ("namespaces", "default"), bool)
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": "default"},
    }
    await cluster.create("serviceaccounts", account)


async def test_a_node_registers_and_runs_a_bound_pod(cluster: Any) -> None:
    world = World()
    made = await eventually(world, cluster, ("nodes", "node-1"), lambda n: n and "Ready" in str(n["status"]))
    conditions = {c["type"]: c["status"] for c in made["status"]["conditions"]}
    assert conditions["Ready"] == "True" and conditions["MemoryPressure"] == "False"
    assert conditions["DiskPressure"] == "True" and conditions["PIDPressure"] == "False"
    said = [
        ("Normal", reason, f"Node node-1 status is now: {reason}")
        for reason in ("NodeHasSufficientMemory", "NodeHasDiskPressure", "NodeHasSufficientPID")
    ]
    assert cluster.told == said, "what changes is told once"
    assert made["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://1.")
    assert made["metadata"]["labels"]["role"] == "test"
    assert made["metadata"]["labels"]["beta.kubernetes.io/os"] == "linux"
    assert [handler["name"] for handler in made["status"]["runtimeHandlers"]] == [""]
    await eventually(world, cluster, ("leases.coordination.k8s.io", "node-1", "kube-node-lease"), bool)

    await prepare(world, cluster)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "nodeName": "node-1",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "app",
                    "image": "bamikube.test/busybox:1",
                    "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
                }
            ],
        },
    }
    await cluster.create("pods", pod)
    where = ("pods", "web", "default")
    ready = await eventually(world, cluster, where, lambda p: p and p["status"]["phase"] == "Running")
    assert ready["status"]["podIP"] == ready["status"]["podIPs"][0]["ip"]
    assert {c["type"]: c.get("observedGeneration") for c in ready["status"]["conditions"]} == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), 1
    )
    await cluster.delete("pods", "web", "default")
    await eventually(world, cluster, where, lambda p: p is None)
    async with asyncio.timeout(10):
        while cluster.agent.workers:
            await world.clock.sleep(0.03)
    events = await cluster.list("events", namespace="default")
    assert {e["reason"] for e in events["items"]} >= {"Pulled", "Created", "Started", "Killing"}


async def test_a_node_that_was_deleted_is_written_of_again_when_somebody_makes_it(
    cluster: Any, until: Any
) -> None:
    world, registrar = World(), cluster.registrar
    where = ("nodes", "node-1")
    first = await eventually(world, cluster, where, lambda n: n and n["status"].get("conditions"))
    await cluster.delete("nodes", "node-1")
    registrar.changed()
    await until(lambda: registrar._missed is not None)
    assert await get(cluster, *where) is None
    await cluster.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})
    registrar.changed()
    again = await eventually(world, cluster, where, lambda n: n["status"].get("conditions"))
    assert again["metadata"]["uid"] != first["metadata"]["uid"] and registrar._missed is None
    assert "role" not in (again["metadata"].get("labels") or {}), "who makes a node says how it is called"


async def test_what_a_pod_refers_to_comes_changes_and_goes(cluster: Any, node: Any, until: Any) -> None:
    """Long before the next look of a minute: a missing source starts the pod, a change is in its files."""
    world = World()
    await prepare(world, cluster)

    def settings(name: str, **data: str) -> dict[str, Any]:
        meta = {"name": name, "namespace": "default"}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}

    await cluster.create("configmaps", settings("changes", color="green", shape="round"))
    variable = {"name": "V", "valueFrom": {"configMapKeyRef": {"name": "variable", "key": "k"}}}
    sources = [
        {"configMap": {"name": "changes"}},
        {"configMap": {"name": "optional", "optional": True}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "labels": {"a": "1"}},
        "spec": {
            "nodeName": "node-1",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "volumes": [
                {"name": "v", "projected": {"sources": sources}},
                {"name": "required", "configMap": {"name": "required"}},
                {"name": "unused", "configMap": {"name": "which-nobody-mounts"}},
            ],
            "containers": [
                {
                    "name": "app",
                    "image": "bamikube.test/busybox:1",
                    "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
                    "env": [variable],
                    "volumeMounts": [
                        {"name": "v", "mountPath": "/v"},
                        {"name": "required", "mountPath": "/required"},
                    ],
                }
            ],
        },
    }
    made = await cluster.create("pods", pod)

    async def events() -> str:
        return str([e["message"] for e in (await cluster.list("events", namespace="default"))["items"]])

    missing = 'MountVolume.SetUp failed for volume "required" : configmap "required" not found'
    for _ in range(200):
        if missing in await events():
            break
        await world.clock.sleep(0.03)
    assert missing in await events()
    await cluster.create("configmaps", settings("required", k="v"))
    where = ("pods", "web", "default")
    await eventually(world, cluster, where, lambda p: "CreateContainerConfigError" in str(p["status"]))
    begun = world.clock.monotonic()
    await cluster.create("configmaps", settings("variable", k="v"))
    await eventually(world, cluster, where, lambda p: p["status"]["phase"] == "Running")
    assert world.clock.monotonic() - begun < 8  # the retry by itself comes after ten seconds

    folder = node.host._pod(made["metadata"]["uid"]) / "volumes" / "kubernetes.io~projected" / "v"

    def files() -> dict[str, str]:
        return {p.name: p.read_text() for p in folder.iterdir() if not p.name.startswith("..")}

    assert files() == {"color": "green", "shape": "round", "labels": 'a="1"'}
    await cluster.update("configmaps", settings("changes", color="blue"))
    await until(lambda: files() == {"color": "blue", "labels": 'a="1"'})
    await cluster.create("configmaps", settings("optional", late="here"))
    await until(lambda: files().get("late") == "here")
    await cluster.patch("pods", "web", {"metadata": {"labels": {"a": "2"}}}, "default", kind="merge")
    await until(lambda: files()["labels"] == 'a="2"')
    await cluster.delete("configmaps", "optional", "default")
    await until(lambda: "late" not in files())
    await cluster.delete("pods", "web", "default")
    await eventually(world, cluster, where, lambda p: p is None)


def bound(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "app", "image": "bamikube.test/busybox:1", "command": ["sleep", "1000"]} | spec.pop(
        "container", {}
    )
    spec = {
        "nodeName": "node-1", "containers": [container], "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False
    } | spec  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


async def test_a_node_refuses_what_it_cannot_hold_and_follows_its_own_node_object(cluster: Any) -> None:
    world = World()
    await prepare(world, cluster)
    large = {"resources": {"requests": {"cpu": "1000"}}}
    await cluster.create("pods", bound("large", container=large))
    refused = await eventually(
        world, cluster, ("pods", "large", "default"), lambda p: p["status"]["phase"] == "Failed"
    )
    cpus = facts.inspect(Path("/")).cpus * 1000
    text = f"Node didn't have enough resource: cpu, requested: 1000000, used: 0, capacity: {cpus}"
    assert refused["status"]["reason"] == "OutOfcpu"
    assert refused["status"]["message"] == f"Pod was rejected: {text}"
    assert set(refused["status"]) == {
        "phase",
        "reason",
        "message",
        "qosClass",
        "startTime",
        "observedGeneration",
    }

    await cluster.create("pods", bound("unlabelled", nodeSelector={"disk": "fast"}))
    refused = await eventually(
        world, cluster, ("pods", "unlabelled", "default"), lambda p: p["status"]["phase"] == "Failed"
    )
    assert refused["status"]["reason"] == "NodeAffinity"
    await cluster.patch("nodes", "node-1", {"metadata": {"labels": {"disk": "fast"}}}, kind="merge")
    gpus = {"status": {"capacity": {"example.com/gpu": "1"}, "allocatable": {"example.com/gpu": "1"}}}
    await cluster.patch("nodes", "node-1", gpus, kind="merge", subresource="status")
    await cluster.create("pods", bound("labelled", nodeSelector={"disk": "fast"}))
    await eventually(
        world, cluster, ("pods", "labelled", "default"), lambda p: p["status"]["phase"] == "Running"
    )
    two = {"resources": {"requests": {"example.com/gpu": "2"}, "limits": {"example.com/gpu": "2"}}}
    for _ in range(200):  # until the node agent has seen it
        if "example.com/gpu" in cluster.own.current()["status"]["allocatable"]:
            break
        await world.clock.sleep(0.02)
    await cluster.create("pods", bound("devices", container=two))
    refused = await eventually(
        world, cluster, ("pods", "devices", "default"), lambda p: p["status"]["phase"] == "Failed"
    )
    assert refused["status"]["reason"] == "OutOfexample.com/gpu"
    taint = {"spec": {"taints": [{"key": "gone", "effect": "NoExecute"}]}}
    await cluster.patch("nodes", "node-1", taint, kind="merge")
    for _ in range(200):
        if cluster.own.current()["spec"].get("taints"):
            break
        await world.clock.sleep(0.02)
    await cluster.create("pods", bound("tainted"))
    refused = await eventually(
        world, cluster, ("pods", "tainted", "default"), lambda p: p["status"]["phase"] == "Failed"
    )
    assert refused["status"]["reason"] == "TaintToleration"
    events = (await cluster.list("events", "default"))["items"]
    said = {e["message"] for e in events if e["involvedObject"]["name"] == "large"}
    assert text in said, "without the prefix that the status has"
    await cluster.delete("pods", "labelled", "default")
    await eventually(world, cluster, ("pods", "labelled", "default"), lambda p: p is None)

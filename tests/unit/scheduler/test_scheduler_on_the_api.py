"""The scheduler against the real API server in one process (state in the store's model): bound, told why not, preempted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bamikube.api.errors import ApiError
from bamikube.apiserver.identity import MASTERS, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.client.client import Client
from bamikube.client.transport import InProcessTransport
from bamikube.kit.http import Request
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.scheduler.options import SchedulerOptions
from bamikube.scheduler.service import Scheduler
from bamikube.store.model import ModelStore

Object = dict[str, Any]


class Administrator:
    async def authenticate(self, request: Request) -> User | None:
        return User("admin", (MASTERS,))


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    world, tasks = World(), Tasks("test")
    server = ApiServer(ModelStore(world), ApiServerOptions(), world, methods=(Administrator(),))
    tasks.spawn(server.run(), "apiserver")
    await server.ready.wait()
    client = Client(InProcessTransport(server.handle), world)
    scheduler = Scheduler(
        Client(InProcessTransport(server.handle), world),
        SchedulerOptions(pod_initial_backoff_seconds=0.01),
        world,
    )
    tasks.spawn(scheduler.run(), "scheduler")
    await appears(client, "serviceaccounts", "default", "default", create=True)
    yield client
    await tasks.close()


async def appears(client: Client, resource: str, name: str, namespace: str, create: bool = False) -> None:
    """The namespace and its account, which controllers would make."""
    async with asyncio.timeout(10):
        while True:
            try:
                await client.create(
                    resource,
                    {
                        "apiVersion": "v1",
                        "kind": "ServiceAccount",
                        "metadata": {"name": name, "namespace": namespace},
                    },
                )
                return
            except ApiError as error:
                if error.code == 409:
                    return
                if error.code != 404 and error.code != 403:
                    raise
            await asyncio.sleep(0.01)


async def until(client: Client, name: str, met: Callable[[Object], bool]) -> Object:
    pod: Object = {}
    try:
        async with asyncio.timeout(10):
            while True:
                pod = await client.get("pods", name, "default")
                if met(pod):
                    return pod
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{name} stays {pod['spec'].get('nodeName')} {pod['status']}") from None


async def join(client: Client, node: Object) -> None:
    """A node that is ready: admission taints new ones until the lifecycle controller finds them ready."""
    await client.create("nodes", node)
    await client.patch("nodes", node["metadata"]["name"], {"spec": {"taints": None}}, kind="merge")


def node(name: str, cpu: str = "2", **spec: Any) -> Object:
    status = {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "110"}}
    meta = {"name": name, "labels": {"kubernetes.io/hostname": name}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": spec, "status": status}


def pod(name: str, cpu: str, **spec: Any) -> Object:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]} | spec}


async def test_a_pod_waits_with_a_reason_and_is_bound_when_a_node_comes(client: Client) -> None:
    await client.create("pods", pod("web", "3"))
    waiting = await until(
        client, "web", lambda p: any(c["type"] == "PodScheduled" for c in p["status"].get("conditions", []))
    )
    condition = next(c for c in waiting["status"]["conditions"] if c["type"] == "PodScheduled")
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert condition["message"] == "no nodes available to schedule pods"
    assert condition["observedGeneration"] == waiting["metadata"]["generation"] == 1
    await join(client, node("small"))
    await join(client, node("big", "8"))
    bound = await until(client, "web", lambda p: bool(p["spec"].get("nodeName")))
    assert bound["spec"]["nodeName"] == "big"
    async with asyncio.timeout(10):
        while True:
            events = (await client.list("events", "default"))["items"]
            if any(
                e["reason"] == "Scheduled" and e["message"] == "Successfully assigned default/web to big"
                for e in events
            ):
                return
            await asyncio.sleep(0.01)


async def test_pods_of_other_schedulers_are_left_alone(client: Client) -> None:
    await join(client, node("n"))
    await client.create("pods", pod("theirs", "100m", schedulerName="other"))
    await client.create("pods", pod("ours", "100m"))
    await until(client, "ours", lambda p: p["spec"].get("nodeName") == "n")
    assert not (await client.get("pods", "theirs", "default"))["spec"].get("nodeName")


async def test_an_important_pod_takes_the_place_of_a_lesser_one(client: Client) -> None:
    await join(client, node("n"))
    await client.create(
        "priorityclasses.scheduling.k8s.io",
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": "high"},
            "value": 1000,
        },
    )
    await client.create("pods", pod("low", "2"))
    await until(client, "low", lambda p: p["spec"].get("nodeName") == "n")
    await client.create("pods", pod("high", "2", priorityClassName="high"))
    # No node agent confirms the deletion here, so the test does.
    await until(client, "low", lambda p: "deletionTimestamp" in p["metadata"])
    await until(client, "high", lambda p: p["status"].get("nominatedNodeName") == "n")
    await client.delete("pods", "low", "default", grace_seconds=0)
    await until(client, "high", lambda p: p["spec"].get("nodeName") == "n")

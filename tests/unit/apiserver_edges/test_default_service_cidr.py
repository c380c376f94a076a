"""The ServiceCIDR ``kubernetes``: made, said to be ready, extended once, and otherwise left as it is."""

from __future__ import annotations

import asyncio
from typing import Any

from bamikube.apiserver.default_service_cidr import default_object, plan
from bamikube.kit.world import World
from bamikube.store.model import ModelStore
from tests.unit.apiserver_edges.conftest import Caller, running

CIDR = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes"
V4, V6 = "10.96.0.0/12", "fd00:10:96::/112"


def test_what_is_done() -> None:
    assert plan(None, [V4]).action == "create"
    there = default_object([V4])
    assert plan(there, [V4]).action == "ready" and plan(there, [V4, V6]).action == "extend"
    other = plan(there, [V6])
    assert other.action == "" and other.event == (
        "KubernetesDefaultServiceCIDRInconsistent",
        f"The default ServiceCIDR [{V4}] does not match the controller flag configurations [{V6}]",
    )
    there["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    assert plan(there, [V4]).action == "" and plan(there, [V4]).event is None
    there["status"]["conditions"] = [
        {"type": "Ready", "status": "False", "reason": "Odd", "message": "it is odd"}
    ]
    assert plan(there, [V4]).event == ("Odd", "Configuration matches, but it is odd")
    there["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert plan(there, [V6]).event is None and plan(there, [V4]).action == ""


async def events(caller: Caller) -> dict[str, Any]:
    _, listed = await caller("GET", "/api/v1/namespaces/default/events")
    return {each["reason"]: each for each in listed["items"]}


async def test_it_is_there_and_ready_before_the_first_request_and_comes_back(world: World) -> None:
    store = ModelStore(world)
    async with running(store, world) as caller:
        status, there = await caller("GET", CIDR)
        assert status == 200 and there["spec"]["cidrs"] == [V4], there
        for _ in range(200):
            _, there = await caller("GET", CIDR)
            if there["status"].get("conditions"):
                break
            await asyncio.sleep(0.01)
        condition = there["status"]["conditions"][0]
        assert condition.pop("lastTransitionTime")
        assert condition == {
            "type": "Ready",
            "status": "True",
            "reason": "",
            "message": "Kubernetes default Service CIDR is ready",
        }
    async with running(store, world, service_cluster_ip_range=f"{V4},{V6}") as caller:
        for _ in range(200):
            _, there = await caller("GET", CIDR)
            if len(there["spec"]["cidrs"]) == 2:
                break
            await asyncio.sleep(0.01)
        assert there["spec"]["cidrs"] == [V4, V6]
    async with running(store, world, service_cluster_ip_range="10.97.0.0/16") as caller:
        for _ in range(200):
            told = await events(caller)
            if told:
                break
            await asyncio.sleep(0.01)
        event = told["KubernetesDefaultServiceCIDRInconsistent"]
        assert event["type"] == "Warning" and event["involvedObject"]["name"] == "kubernetes"
        assert event["source"] == {"component": "kubernetes-service-cidr-controller"}
        _, there = await caller("GET", CIDR)
        assert there["spec"]["cidrs"] == [V4, V6]
    await store.close()

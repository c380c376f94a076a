"""Nodes that fall silent, come back or go for good, and what becomes of their pods."""

from __future__ import annotations

import asyncio
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.kit.clock import rfc3339_micro
from tests.integration.controllers.conftest import ControlPlane

Object = dict[str, Any]

LEASES = "leases.coordination.k8s.io"
UNREACHABLE = "node.kubernetes.io/unreachable"


async def add_node(plane: ControlPlane, name: str) -> None:
    await plane.admin.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    await plane.admin.patch("nodes", name, {"status": {"conditions": [ready]}}, subresource="status")


async def renew(plane: ControlPlane, alive: set[str]) -> None:
    """Keep the leases of ``alive`` moving, and say of each that it is ready, as node agents do."""
    while True:
        for name in sorted(alive):
            spec = {"holderIdentity": name, "renewTime": rfc3339_micro(plane.world.clock.now())}
            meta = {"name": name, "namespace": "kube-node-lease"}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
            try:
                await plane.admin.patch(LEASES, name, {"spec": spec}, "kube-node-lease")
            except ApiError as error:
                if error.code != 404:
                    raise
                await plane.admin.create(LEASES, body)
            node = await plane.admin.get("nodes", name)
            conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
            if conditions.get("Ready") != "True":
                ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
                status = {"status": {"conditions": [ready]}}
                await plane.admin.patch("nodes", name, status, kind="strategic", subresource="status")
        await asyncio.sleep(0.3)


def pod(name: str, node: str, tolerations: list[Object]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "image": "app:1"}],
            "tolerations": tolerations,
            "terminationGracePeriodSeconds": 0,
        },
    }


def for_seconds(seconds: int) -> list[Object]:
    return [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
        for key in (UNREACHABLE, "node.kubernetes.io/not-ready")
    ]


async def test_a_silent_node_loses_its_pods_in_time_and_comes_back(plane: ControlPlane) -> None:
    await add_node(plane, "second")
    alive = {"hollow", "second"}
    plane.tasks.spawn(renew(plane, alive))
    plane.controllers(node_monitor_grace_period=2.0)
    await plane.until("there is an account", lambda: plane.admin.get("serviceaccounts", "default", "default"))
    await plane.admin.create("pods", pod("patient", "second", for_seconds(3600)))
    await plane.admin.create("pods", pod("hasty", "second", for_seconds(1)))
    await plane.set_ready("patient", "default", "10.244.9.1")
    alive.discard("second")

    async def tainted() -> bool:
        held = (await plane.admin.get("nodes", "second"))["spec"].get("taints") or []
        return (UNREACHABLE, "NoExecute") in {(taint["key"], taint["effect"]) for taint in held}

    await plane.until("the silent node is tainted", tainted)
    await plane.gone("pods", "hasty", "default")

    async def not_ready() -> bool:
        held = await plane.admin.get("pods", "patient", "default")
        return {c["type"]: c["status"] for c in held["status"]["conditions"]}["Ready"] == "False"

    await plane.until("its other pod is called not ready", not_ready)
    node = await plane.admin.get("nodes", "hollow")
    assert not node["spec"].get("taints")
    alive.add("second")

    async def clean() -> bool:
        held = (await plane.admin.get("nodes", "second"))["spec"].get("taints") or []
        return not any(taint["key"].startswith("node.kubernetes.io/") for taint in held)

    await plane.until("the node is taken back", clean)
    assert await plane.admin.get("pods", "patient", "default")


async def test_when_no_node_is_heard_of_nobody_is_evicted(plane: ControlPlane) -> None:
    await add_node(plane, "second")
    alive = {"hollow", "second"}
    plane.tasks.spawn(renew(plane, alive))
    plane.controllers(node_monitor_grace_period=2.0)
    await plane.until("there is an account", lambda: plane.admin.get("serviceaccounts", "default", "default"))
    await plane.admin.create("pods", pod("hasty", "second", for_seconds(0)))
    alive.clear()

    async def both_unknown() -> bool:
        nodes = (await plane.admin.list("nodes"))["items"]
        return all(
            {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"] == "Unknown"
            for node in nodes
        )

    await plane.until("both are unknown", both_unknown)

    async def calm() -> bool:
        nodes = (await plane.admin.list("nodes"))["items"]
        return not any(
            taint["effect"] == "NoExecute" for node in nodes for taint in node["spec"].get("taints") or []
        )

    await plane.until("no taint drives pods out", calm)
    alive |= {"hollow", "second"}

    async def clean() -> bool:
        nodes = (await plane.admin.list("nodes"))["items"]
        return not any(node["spec"].get("taints") for node in nodes)

    await plane.until("both are back", clean)
    assert "deletionTimestamp" not in (await plane.admin.get("pods", "hasty", "default"))["metadata"]


async def test_every_node_gets_a_range_of_its_own(plane: ControlPlane) -> None:
    plane.controllers(cluster_cidr="10.244.0.0/22")
    for number in range(3):
        await add_node(plane, f"node-{number}")

    async def ranges() -> set[str] | None:
        nodes = (await plane.admin.list("nodes"))["items"]
        found = {node["spec"].get("podCIDR", "") for node in nodes}
        return found if len(found - {""}) == 4 else None

    assert await plane.until("all have one", ranges) == {f"10.244.{n}.0/24" for n in range(4)}
    await add_node(plane, "late")

    async def said() -> bool:
        events = (await plane.admin.list("events", "default"))["items"]
        return any(
            e["reason"] == "CIDRNotAvailable" and e["involvedObject"]["name"] == "late" for e in events
        )

    await plane.until("it is said that none is left", said)
    await plane.admin.delete("nodes", "node-1")

"""Pods that take more of a node's disk than they were given, on the lab with real kubectl; and what nodes say of themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

BUSYBOX = "busybox:1.36"


def pod(name: str, script: str, **more: Any) -> dict[str, Any]:
    container = {
        "name": "app", "image": BUSYBOX, "command": ["sh", "-c", f"{script}; exec sleep 1000"],
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
    } | more  # fmt: skip
    spec = {
        "nodeName": "worker-1", "terminationGracePeriodSeconds": 1, "containers": [container],
        "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}],
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_pods_above_their_share_of_the_disk_are_evicted(
    kubectl: Any, namespace: str, eventually: Callable[..., Any]
) -> None:
    kubectl = kubectl.within(namespace)
    eventually(lambda: kubectl.run("get", "sa", "default").returncode == 0, 20, "account")
    limits = {"resources": {"limits": {"ephemeral-storage": "1Mi"}}}
    pods = [
        pod("volume", "head -c 3000000 /dev/zero > /cache/f"),
        pod("logs", "head -c 3000000 /dev/zero | tr '\\0' x | fold -w 80", **limits),
        pod("within", "head -c 500000 /dev/zero > /cache/f"),
    ]
    kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))

    def status(name: str) -> dict[str, Any]:
        return dict(kubectl.json("get", "pod", name)["status"])

    eventually(
        lambda: {status(n)["phase"] for n in ("volume", "logs")} == {"Failed"}, 90, "two pods are evicted"
    )
    said = {name: (status(name)["reason"], status(name)["message"]) for name in ("volume", "logs")}
    assert said == {
        "volume": ("Evicted", 'Usage of EmptyDir volume "cache" exceeds the limit "1Mi". '),
        "logs": ("Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "),
    }
    assert status("within")["phase"] == "Running"
    events = ("get", "events", "--field-selector=reason=Evicted")
    eventually(
        lambda: {e["type"] for e in kubectl.json(*events)["items"]} == {"Warning"},
        20,
        "events of the evictions",
    )
    metrics = kubectl("get", "--raw", "/api/v1/nodes/worker-1/proxy/metrics")
    assert 'kubelet_evictions{eviction_signal="emptydirfs.limit"}' in metrics


def test_a_node_tells_what_it_has_enough_of(kubectl: Any, eventually: Callable[..., Any]) -> None:
    text = kubectl("describe", "node", "worker-1")
    assert "kubelet has sufficient memory available" in text and "KubeletHasNoDiskPressure" in text
    events = ("get", "events", "--field-selector=involvedObject.name=worker-1,involvedObject.kind=Node")
    wanted = {
        f"Node worker-1 status is now: NodeHas{what}"
        for what in ("SufficientMemory", "NoDiskPressure", "SufficientPID")
    }
    wanted.add("Updated Node Allocatable limit across pods")
    eventually(
        lambda: wanted <= {e["message"] for e in kubectl.json(*events)["items"]}, 20, "events of the node"
    )


def test_a_pod_that_is_refused_shows_why(
    kubectl: Any, namespace: str, eventually: Callable[..., Any]
) -> None:
    """It never had containers, so the list of pods has room for the reason."""
    kubectl = kubectl.within(namespace)
    eventually(lambda: kubectl.run("get", "sa", "default").returncode == 0, 20, "account")
    ports = {"ports": [{"containerPort": 80, "hostPort": 28471}]}
    pods = [pod("first", "true", **ports), pod("second", "true", **ports)]
    kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    eventually(lambda: "NodePorts" in kubectl("get", "pods", "--no-headers"), 20, "a pod is refused")
    refused = [p["status"] for p in kubectl.json("get", "pods")["items"] if p["status"]["phase"] == "Failed"]
    assert [(s["reason"], s.get("containerStatuses")) for s in refused] == [("NodePorts", None)]
    words = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    assert refused[0]["message"] == words

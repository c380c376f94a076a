"""What a node refuses, and who makes room for whom, on the lab with real kubectl: pods are sent to a node by name, past the scheduler."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

BUSYBOX = "busybox:1.36"


def pod(name: str, requests: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    container = {"name": "app", "image": BUSYBOX, "command": ["sleep", "1000"]}
    if requests:
        container["resources"] = {"requests": requests, "limits": requests}  # type: ignore[assignment]
    spec = {"nodeName": "worker-2", "terminationGracePeriodSeconds": 1, "containers": [container]} | spec
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_a_node_refuses_what_it_cannot_hold(
    kubectl: Any, namespace: str, eventually: Callable[..., Any]
) -> None:
    cluster, kubectl = kubectl, kubectl.within(namespace)
    eventually(lambda: kubectl.run("get", "sa", "default").returncode == 0, 20, "account")
    cluster("label", "node", "worker-2", "disk=fast", "--overwrite")
    unsafe = {"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}
    items = [
        pod("large", {"cpu": "1000"}),
        pod("hungry", {"memory": "100Ti"}),
        pod("elsewhere", nodeSelector={"disk": "slow"}),
        pod("here", nodeSelector={"disk": "fast"}),
        pod("unsafe", securityContext=unsafe),
        pod("windows", os={"name": "windows"}),
    ]
    kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def status(name: str) -> dict[str, Any]:
        return dict(kubectl.json("get", "pod", name)["status"])

    refused = {
        "large": "OutOfcpu", "hungry": "OutOfmemory", "elsewhere": "NodeAffinity", "unsafe": "SysctlForbidden",
        "windows": "PodOSNotSupported",
    }  # fmt: skip
    eventually(lambda: {n: status(n).get("reason") for n in refused} == refused, 60, "refusals")
    eventually(lambda: status("here")["phase"] == "Running", 60, "the pod that fits")
    message = status("large")["message"]
    capacity = cluster("get", "node", "worker-2", "-o", "jsonpath={.status.allocatable.cpu}")
    assert message.startswith(
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: "
    )
    assert message.endswith(f"capacity: {int(capacity) * 1000}")
    assert "OutOfcpu" in kubectl("get", "pods")
    described = kubectl("describe", "pod", "unsafe")
    assert 'Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted' in described
    eventually(
        lambda: "Warning  SysctlForbidden" in kubectl("describe", "pod", "unsafe"), 20, "event of the refusal"
    )
    metrics = cluster("get", "--raw", "/api/v1/nodes/worker-2/proxy/metrics")
    assert 'kubelet_admission_rejections_total{reason="OutOfcpu"}' in metrics
    cluster("label", "node", "worker-2", "disk-")


def test_a_critical_pod_finds_room(kubectl: Any, namespace: str, eventually: Callable[..., Any]) -> None:
    cluster, within = kubectl, kubectl.within(namespace)
    eventually(lambda: within.run("get", "sa", "default").returncode == 0, 20, "account")
    cpus = int(cluster("get", "node", "worker-2", "-o", "jsonpath={.status.allocatable.cpu}"))
    within("create", "-f", "-", stdin=json.dumps(pod("filler", {"cpu": f"{cpus * 1000 - 600}m"})))
    eventually(lambda: within.json("get", "pod", "filler")["status"]["phase"] == "Running", 60, "a full node")
    critical = pod("critical", {"cpu": "700m"}, priorityClassName="system-node-critical")
    within("create", "-f", "-", stdin=json.dumps(critical))
    eventually(lambda: within.json("get", "pod", "critical")["status"]["phase"] == "Running", 60, "room")
    gone = within.json("get", "pod", "filler")["status"]
    assert (gone["phase"], gone["reason"]) == ("Failed", "Preempting")
    assert gone["message"] == "Preempted in order to admit critical pod"
    target = next(c for c in gone["conditions"] if c["type"] == "DisruptionTarget")
    assert target["reason"] == "TerminationByKubelet"

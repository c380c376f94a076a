"""The node's API on 10250 as its users see it: through the API server, and straight with a token of few rights."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.kubectl import Kubectl
from tests.support.lab import Bamikube

SPEC: dict[str, Any] = {
    "busy": {
        "initContainers": [{"name": "first", "command": ["sh", "-c", "echo from init"]}],
        "containers": [
            {"name": "talks", "command": ["sh", "-c", "while true; do date +%s; sleep 0.5; done"]},
            {"name": "both", "command": ["sh", "-c", "echo out; echo err >&2; sleep 1000"]},
        ],
    },
    "ends": {
        "containers": [{"name": "c", "command": ["sh", "-c", "cat /proc/sys/kernel/random/uuid; exit 3"]}]
    },
}


@pytest.fixture(scope="module")
def room(kubectl: Kubectl, eventually: Callable[..., Any]) -> Iterator[Kubectl]:
    made = kubectl.within(f"t-node-api-{os.getpid()}")
    kubectl("create", "namespace", made.namespace)
    eventually(lambda: made.run("get", "serviceaccount", "default").returncode == 0, 20, "account")
    items = []
    for name, spec in SPEC.items():
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            container["image"] = "busybox:1.36"
        spec |= {"nodeName": "worker-1", "terminationGracePeriodSeconds": 1}
        items.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    made("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    made("wait", "--for=condition=Ready", "pod/busy", "--timeout=60s")
    yield made
    kubectl.run("delete", "namespace", made.namespace, "--wait=false")


def raw(room: Kubectl, path: str) -> str:
    return room("get", "--raw", f"/api/v1/nodes/worker-1/proxy/{path}")


def test_what_the_node_runs_and_uses(room: Kubectl) -> None:
    uid = room("get", "pod", "busy", "-o", "jsonpath={.metadata.uid}")
    running = {p["metadata"]["uid"]: p for p in json.loads(raw(room, "runningpods/"))["items"]}
    assert {c["name"] for c in running[uid]["spec"]["containers"]} == {"talks", "both"}
    assert uid in {p["metadata"]["uid"] for p in json.loads(raw(room, "pods"))["items"]}
    assert json.loads(raw(room, "configz"))["kubeletconfig"]["kind"] == "KubeletConfiguration"
    pods = {p["podRef"]["uid"]: p for p in json.loads(raw(room, "stats/summary"))["pods"]}
    assert pods[uid]["memory"]["workingSetBytes"] > 0 and pods[uid]["network"]["rxBytes"] >= 0
    metrics = {
        (sample.name, sample.labels.get("pod"), sample.labels.get("container")): sample.value
        for page in ("metrics", "metrics/resource", "metrics/cadvisor")
        for family in text_string_to_metric_families(raw(room, page))
        for sample in family.samples
    }
    assert metrics["container_cpu_usage_seconds_total", "busy", "talks"] > 0
    assert metrics["container_network_receive_bytes_total", "busy", ""] >= 0
    assert metrics["kubelet_running_pods", None, None] >= 1
    assert f"{room.namespace}_busy_{uid}/" in raw(room, "logs/pods/")


def test_logs_of_every_kind_of_container(room: Kubectl, eventually: Callable[..., Any]) -> None:
    prefixed = room("logs", "busy", "--all-containers", "--prefix", "--tail=1")
    assert "[pod/busy/first] from init\n" in prefixed
    assert any(f"[pod/busy/both] {word}\n" in prefixed for word in ("out", "err"))
    times = [int(line) for line in room("logs", "busy", "-c", "talks", "--since=2s").splitlines()]
    assert times and max(times) - min(times) <= 3
    # Two streams are two pipes: which line the runtime copies first is nobody's promise.
    assert sorted(room("logs", "busy", "-c", "both").splitlines()) == ["err", "out"]
    room("debug", "busy", "--image=busybox:1.36", "-c", "guest", "--", "echo", "hello")
    eventually(
        lambda: room.run("logs", "busy", "-c", "guest").stdout == "hello\n", 30, "an ephemeral container"
    )

    def waits() -> bool:
        status = room.json("get", "pod", "ends")["status"]["containerStatuses"][0]
        return status["restartCount"] > 0 and "waiting" in status["state"]

    eventually(waits, 30, "CrashLoopBackOff")
    assert room("logs", "ends", "--previous") == room("logs", "ends")
    assert 'container "none"' in room.fails(
        "logs", "busy", "-c", "none"
    ) or "none is not valid" in room.fails("logs", "busy", "-c", "none")


def test_a_token_of_few_rights_opens_few_paths(
    room: Kubectl, lab: Bamikube, eventually: Callable[..., Any]
) -> None:
    name = room.namespace
    room("create", "serviceaccount", "reader")
    room("create", "clusterrole", name, "--verb=get", "--resource=nodes/pods,nodes/metrics")
    room("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount={name}:reader")
    token = room("create", "token", "reader").strip()
    address = lab.node("worker-1")["address"]
    trusting = ssl._create_unverified_context()

    def ask(path: str, **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(f"https://{address}:10250{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, context=trusting, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    good = {"Authorization": f"Bearer {token}"}
    try:
        eventually(lambda: ask("/pods", **good)[0] == 200, 20, "the binding")
        assert ask("/metrics/resource", **good)[0] == 200
        user = f"system:serviceaccount:{name}:reader"
        for path, parts in (("/configz", "configz proxy"), ("/logs/", "log"), ("/run/a/b/c", "proxy")):
            words = f"Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[{parts}])"
            assert ask(path, **good) == (403, words)
        assert ask("/pods") == (401, "Unauthorized")
        assert ask("/pods", Authorization="Bearer made-up")[0] == 401
    finally:
        room.run("delete", "clusterrolebinding,clusterrole", name)


@pytest.mark.slow
def test_a_large_log_is_rotated_and_followed_all_the_same(
    room: Kubectl, eventually: Callable[..., Any]
) -> None:
    """At 10 MiB, looked at every ten seconds: 60 MB in some 25 seconds are rotated once at least."""
    words, lines = "x" * 490, 120_000
    script = f"i=0; while [ $i -lt {lines} ]; do echo $i {words}; i=$((i+1)); [ $((i%500)) = 0 ] && sleep 0.1; done"
    container = {"name": "c", "image": "busybox:1.36", "command": ["sh", "-c", script]}
    spec = {"restartPolicy": "Never", "nodeName": "worker-1", "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "floods"}, "spec": spec}
    room("create", "-f", "-", stdin=json.dumps(pod))
    room("wait", "--for=jsonpath={.status.phase}=Running", "pod/floods", "--timeout=30s")
    followed = room("logs", "-f", "floods", timeout=120).splitlines()
    assert [int(line.split()[0]) for line in followed] == list(range(lines))
    uid = room("get", "pod", "floods", "-o", "jsonpath={.metadata.uid}")
    listing = raw(room, f"logs/pods/{room.namespace}_floods_{uid}/c/")
    assert '"0.log"' in listing and '"0.log.20' in listing

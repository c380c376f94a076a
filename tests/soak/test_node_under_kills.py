"""Pods of every kind come and go on the lab while node agents, containerd and shims die by ``kill -9``; nothing stays.

For ``BAMIKUBE_SOAK_SECONDS`` (600) pods are made and deleted, gently and by force, on two workers, and every few seconds
one node agent, one containerd or one shim (with whatever it holds) is killed. When all services run again:

* whatever is to run runs, as exactly one process; what was to end has ended, as its containers say; what crashes waits
  for its next start and has counted its starts;
* after the last deletion no node has a container, shim, process, mount, network namespace, link, address, cgroup, pod
  folder, log folder or link to a log more than before.

``BAMIKUBE_SEED`` repeats the choices; what happens between them is the machine's.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from typing import Any

import kubernetes
import pytest

from tests.support.footprint import Footprint, footprint, left_behind, shims
from tests.support.kubectl import until

JSON = dict[str, Any]
SECONDS = float(os.environ.get("BAMIKUBE_SOAK_SECONDS", "600"))
NODES = ("worker-1", "worker-2")
VICTIMS = ("nodeagent", "containerd", "shim")
LIVE_PODS = 16
IMAGE = "busybox:1.36"
NAMESPACE = f"soak-node-{os.getpid()}"
STAYS, ENDS, CRASHES = ("plain", "hooked", "sidecar"), ("job", "failing"), ("crashing", "init-crashing")
GRACES = (None, None, None, 0, 1)

VOLUMES = [
    {"name": "memory", "emptyDir": {"medium": "Memory"}},
    {"name": "folder", "emptyDir": {}},
    {
        "name": "written",
        "projected": {
            "sources": [
                {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                {"configMap": {"name": "words"}},
                {"serviceAccountToken": {"path": "token"}},
            ]
        },
    },
]
MOUNTS = [
    {"name": "memory", "mountPath": "/memory"},
    {"name": "folder", "mountPath": "/part", "subPath": "a/b"},
    {"name": "written", "mountPath": "/written"},
]

pytestmark = pytest.mark.slow


def marker(name: str) -> str:
    """Seconds that no other process sleeps: how a pod's process is found on the machine."""
    return f"8{os.getpid()}{int(name.rsplit('-', 1)[1]):05}"


def spec(kind: str, name: str) -> JSON:
    """A pod of that kind. What stays sleeps, as its last process, for a time that names the pod."""

    def container(script: str, **more: Any) -> JSON:
        command = {"command": ["sh", "-c", script], "volumeMounts": MOUNTS}
        return {"name": "c", "image": IMAGE, **command, **more}

    stays = f"exec sleep {marker(name)}"
    result: JSON = {"terminationGracePeriodSeconds": 1, "volumes": VOLUMES}
    match kind:
        case "plain":
            return result | {"containers": [container(stays)]}
        case "hooked":
            hooks = {
                "postStart": {"exec": {"command": ["touch", "/memory/begun"]}},
                "preStop": {"exec": {"command": ["sleep", "0.3"]}},
            }
            probe = {"exec": {"command": ["cat", "/memory/begun"]}, "periodSeconds": 1}
            return result | {"containers": [container(stays, lifecycle=hooks, readinessProbe=probe)]}
        case "sidecar":
            first = [container("true", name="init"), container("exec sleep 7654321", name="side")]
            first[1]["restartPolicy"] = "Always"
            return result | {"initContainers": first, "containers": [container(stays)]}
        case "job":
            return result | {"restartPolicy": "OnFailure", "containers": [container("sleep 0.5")]}
        case "failing":
            return result | {"restartPolicy": "Never", "containers": [container("sleep 0.2; exit 7")]}
        case "crashing":
            return result | {"containers": [container("exit 3")]}
        case _:
            first = [container("exit 4", name="init")]
            return result | {"initContainers": first, "containers": [container(stays)]}


def client(kubeconfig: str) -> Any:
    return kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(kubeconfig))


def processes() -> list[str]:
    """The markers of all pods' processes on this machine, one for each process."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if words[0] == b"sleep" and len(words) > 1 and words[1].startswith(b"8%d" % os.getpid()):
                found.append(words[1].decode())
    return sorted(found)


class Churn:
    """Pods come and go. ``kinds`` are those that must be there, by name."""

    def __init__(self, api: Any, chance: random.Random) -> None:
        self.api, self.chance = api, chance
        self.kinds: dict[str, str] = {}
        self.made = self.forced = 0

    def step(self) -> None:
        if len(self.kinds) < LIVE_PODS or self.chance.random() < 0.1:
            self.made += 1
            kind = self.chance.choice((*STAYS, *STAYS, *ENDS, *CRASHES))
            name = f"{kind}-{self.made}"
            body = {"metadata": {"name": name}, "spec": spec(kind, name)}
            body["spec"]["nodeName"] = self.chance.choice(NODES)
            self.api.create_namespaced_pod(NAMESPACE, body)
            self.kinds[name] = kind
        else:
            name = self.chance.choice(sorted(self.kinds))
            grace = self.chance.choice(GRACES)
            more = {} if grace is None else {"grace_period_seconds": grace}
            self.api.delete_namespaced_pod(name, NAMESPACE, **more)
            self.forced += grace == 0
            del self.kinds[name]

    def complaints(self) -> list[str]:
        """What is not yet as it has to be."""
        pods = {p.metadata.name: p for p in self.api.list_namespaced_pod(NAMESPACE).items}
        wrong = [f"{name} is still there" for name in sorted(set(pods) - set(self.kinds))]
        for name, kind in self.kinds.items():
            if name not in pods:
                wrong.append(f"{name} is not there")
            elif text := judged(kind, pods[name].status):
                wrong.append(f"{name} on {pods[name].spec.node_name}: {text}")
        there, wanted = (
            Counter(processes()),
            Counter(marker(n) for n, k in self.kinds.items() if k in STAYS),
        )
        wrong += [f"process {one} is one too many" for one in (there - wanted).elements()]
        return wrong + [f"process {one} is missing" for one in (wanted - there).elements()]


def judged(kind: str, status: Any) -> str:
    """Why a pod of that kind is not in the right state; "" when it is."""
    conditions = {c.type: c.status for c in status.conditions or ()}
    if kind in STAYS:
        return "" if conditions.get("Ready") == "True" else f"{status.phase}, {conditions}"
    if kind in ENDS:
        ended = [c.state.terminated for c in status.container_statuses or ()]
        if status.phase not in ("Succeeded", "Failed") or not ended or not all(ended):
            return f"{status.phase}, {ended}"
        failed = any(c.exit_code for c in ended)
        if kind == "job" and failed:
            return f"ended for good with {[c.exit_code for c in ended]}, to be restarted on failure"
        return "" if failed == (status.phase == "Failed") else f"{status.phase} with {ended}"
    found = status.init_container_statuses if kind == "init-crashing" else status.container_statuses
    phase = "Pending" if kind == "init-crashing" else "Running"
    if status.phase != phase or not found or found[0].restart_count < 1:
        return f"{status.phase}, {found and found[0].restart_count} restarts"
    return ""


def kill(lab: Any, chance: random.Random) -> str:
    """Kill something of a worker; what it was, or "" when there was nothing of that kind."""
    node, victim = chance.choice(NODES), chance.choice(VICTIMS)
    found = lab.node(node)
    pids = shims(int(found["pid"])) if victim == "shim" else [int(found["units"][victim]["pid"])]
    if not pids or not (pid := chance.choice(pids)):
        return ""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return ""
    return victim


def at_rest(lab: Any) -> bool:
    return all(
        node["kubernetes"] == "Ready" and all(unit["state"] == "running" for unit in node["units"].values())
        for node in lab.status()["nodes"]
    )


def test_nothing_of_a_pod_is_left_whatever_dies(lab: Any, kubectl: Any, kubeconfig: str) -> None:
    seed = os.environ.get("BAMIKUBE_SEED") or str(time.time_ns())
    print(f"BAMIKUBE_SEED={seed}")  # shown when the test fails
    chance, room = random.Random(seed), kubectl.within(NAMESPACE)
    until(lambda: at_rest(lab), timeout=60, what="a lab at rest")
    before = {node: footprint(lab, node) for node in NODES}
    kubectl("create", "namespace", NAMESPACE)
    until(lambda: room("get", "serviceaccount", "default", "-o", "name"), timeout=20, what="the account")
    room("create", "configmap", "words", "--from-literal=word=hello")
    churn, killed = Churn(client(kubeconfig), chance), Counter[str]()
    end = time.monotonic() + SECONDS
    strike = time.monotonic() + 5
    while time.monotonic() < end:
        churn.step()
        if time.monotonic() > strike:
            killed[kill(lab, chance)] += 1
            strike = time.monotonic() + chance.uniform(1, 8)
        time.sleep(chance.uniform(0.1, 0.8))
    print(f"{churn.made} pods, {churn.forced} deleted by force; killed: {dict(killed)}")
    assert churn.made > SECONDS / 4 and sum(killed[v] for v in VICTIMS) > SECONDS / 10

    until(lambda: at_rest(lab), timeout=60, what="all services to run again")
    try:
        until(lambda: not churn.complaints(), timeout=180, what="every pod in the right state")
    except AssertionError:
        raise AssertionError("\n".join(churn.complaints())) from None

    kubectl("delete", "namespace", NAMESPACE, "--timeout=120s", timeout=130)

    def left() -> dict[str, Footprint]:
        return {node: left_behind(before[node], footprint(lab, node)) for node in NODES}

    try:
        until(lambda: not any(left().values()) and not processes(), timeout=90, what="nodes as they were")
    except AssertionError:
        raise AssertionError(f"left behind: {left()}; processes {processes()}") from None

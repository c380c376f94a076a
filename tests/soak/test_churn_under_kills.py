"""Pods and configmaps come and go on the lab while its services are killed at random; nothing acknowledged is lost.

For ``BAMIKUBE_SOAK_SECONDS`` (300) three writers create, change and delete, and every few seconds one process of the
control plane or one of a node's services dies by ``kill -9``. Containers and containerd are left alone: pods must not
notice. In the end, when all services run again:

* every write that was answered is there, and every deletion that was answered is done;
* every pod that must be there runs as exactly one process, on the node it was first bound to, with an address of its own;
* after the namespace has been deleted no node has a process, mount, link, address, folder or cgroup more than before.

``BAMIKUBE_SEED`` repeats the choices; what happens between them is the machine's.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from tests.support.footprint import Footprint, footprint, left_behind
from tests.support.kubectl import until
from tests.support.ledger import Ledger

SECONDS = float(os.environ.get("BAMIKUBE_SOAK_SECONDS", "300"))
NODES = ("master", "worker-1", "worker-2")
UNITS = [("master", unit) for unit in ("etcd", "apiserver", "scheduler", "controllers", "dns")]
UNITS += [(node, unit) for node in NODES for unit in ("nodeagent", "network", "proxy")]
LIVE_PODS = 12
IMAGE = "busybox:1.36"
NAMESPACE = f"soak-{os.getpid()}"

# Of every kind that leaves a mount on the node: in memory, a part of a folder, a file, the contents of an image.
VOLUMES = [
    {"name": "memory", "emptyDir": {"medium": "Memory"}},
    {"name": "folder", "emptyDir": {}},
    {
        "name": "written",
        "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]},
    },
    {"name": "image", "image": {"reference": IMAGE}},
]
MOUNTS = [
    {"name": "memory", "mountPath": "/memory"},
    {"name": "folder", "mountPath": "/part", "subPath": "a/b"},
    {"name": "written", "mountPath": "/name", "subPath": "name"},
    {"name": "image", "mountPath": "/image"},
]

pytestmark = pytest.mark.slow


def client(kubeconfig: str) -> Any:
    """The official client, which must not repeat a request by itself."""
    configuration = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(kubeconfig, client_configuration=configuration)
    configuration.retries = False
    return kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(configuration))


class Writer:
    """One thread that writes until it is told to stop. A failure of its own is kept for the end."""

    def __init__(self, api: Any, seed: str, step: Callable[[Writer], None]) -> None:
        self.api, self.chance, self.ledger = api, random.Random(seed), Ledger()
        self.count = 0
        self.bound: dict[str, set[str]] = {}  # uid of a pod: the nodes it was seen on
        self.error: BaseException | None = None
        self._step = step
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.wait(self.chance.uniform(0, 0.4)):
                self._step(self)
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        if self.error is not None:
            raise self.error

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}-{self.count}"


def configmaps(prefix: str) -> Callable[[Writer], None]:
    def step(writer: Writer) -> None:
        api, ledger = writer.api, writer.ledger

        def body(name: str, value: str) -> dict[str, Any]:
            return {"metadata": {"name": name}, "data": {"value": value}}

        old = ledger.certain()
        if len(old) < 10 or writer.chance.random() < 0.5:
            name = writer.fresh(prefix)
            ledger.write(
                name, "1", lambda: api.create_namespaced_config_map(NAMESPACE, body(name, "1"), **limit())
            )
        elif writer.chance.random() < 0.5:
            name = writer.chance.choice(old)
            value = str(writer.chance.random())
            ledger.write(
                name,
                value,
                lambda: api.replace_namespaced_config_map(name, NAMESPACE, body(name, value), **limit()),
            )
        else:
            name = writer.chance.choice(old)
            ledger.write(name, None, lambda: api.delete_namespaced_config_map(name, NAMESPACE, **limit()))

    return step


def limit() -> dict[str, float]:
    return {"_request_timeout": 20}


def marker(name: str) -> str:
    """Seconds that no other process sleeps: how a pod's process is found on the machine."""
    return f"9{os.getpid()}{int(name.rsplit('-', 1)[1]):05}"


def pods(writer: Writer) -> None:
    api, ledger = writer.api, writer.ledger
    live = ledger.certain()
    if len(live) < LIVE_PODS:
        name = writer.fresh("pod")
        container = {"name": "c", "image": IMAGE, "command": ["sleep", marker(name)], "volumeMounts": MOUNTS}
        spec = {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": VOLUMES}
        body = {"metadata": {"name": name}, "spec": spec}
        ledger.write(name, "", lambda: api.create_namespaced_pod(NAMESPACE, body, **limit()))
    else:
        name = writer.chance.choice(live)
        ledger.write(name, None, lambda: api.delete_namespaced_pod(name, NAMESPACE, **limit()))
    try:
        found = api.list_namespaced_pod(NAMESPACE, **limit()).items
    except Exception:  # between two servers; the next look tells as much
        return
    for pod in found:
        if pod.spec.node_name:
            writer.bound.setdefault(pod.metadata.uid, set()).add(pod.spec.node_name)


def sleeping() -> list[str]:
    """The markers of all pods' processes on this machine, one for each process."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == b"sleep" and len(words) > 1 and words[1].startswith(b"9%d" % os.getpid()):
                found.append(words[1].decode())
    return sorted(found)


def kill_at_random(lab: Any, seed: str) -> list[str]:
    """Kill a unit every few seconds and wait until it runs again. Returns what was killed."""
    chance, killed = random.Random(seed), []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        node, unit = chance.choice(UNITS)
        pid = until(lambda n=node, u=unit: lab.unit_pid(n, u), timeout=60, what=f"{unit} of {node}")
        os.kill(pid, signal.SIGKILL)
        killed.append(f"{node}/{unit}")
        again = f"{unit} of {node} to run again after {', '.join(killed[-5:])} were killed"
        until(lambda n=node, u=unit, p=pid: lab.unit_pid(n, u) not in (0, p), timeout=60, what=again)
        time.sleep(chance.uniform(0.5, 4))
    return killed


def settled(lab: Any) -> bool:
    status = lab.status()
    return bool(status["api"]["answers"]) and all(
        node["kubernetes"] == "Ready" and all(unit["state"] == "running" for unit in node["units"].values())
        for node in status["nodes"]
    )


def test_nothing_acknowledged_is_lost_and_nothing_leaks(lab: Any, kubectl: Any, kubeconfig: str) -> None:
    seed = os.environ.get("BAMIKUBE_SEED") or str(time.time_ns())
    print(f"BAMIKUBE_SEED={seed}")  # shown when the test fails
    room = kubectl.within(NAMESPACE)
    until(lambda: settled(lab), timeout=60, what="a lab at rest")
    before = {node: footprint(lab, node) for node in NODES}
    kubectl("create", "namespace", NAMESPACE)
    until(lambda: room("get", "serviceaccount", "default", "-o", "name"), timeout=20, what="the account")
    api = client(kubeconfig)
    steps = [configmaps("a"), configmaps("b"), pods]
    writers = [Writer(client(kubeconfig), f"{seed}-{at}", step) for at, step in enumerate(steps)]
    try:
        killed = kill_at_random(lab, seed)
    finally:
        for writer in writers:
            writer.stop()
    until(lambda: settled(lab), timeout=120, what="all services to run again")

    maps = api.list_namespaced_config_map(NAMESPACE, **limit()).items
    held = {c.metadata.name: c.data["value"] for c in maps if "value" in c.data}
    for prefix, writer in zip(("a-", "b-"), writers[:2], strict=True):
        assert writer.ledger.complaints({n: v for n, v in held.items() if n.startswith(prefix)}) == []
    check_pods(api, writers[2])
    answered = sum(writer.ledger.answered for writer in writers)
    unanswered = sum(writer.ledger.unanswered for writer in writers)
    print(f"{len(killed)} kills, {answered} writes answered, {unanswered} not")
    assert len(killed) > SECONDS / 20 and answered > SECONDS

    kubectl("delete", "namespace", NAMESPACE, "--timeout=180s", timeout=200)
    until(lambda: sleeping() == [], timeout=60, what="the end of every process")

    def left() -> dict[str, Footprint]:
        return {node: left_behind(before[node], footprint(lab, node)) for node in NODES}

    try:
        until(lambda: not any(left().values()), timeout=120, what="nodes as they were")
    except AssertionError:
        raise AssertionError(f"left behind: {left()}") from None


def check_pods(api: Any, writer: Writer) -> None:
    """The pods are what they should be, in the API and on the machine."""

    def list_pods() -> list[Any]:
        return list(api.list_namespaced_pod(NAMESPACE, **limit()).items)

    def agree() -> bool:
        found = list_pods()
        assert writer.ledger.complaints({pod.metadata.name: "" for pod in found}) == []
        ready = [c.status for pod in found for c in pod.status.conditions or () if c.type == "Ready"]
        assert ready == ["True"] * len(found), [(p.metadata.name, p.status.phase) for p in found]
        return sleeping() == sorted(marker(pod.metadata.name) for pod in found)

    until(agree, timeout=120, what="each pod to run as one process, and no other")
    found = list_pods()
    for pod in found:
        writer.bound.setdefault(pod.metadata.uid, set()).add(pod.spec.node_name)
    assert {uid: nodes for uid, nodes in writer.bound.items() if len(nodes) > 1} == {}
    addresses = [pod.status.pod_ip for pod in found]
    assert len(set(addresses)) == len(addresses)

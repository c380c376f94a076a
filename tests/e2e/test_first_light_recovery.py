"""What breaks comes back: containers, control-plane processes, a whole node."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl, until

pytestmark = pytest.mark.e2e

TOLERATIONS = """
      tolerations:
        - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
"""
DEPLOYMENT = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: steady}}
spec:
  replicas: 4
  selector: {{matchLabels: {{app: steady}}}}
  template:
    metadata: {{labels: {{app: steady}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: main, image: busybox, command: [sleep, "36000"]}}]
{TOLERATIONS}"""


@pytest.fixture(scope="module")
def k(kubeconfig: str) -> Iterator[Kubectl]:
    kubectl = Kubectl(Path(kubeconfig))
    kubectl("create", "namespace", "recovery")
    inside = kubectl.within("recovery")
    inside("apply", "-f", "-", stdin=DEPLOYMENT)
    inside("rollout", "status", "deployment/steady", "--timeout=60s")
    yield inside
    kubectl("delete", "namespace", "recovery", "--wait=true", timeout=120)


def processes_of(container: str) -> list[int]:
    """Pids on this machine that are in a container's cgroup."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if container in (entry / "cgroup").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_killed_container_is_restarted_and_counted(k: Kubectl) -> None:
    pod = k("get", "pods", "-l", "app=steady", "-o", "name").split()[0]

    def container() -> Any:
        return k.json("get", pod)["status"]["containerStatuses"][0]

    before = container()
    assert before["restartCount"] == 0
    for pid in processes_of(before["containerID"].removeprefix("containerd://")):
        os.kill(pid, signal.SIGKILL)
    after = until(
        lambda: c if (c := container())["restartCount"] == 1 and c["ready"] else None, what="a restart"
    )
    assert after["containerID"] != before["containerID"]
    ended = after["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")
    assert re.search(r"\s1 \(\d+s ago\)\s", k("get", pod))


@pytest.mark.parametrize("unit", ["apiserver", "etcd", "controllers", "scheduler"])
def test_a_killed_control_plane_process_comes_back_and_nothing_is_lost(
    k: Kubectl, bamikube: Any, unit: str
) -> None:
    k("create", "configmap", f"kept-{unit}", f"--from-literal=unit={unit}")
    pid = bamikube.unit_pid("master", unit)
    os.kill(pid, signal.SIGKILL)
    until(lambda: bamikube.unit_pid("master", unit) not in (0, pid), timeout=30, what=f"another {unit}")
    until(lambda: k("get", "configmap", f"kept-{unit}", "-o", "jsonpath={.data.unit}") == unit, timeout=30)
    # The cluster still converges: a new size is reached.
    size = 5 if unit in ("apiserver", "controllers") else 4
    until(lambda: "scaled" in k("scale", "deployment", "steady", f"--replicas={size}"), timeout=30)
    until(
        lambda: k.json("get", "deployment", "steady")["status"].get("readyReplicas") == size,
        timeout=90,
        what=f"{size} ready pods after {unit} was killed",
    )


def test_a_crashed_node_loses_its_pods_and_comes_back(k: Kubectl, bamikube: Any) -> None:
    k("scale", "deployment", "steady", "--replicas=4")
    k("rollout", "status", "deployment/steady", "--timeout=60s")

    def ready(node: str) -> str:
        conditions = k.json("get", "node", node)["status"]["conditions"]
        return next(c["status"] for c in conditions if c["type"] == "Ready")

    def placed() -> list[str]:
        items = k.json("get", "pods", "-l", "app=steady")["items"]
        alive = [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]
        return [
            pod["spec"]["nodeName"]
            for pod in alive
            if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])
        ]

    assert "worker-2" in placed()
    bamikube("node", "crash", "worker-2")
    try:
        until(lambda: ready("worker-2") != "True", timeout=90, what="worker-2 to be NotReady")
        assert "NotReady" in k("get", "node", "worker-2")
        until(lambda: placed() == ["worker-1"] * 4, timeout=60, what="all four pods on worker-1")
    finally:
        bamikube("node", "start", "worker-2")
    until(lambda: ready("worker-2") == "True", timeout=60, what="worker-2 to be Ready again")
    until(
        lambda: len(k.json("get", "pods", "-l", "app=steady")["items"]) == 4,
        timeout=60,
        what="the lost pods to go",
    )
    k("scale", "deployment", "steady", "--replicas=8")
    k("rollout", "status", "deployment/steady", "--timeout=60s")
    assert "worker-2" in placed()

"""What survives what: killed processes, a killed node agent, a killed containerd.

A crash of a whole node is in the recovery tests of the lab; these stay within one node that goes on running.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any


def made(kubectl: Any, namespace: str, eventually: Callable[..., Any], script: str, image: str) -> None:
    """One pod ``it``, running."""
    account = ("-n", namespace, "get", "serviceaccount", "default")
    eventually(lambda: kubectl.run(*account).returncode == 0, 20, "the account")
    container: dict[str, Any] = {"name": "c", "image": image, "command": ["sh", "-c", script]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "it"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod))
    kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/it", "--timeout=60s")


def look(kubectl: Any, namespace: str) -> tuple[dict[str, Any], dict[str, Any]]:
    pod = kubectl.json("-n", namespace, "get", "pod", "it")
    return pod, pod["status"]["containerStatuses"][0]


def process(marker: str) -> int:
    """The machine's process whose command line holds ``marker`` (made unique by the test)."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if words[:1] == [b"sleep"] and marker.encode() in words:
                return int(entry)
    raise AssertionError(f"no process has {marker} in its command line")


def test_killed_process_is_restarted_then_backed_off(
    kubectl: Any, namespace: str, eventually: Callable[..., Any]
) -> None:
    marker = f"{os.getpid()}0042"
    made(kubectl, namespace, eventually, f"exec sleep {marker}", "busybox:1.36")
    os.kill(process(marker), signal.SIGKILL)

    def restarted() -> dict[str, Any] | None:
        _, status = look(kubectl, namespace)
        return status if status["restartCount"] == 1 and "running" in status["state"] else None

    status = eventually(restarted, 15, "the first restart, which does not wait")
    assert status["lastState"]["terminated"]["exitCode"] == 137
    assert status["lastState"]["terminated"]["reason"] == "Error"
    os.kill(process(marker), signal.SIGKILL)

    def waits() -> bool:
        waiting = look(kubectl, namespace)[1]["state"].get("waiting") or {}
        return waiting.get("reason") == "CrashLoopBackOff" and waiting["message"].startswith("back-off 10s")

    eventually(waits, 10, "the back-off of the second restart")
    eventually(lambda: look(kubectl, namespace)[1]["restartCount"] == 2, 20, "the second restart")


def test_containers_survive_killed_agent_and_containerd(
    bamikube: Any, kubectl: Any, namespace: str, eventually: Callable[..., Any]
) -> None:
    made(kubectl, namespace, eventually, "while true; do date; sleep 1; done", "busybox:1.36")
    pod, before = look(kubectl, namespace)
    node = pod["spec"]["nodeName"]
    for unit in ("nodeagent", "containerd"):
        pid = bamikube.unit_pid(node, unit)
        assert pid > 1
        os.kill(pid, signal.SIGKILL)
        eventually(lambda u=unit, p=pid: bamikube.unit_pid(node, u) not in (0, p), 30, f"{unit} runs again")

        def works() -> bool:
            done = kubectl.run("-n", namespace, "exec", "it", "--", "hostname", timeout=20)
            return bool(done.stdout == "it\n")

        eventually(works, 30, f"exec after {unit} was killed")
        _, after = look(kubectl, namespace)
        assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    kubectl.run("-n", namespace, "exec", "it", "--", "kill", "1")
    kubectl("-n", namespace, "delete", "pod", "it", "--timeout=30s")

"""What changes a pod while it runs, with the real kubectl: a debug container and other resources."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.kubectl import Kubectl

IMAGE = "busybox:1.36"
RESOURCES = {"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "32Mi"}}


@pytest.fixture(scope="module")
def room(kubectl: Kubectl, eventually: Callable[..., Any]) -> Iterator[Kubectl]:
    made = kubectl.within(f"t-pods-in-flight-{os.getpid()}")
    kubectl("create", "namespace", made.namespace)
    eventually(lambda: made.run("get", "serviceaccount", "default").returncode == 0, 20, "account")
    container = {"name": "c", "image": IMAGE, "command": ["sleep", "4321"], "resources": RESOURCES}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "runs"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }
    made("create", "-f", "-", stdin=json.dumps(pod))
    made("wait", "--for=condition=Ready", "pod/runs", "--timeout=60s")
    yield made
    kubectl.run("delete", "namespace", made.namespace, "--wait=false")


def _read(terminal: int, process: subprocess.Popen[Any], seconds: float) -> str:
    """What a terminal shows until its process has ended."""
    text, until = b"", time.monotonic() + seconds
    while time.monotonic() < until:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                text += os.read(terminal, 4096)
            except OSError:
                break
        elif process.poll() is not None:
            break
    return text.decode("utf-8", "replace")


def test_debug_with_a_terminal_sees_the_processes_of_its_target(room: Kubectl) -> None:
    terminal, other = pty.openpty()
    words = ("debug", "-it", "runs", f"--image={IMAGE}", "--target=c", "--container=looks", "--", "sh")
    process = room.start(*words, stdin=other, stdout=other, stderr=other)
    os.close(other)
    try:
        os.write(terminal, b"ps; echo seen; exit 3\n")
        text = _read(terminal, process, 60.0)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert re.search(r"\bsleep 4321\b", text), text
    found = json.loads(room("get", "pod", "runs", "-o", "json"))
    [item] = found["status"]["ephemeralContainerStatuses"]
    assert item["name"] == "looks" and item["restartCount"] == 0
    assert found["status"]["phase"] == "Running"
    assert found["status"]["containerStatuses"][0]["ready"]


def test_a_resize_changes_limits_of_the_running_process(
    room: Kubectl, eventually: Callable[..., Any]
) -> None:
    wanted = {"requests": {"cpu": "60m", "memory": "16Mi"}, "limits": {"cpu": "150m", "memory": "48Mi"}}
    patch = json.dumps({"spec": {"containers": [{"name": "c", "resources": wanted}]}})
    room("patch", "pod", "runs", "--subresource", "resize", "--patch", patch)

    def done() -> bool:
        found = json.loads(room("get", "pod", "runs", "-o", "json"))
        [item] = found["status"]["containerStatuses"]
        kinds = {condition["type"] for condition in found["status"]["conditions"]}
        return bool(item["resources"] == wanted and not kinds & {"PodResizePending", "PodResizeInProgress"})

    eventually(done, 20, "the resize")
    [item] = json.loads(room("get", "pod", "runs", "-o", "json"))["status"]["containerStatuses"]
    assert item["restartCount"] == 0 and item["allocatedResources"] == wanted["requests"]
    limit = room(
        "exec",
        "runs",
        "-c",
        "c",
        "--",
        "sh",
        "-c",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max",
    )
    assert limit.split()[-1] == str(48 << 20)
    events = room(
        "get", "events", "--field-selector=involvedObject.name=runs", "-o", "jsonpath={.items[*].reason}"
    )
    assert {"ResizeStarted", "ResizeCompleted"} <= set(events.split())


def test_a_resize_beyond_the_node_is_infeasible(room: Kubectl, eventually: Callable[..., Any]) -> None:
    patch = {
        "spec": {
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "900"}, "limits": {"cpu": "900"}}}]
        }
    }
    room("patch", "pod", "runs", "--subresource", "resize", "--patch", json.dumps(patch))

    def told() -> bool:
        found = json.loads(room("get", "pod", "runs", "-o", "json"))
        waits = [c for c in found["status"]["conditions"] if c["type"] == "PodResizePending"]
        return bool(waits) and waits[0]["reason"] == "Infeasible"

    eventually(told, 20, "the refusal")

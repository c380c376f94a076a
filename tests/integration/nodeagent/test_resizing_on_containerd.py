"""In-place resize on real containerd: the kernel knows the new limits, and the process is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bamikube.nodeagent.pod.resizer import judge_all

JSON = dict[str, Any]
HOLDS = ("sh", "-c", "sleep 1000")


def resized(worker: Any, **resources: Any) -> None:
    """As the subresource resize changes the pod."""
    meta = worker.pod["metadata"] | {"generation": worker.pod["metadata"]["generation"] + 1}
    [app] = worker.pod["spec"]["containers"]
    spec = worker.pod["spec"] | {"containers": [app | {"resources": resources}]}
    worker.update(worker.pod | {"metadata": meta, "spec": spec})


def limits(node: Any, worker: Any, below: str = "") -> tuple[str, str]:
    """The quota and the memory limit of the pod's cgroup, or of a container's in it."""
    parent, base = node.host.cgroup_parent(worker.pod).lstrip("/"), Path("/sys/fs/cgroup")
    if (base / "cgroup.controllers").exists():
        folder = base / parent / below
        return (folder / "cpu.max").read_text().split()[0], (folder / "memory.max").read_text().strip()
    quota = (base / "cpu" / parent / below / "cpu.cfs_quota_us").read_text().strip()
    return quota, (base / "memory" / parent / below / "memory.limit_in_bytes").read_text().strip()


async def test_limits_change_while_the_process_runs(node: Any, until: Any) -> None:
    half = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    app = {"name": "app", "command": list(HOLDS), "resources": half}
    worker = node.run(node.pod("web", {"containers": [app]}))
    await until(lambda: worker.state.running())
    [first] = worker.state.running()
    assert limits(node, worker) == limits(node, worker, first.id) == ("20000", str(64 << 20))
    resized(worker, requests=half["requests"], limits={"cpu": "400m", "memory": "96Mi"})
    judge_all(node.workers.values())
    await until(lambda: node.api.said("ResizeCompleted"))
    assert limits(node, worker) == limits(node, worker, first.id) == ("40000", str(96 << 20))
    resized(worker, **half)
    judge_all(node.workers.values())
    await until(lambda: len(node.api.said("ResizeCompleted")) == 2)
    assert limits(node, worker) == limits(node, worker, first.id) == ("20000", str(64 << 20))
    [now] = worker.state.running()
    assert now.id == first.id
    [item] = worker.status["containerStatuses"]
    assert item["resources"] == half and item["restartCount"] == 0


async def test_one_limit_goes_up_and_the_other_down(node: Any, until: Any) -> None:
    first = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    app = {"name": "app", "command": list(HOLDS), "resources": first}
    worker = node.run(node.pod("web", {"containers": [app]}))
    await until(lambda: worker.state.running())
    [container] = worker.state.running()
    for number, (cpu, memory) in enumerate((("400m", 48), ("200m", 64)), 1):
        resized(worker, requests=first["requests"], limits={"cpu": cpu, "memory": f"{memory}Mi"})
        judge_all(node.workers.values())
        await until(lambda n=number: len(node.api.said("ResizeCompleted")) == n)  # type: ignore[misc]
        wanted = (f"{cpu[:3]}00", str(memory << 20))
        assert limits(node, worker) == limits(node, worker, container.id) == wanted
    assert not node.api.said("ResizeError")


async def test_memory_that_is_in_use_stays(node: Any, until: Any) -> None:
    large = {"requests": {"memory": "96Mi"}, "limits": {"memory": "96Mi"}}
    fills = ["sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=48; touch /tmp/full; sleep 1000"]
    ready = {"exec": {"command": ["test", "-e", "/tmp/full"]}, "periodSeconds": 1}
    app = {"name": "app", "command": fills, "resources": large, "readinessProbe": ready}
    worker = node.run(node.pod("web", {"containers": [app]}))
    await until(lambda: worker.status.get("containerStatuses", [{}])[0].get("ready"))
    resized(worker, requests={"memory": "32Mi"}, limits={"memory": "32Mi"})
    judge_all(node.workers.values())
    await until(lambda: node.api.said("ResizeError"))
    [container] = worker.state.running()
    assert limits(node, worker)[1] == limits(node, worker, container.id)[1] == str(96 << 20)
    [why] = [c for c in worker.status["conditions"] if c["type"] == "PodResizeInProgress"]
    assert why["message"].startswith(
        "cannot decrease memory limits: [attempting to set pod memory limit (33554432) below current usage ("
    )
    resized(worker, **large)
    judge_all(node.workers.values())
    await until(lambda: node.api.said("ResizeCompleted"))


async def test_memory_by_policy_needs_a_new_process(node: Any, until: Any) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    small = {"requests": {"memory": "32Mi"}, "limits": {"memory": "32Mi"}}
    app = {"name": "app", "command": list(HOLDS), "resources": small, "resizePolicy": policy}
    worker = node.run(node.pod("web", {"containers": [app]}))
    await until(lambda: worker.state.running())
    resized(worker, requests={"memory": "32Mi"}, limits={"memory": "64Mi"})
    judge_all(node.workers.values())
    await until(lambda: node.api.said("ResizeCompleted"))
    [now] = worker.state.running()
    assert now.attempt == 1
    assert limits(node, worker, now.id)[1] == str(64 << 20)

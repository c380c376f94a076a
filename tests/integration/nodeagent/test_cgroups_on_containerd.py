"""The cgroups of pods as the kernel has them, with real containers inside."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bamikube.nodeagent.host.cgroups import Cgroups
from bamikube.nodeagent.node import ooms
from bamikube.nodeagent.startup import driver

BASE = Path("/sys/fs/cgroup")


def root(node: Any) -> str:
    """The cgroup that stands for the whole machine here."""
    return str(node.host._cgroups.classes()[0]).removeprefix("/").removesuffix("/kubepods")


def below(node: Any, controller: str, group: str) -> Path:
    folder = BASE if (BASE / "cgroup.controllers").exists() else BASE / controller
    return folder / root(node) / "kubepods" / group


@pytest.mark.skipif((BASE / "cgroup.controllers").exists(), reason="reads the files of cgroup v1")
async def test_burstable_pods_weigh_together_and_processes_are_bound(node: Any, until: Any) -> None:
    node.host._cgroups = Cgroups(root(node), "cgroupfs", pod_pids=20)
    shares = below(node, "cpu", "burstable") / "cpu.shares"
    assert (below(node, "cpu", "besteffort") / "cpu.shares").read_text().strip() == "2"

    def burstable(name: str, script: str) -> Any:
        resources = {"requests": {"cpu": "300m", "memory": "32Mi"}}
        container = {"name": "c", "command": ["sh", "-c", script], "resources": resources}
        return node.run(node.pod(name, {"containers": [container]}))

    one = burstable("one", "cat /proc/self/oom_score_adj > /dev/termination-log; sleep 1000")
    two = burstable(
        "two", "exec 2> /dev/termination-log; for i in $(seq 40); do sleep 1000 & done; sleep 1000"
    )

    def ended() -> str:
        [item] = two.status.get("containerStatuses") or [{}]
        found = item.get("state", {}).get("terminated") or item.get("lastState", {}).get("terminated") or {}
        return str(found.get("message", ""))

    await until(lambda: one.state.running() and "can't fork" in ended())
    assert shares.read_text().strip() == str(600 * 1024 // 1000)
    group = below(node, "pids", "burstable") / f"pod{two.uid}"
    assert (group / "pids.max").read_text().strip() == "20"
    node.delete(two, 0)
    await until(lambda: two.uid not in node.workers)
    assert shares.read_text().strip() == str(300 * 1024 // 1000) and two.uid not in node.host.known_pods()


async def test_a_cgroup_that_nobody_owns_is_seen_and_removed(node: Any) -> None:
    for controller in ("cpu", "memory"):
        (below(node, controller, "besteffort") / "pod0a-1b").mkdir(exist_ok=True)
    assert "0a-1b" in node.host.known_pods()
    await node.host.cleanup("0a-1b")
    assert "0a-1b" not in node.host.known_pods()


@pytest.mark.skipif((BASE / "cgroup.controllers").exists(), reason="reads the files of cgroup v1")
async def test_what_a_container_asks_for_is_in_its_cgroup(node: Any, until: Any) -> None:
    resources = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "300m", "memory": "64Mi"}}
    hold = ["sh", "-c", "cat /proc/self/oom_score_adj > /dev/termination-log; sleep 1000"]
    bound = {"name": "bound", "command": hold, "resources": resources}
    worker = node.run(node.pod("one", {"containers": [bound, {"name": "free", "command": hold}]}))
    await until(lambda: len(worker.state.running()) == 2)
    ids = {container.name: container.id for container in worker.state.running()}
    group = f"pod{worker.uid}"

    def value(controller: str, file: str, name: str = "") -> str:
        return (below(node, controller, "burstable") / group / ids.get(name, "") / file).read_text().strip()

    def has(name: str) -> list[str]:
        quota, memory = value("cpu", "cpu.cfs_quota_us", name), value("memory", "memory.limit_in_bytes", name)
        return [value("cpu", "cpu.shares", name), quota, memory if int(memory) < 1 << 60 else "all"]

    assert has("bound") == ["102", "30000", str(64 << 20)]
    assert has("free") == ["2", "-1", "all"]
    assert has("") == ["102", "-1", "all"]  # a container has no limit, so the pod has none
    if node.shared.node.kernel.bounds_swap:
        assert value("memory", "memory.memsw.limit_in_bytes", "bound") == str(64 << 20)
    folder = node.root / "pods" / worker.uid / "containers"
    scores = {name: (folder / name / "0").read_text().strip() for name in ids}
    assert scores == {"bound": str(1000 - 1000 * (32 << 20) // 2**33), "free": "999"}


async def test_a_runtime_of_before_leaves_the_driver_to_the_node_agent(node: Any) -> None:
    """containerd 1.6 does not know the call; a later one answers with what it is configured for, which is the same here."""
    assert await driver.choose(node.runtime, "cgroupfs", node.shared.world.clock) == ("cgroupfs", True)


async def test_the_kernel_tells_whose_memory_ran_out(node: Any, until: Any) -> None:
    found: list[ooms.Kill] = []

    async def listen() -> None:
        async for kill in ooms.kills():
            found.append(kill)

    listening = asyncio.ensure_future(listen())
    try:
        fills = ["sh", "-c", "exec tail /dev/zero"]
        app = {"name": "app", "command": fills, "resources": {"limits": {"memory": "16Mi"}}}
        worker = node.run(node.pod("full", {"restartPolicy": "Never", "containers": [app]}))
        await until(lambda: worker.status.get("phase") == "Failed")
        [item] = worker.status["containerStatuses"]
        assert item["state"]["terminated"]["reason"] == "OOMKilled"
        await until(lambda: any(worker.uid in kill.cgroup and kill.process == "tail" for kill in found))
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

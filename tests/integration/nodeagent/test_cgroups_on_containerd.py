"""The cgroups of pods as the kernel has them, with real containers inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bamikube.nodeagent.host.cgroups import Cgroups

BASE = Path("/sys/fs/cgroup")


def below(node: Any, controller: str, group: str) -> Path:
    root: str = node.host._cgroups._root
    folder = BASE if (BASE / "cgroup.controllers").exists() else BASE / controller
    return folder / root.strip("/") / "kubepods" / group


@pytest.mark.skipif((BASE / "cgroup.controllers").exists(), reason="reads the files of cgroup v1")
async def test_burstable_pods_weigh_together_and_processes_are_bound(node: Any, until: Any) -> None:
    node.host._cgroups = Cgroups(node.host._cgroups._root, "cgroupfs", pod_pids=20)
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

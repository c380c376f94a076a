"""The static policy of the CPU manager on real containerd: the kernel keeps one processor for one container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bamikube.nodeagent.cpus import choice, pool
from bamikube.nodeagent.cpus.binder import CpuBinder
from bamikube.nodeagent.cpus.policy import PolicyOptions
from bamikube.nodeagent.pod.placing import Place


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor cannot be shared out")
async def test_one_has_a_processor_and_the_others_the_rest(node: Any, until: Any, tmp_path: Path) -> None:
    machine = choice.machine()
    cpus = pool.static(machine, frozenset({machine[0].number}), 0, PolicyOptions(), tmp_path)
    node.shared.place = lambda uid, name: Place(cpus.of(uid, name), alone=bool(cpus.own(uid, name)))
    node.host._cgroups.alone = lambda uid: uid in cpus.assigned
    binder = CpuBinder(node.shared.world, node.runtime, cpus, lambda: list(node.workers.values()), 10)
    everything = choice.listed(one.number for one in machine)

    def run(name: str, resources: Any) -> Any:
        container = {"name": "c", "command": ["sleep", "1000"], "resources": resources}
        made = node.pod(name, {"containers": [container]})
        others = [worker.pod for worker in node.workers.values()]
        assert cpus.admit(made, others) is None
        return node.run(made)

    async def allowed(worker: Any) -> str:
        command = ["sed", "-n", "s/^Cpus_allowed_list:\\t//p", "/proc/1/status"]
        [container] = worker.state.running()
        return (await node.runtime.exec_sync(container.id, command, 10)).stdout.decode().strip()

    def quotas(worker: Any) -> set[str]:
        """Of the pod's cgroup, and of those of its containers."""
        files = Path("/sys/fs/cgroup/cpu").rglob(f"pod{worker.uid}/**/cpu.cfs_quota_us")
        return {file.read_text().strip() for file in files}

    shared = run("shared", {})
    await until(lambda: shared.state.running())
    assert await allowed(shared) == everything
    whole = {"cpu": "1", "memory": "32Mi"}
    own = run("own", {"limits": whole, "requests": whole})
    await until(lambda: own.state.running())
    mine = await allowed(own)
    assert mine == cpus.of(own.uid, "c") and mine.isdigit() and int(mine) != machine[0].number
    assert quotas(own) == {"-1"}
    await binder.settle()
    rest = choice.listed({one.number for one in machine} - {int(mine)})
    assert await allowed(shared) == rest and await allowed(own) == mine
    node.delete(own, 0)
    await until(lambda: own.uid not in node.workers)
    await binder.settle()
    assert await allowed(shared) == everything

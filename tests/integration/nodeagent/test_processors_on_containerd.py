"""The managers of processors, memory and topology on real containerd: what the kernel is told of a container's place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bamikube.nodeagent.cpus import choice, pool
from bamikube.nodeagent.cpus.policy import PolicyOptions
from bamikube.nodeagent.numa import nodes
from bamikube.nodeagent.numa.binder import Binder
from bamikube.nodeagent.numa.managers import Managers
from bamikube.nodeagent.numa.memory import STATE, MemoryBook
from bamikube.nodeagent.numa.topology import Topology
from bamikube.nodeagent.pod.placing import Place


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor cannot be shared out")
async def test_one_has_a_processor_and_the_others_the_rest(node: Any, until: Any, tmp_path: Path) -> None:
    machine = choice.machine()
    cpus = pool.static(machine, frozenset({machine[0].number}), 0, PolicyOptions(), tmp_path)
    there = nodes.nodes()
    memory = MemoryBook(there, {there[0].number: {"memory": 2**20}}, tmp_path / STATE)
    managers = Managers(cpus, memory, Topology("single-numa-node", there))
    node.shared.place, node.host._cgroups.alone = managers.place, managers.alone
    binder = Binder(node.shared.world, node.runtime, managers, lambda: list(node.workers.values()), 10)
    everything = choice.listed(one.number for one in machine)

    def run(name: str, resources: Any) -> Any:
        container = {"name": "c", "command": ["sleep", "1000"], "resources": resources}
        made = node.pod(name, {"containers": [container]})
        others = [worker.pod for worker in node.workers.values()]
        assert managers.admit(made, others) is None
        return node.run(made)

    async def allowed(worker: Any) -> str:
        command = ["sed", "-n", "s/^Cpus_allowed_list:\\t//p", "/proc/1/status"]
        [container] = worker.state.running()
        return (await node.runtime.exec_sync(container.id, command, 10)).stdout.decode().strip()

    def quotas(worker: Any) -> set[str]:
        """Of the pod's cgroup, and of those of its containers."""
        files = Path("/sys/fs/cgroup/cpu").rglob(f"pod{worker.uid}/**/cpu.cfs_quota_us")
        return {file.read_text().strip() for file in files}

    def written(worker: Any, name: str) -> str:
        [container] = worker.state.running()
        [file] = Path("/sys/fs/cgroup/cpuset").rglob(f"pod{worker.uid}/{container.id}/{name}")
        return file.read_text().strip()

    shared = run("shared", {})
    await until(lambda: shared.state.running())
    assert await allowed(shared) == everything
    whole = {"cpu": "1", "memory": "32Mi"}
    own = run("own", {"limits": whole, "requests": whole})
    await until(lambda: own.state.running())
    mine = await allowed(own)
    assert mine == cpus.of(own.uid, "c") and mine.isdigit() and int(mine) != machine[0].number
    assert quotas(own) == {"-1"}
    [node_number] = memory.of(own.uid, "c")
    assert written(own, "cpuset.mems") == str(node_number)
    assert written(own, "cpuset.cpus") == mine
    await binder.settle()
    rest = choice.listed({one.number for one in machine} - {int(mine)})
    assert await allowed(shared) == rest and await allowed(own) == mine
    # A node agent that begins anew finds in its files who has what.
    found = Managers(
        pool.static(machine, cpus.reserved, 0, PolicyOptions(), tmp_path),
        MemoryBook(there, memory.reserved, tmp_path / STATE),
    )
    assert found.memory is not None
    found.memory.load()
    assert found.place(own.uid, "c") == managers.place(own.uid, "c")
    await Binder(node.shared.world, node.runtime, found, lambda: list(node.workers.values()), 10).settle()
    assert await allowed(shared) == rest and await allowed(own) == mine
    node.delete(own, 0)
    await until(lambda: own.uid not in node.workers)
    await binder.settle()
    assert await allowed(shared) == everything


async def test_the_kernel_is_told_of_which_nodes_the_memory_is(node: Any, until: Any) -> None:
    """On a machine with one NUMA node only a node that there is not shows that the kernel hears of it."""
    node.shared.place = lambda _uid, _name: Place(memories="9")
    worker = node.run(node.pod("far", {"containers": [{"name": "c", "command": ["sleep", "1000"]}]}))
    await until(lambda: any("cpuset.mems" in text for text in node.api.said("Failed")))
    node.delete(worker, 0)
    await until(lambda: worker.uid not in node.workers)

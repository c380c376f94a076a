"""Pods' slices made by a real systemd, and what the kernel has of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bamikube.nodeagent.host.cgroups import Cgroups
from bamikube.nodeagent.node.reservations import Bounds
from tests.integration.nodeagent.conftest import Node
from tests.support.private_containerd import PrivateContainerd, images
from tests.support.private_systemd import PrivateSystemd, usable

pytestmark = pytest.mark.skipif(not usable(), reason="no systemd, or no cgroups of version 1")
JSON = dict[str, Any]


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[PrivateSystemd]:
    made = PrivateSystemd(tmp_path / "systemd")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
async def node_of_slices(systemd: PrivateSystemd, containerd: Any, tmp_path: Path) -> AsyncIterator[Node]:
    """A node whose runtime, too, has systemd make its cgroups."""
    base = Path(tempfile.mkdtemp(prefix="bami-sd-", dir="/var/tmp"))
    runtime = PrivateContainerd(base, systemd.inside)
    node: Node | None = None
    try:
        runtime.start()
        runtime.load_images(images())
        node = Node(runtime, tmp_path, "/", Cgroups("/", "systemd", systemd.cgroups, bus=systemd.address))
        await node.listen()
        yield node
    finally:
        if node is not None:
            await node.close()
        runtime.stop()
        shutil.rmtree(base, ignore_errors=True)


async def test_containers_run_in_slices(node_of_slices: Node, systemd: PrivateSystemd, until: Any) -> None:
    node = node_of_slices
    resources = {"requests": {"cpu": "100m"}, "limits": {"cpu": "300m", "memory": "64Mi"}}
    show = "cat /proc/self/cgroup > /dev/termination-log; trap : TERM; sleep 1000 & wait"
    app = {"name": "app", "command": ["sh", "-c", show], "resources": resources}
    worker = node.run(node.pod("web", {"hostNetwork": True, "containers": [app]}))
    await until(lambda: worker.state.running() or node.api.said("FailedCreatePodSandBox"))
    assert not node.api.said("FailedCreatePodSandBox")
    [container] = worker.state.running()
    name = f"kubepods-burstable-pod{worker.uid.replace('-', '_')}.slice"
    group = f"kubepods.slice/kubepods-burstable.slice/{name}"
    scope = f"cri-containerd-{container.id}.scope"
    memory = systemd.cgroups / "memory" / group
    assert (memory / "memory.limit_in_bytes").read_text().strip() == str(64 << 20)
    assert (memory / scope / "memory.limit_in_bytes").read_text().strip() == str(64 << 20)
    assert (systemd.cgroups / "cpu" / group / scope / "cpu.cfs_quota_us").read_text().strip() == "30000"
    assert systemd.show(scope, "ControlGroup") == f"/{group}/{scope}"
    assert node.host.memory_used(worker.pod, container.id) > 0
    node.delete(worker, 5)
    await until(lambda: worker.uid not in node.workers)
    assert systemd.show(name, "ActiveState") == "inactive" and not memory.exists()


def pod(cpu: str, memory: str) -> JSON:
    resources = {"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": "250m"}}
    return {"metadata": {"uid": "0a-1b"}, "spec": {"containers": [{"name": "c", "resources": resources}]}}


async def test_limits_of_slices_are_the_kernels(systemd: PrivateSystemd) -> None:
    groups = Cgroups("/", "systemd", systemd.cgroups, pod_pids=50, bus=systemd.address)
    name = "kubepods-burstable-pod0a_1b.slice"
    folder = f"kubepods.slice/kubepods-burstable.slice/{name}"

    def kernel(controller: str, file: str, group: str = folder) -> str:
        return (systemd.cgroups / controller / group / file).read_text().strip()

    async def has(cpu: str, memory: str, quota: str) -> None:
        await groups.create(pod(cpu, f"{memory}Mi"))
        limit = str(int(memory) << 20)
        assert kernel("cpu", "cpu.cfs_quota_us") == quota and kernel("cpu", "cpu.shares") == "256"
        assert kernel("memory", "memory.limit_in_bytes") == limit and kernel("pids", "pids.max") == "50"
        assert systemd.show(name, "MemoryLimit") == limit and systemd.show(name, "CPUShares") == "256"
        assert systemd.show(name, "TasksMax") == "50"

    await groups.start()
    await groups.bound_pods(Bounds(2048, 1 << 30, 1000))
    assert kernel("memory", "memory.limit_in_bytes", "kubepods.slice") == str(1 << 30)
    assert systemd.show("kubepods.slice", "TasksMax") == "1000"
    await has("500m", "64", "50000")
    assert systemd.show(name, "CPUQuotaPerSecUSec") == "500ms"
    assert systemd.show(name, "ControlGroup") == f"/{folder}"
    await has("1500m", "96", "150000")
    assert kernel("cpu", "cpu.shares", "kubepods.slice/kubepods-burstable.slice") == "256"
    again = Cgroups("/", "systemd", systemd.cgroups, pod_pids=50, bus=systemd.address)
    await again.start()
    assert again.known() == {"0a-1b"}
    await again.create(pod("1", "32Mi"))
    assert kernel("memory", "memory.limit_in_bytes") == systemd.show(name, "MemoryLimit") == str(32 << 20)
    await again.remove("0a-1b")
    assert again.known() == set() and systemd.show(name, "ActiveState") == "inactive"

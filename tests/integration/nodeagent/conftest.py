"""Real containerd, a real host folder and cgroup tree, and a cluster API that only records."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bamikube.kit.world import World
from bamikube.nodeagent import settings
from bamikube.nodeagent.container.security import NodeSecurity
from bamikube.nodeagent.container.spec import NodeFacts
from bamikube.nodeagent.host import mounting
from bamikube.nodeagent.host.cgroups import Cgroups
from bamikube.nodeagent.host.linux import LinuxHost
from bamikube.nodeagent.node import facts
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.status import HostFacts
from bamikube.nodeagent.pod.worker import PodWorker
from bamikube.nodeagent.probing.checks import NodeChecks
from bamikube.nodeagent.runtime.cri import CriRuntime
from bamikube.nodeagent.runtime.port import RuntimeFailure
from tests.support.hollow_pods import merged
from tests.support.private_containerd import PrivateContainerd, images, network_namespace

JSON = dict[str, Any]
BUSYBOX = "bamikube.test/busybox:1"


@pytest.fixture(scope="package")
def containerd() -> Iterator[PrivateContainerd]:
    base = Path(tempfile.mkdtemp(prefix="bami-cri-", dir="/var/tmp"))
    archives = images()  # may fetch a Debian package, which the namespace below could not
    with network_namespace():
        daemon = PrivateContainerd(base)
        try:
            daemon.start()
            daemon.load_images(archives)
            yield daemon
        finally:
            daemon.stop()
            shutil.rmtree(base, ignore_errors=True)


class Recorded:
    """The cluster as one pod sees it: objects from a dict, everything written is kept."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], JSON] = {}
        self.patches: list[JSON] = []
        self.statuses: dict[str, JSON] = {}
        self.deleted: list[str] = []
        self.events: list[tuple[str, str]] = []

    async def config_map(self, namespace: str, name: str) -> JSON | None:
        return self.objects.get(("ConfigMap", name))

    async def secret(self, namespace: str, name: str) -> JSON | None:
        return self.objects.get(("Secret", name))

    async def trust_bundles(self) -> list[JSON] | None:
        return [found for (kind, _), found in self.objects.items() if kind == "ClusterTrustBundle"]

    async def find(self, resource: str, namespace: str, name: str) -> JSON | None:
        return self.objects.get((resource, name))

    async def token(self, pod: JSON, audience: str, seconds: int) -> tuple[str, float]:
        return "token-of-the-pod", 4e9

    def services(self, namespace: str) -> list[JSON]:
        return []

    async def write_status(self, pod: JSON, patch: JSON) -> JSON:
        self.patches.append(patch)
        uid = pod["metadata"]["uid"]
        self.statuses[uid] = merged(self.statuses.get(uid, {}), patch)
        return {"metadata": pod["metadata"], "status": self.statuses[uid]}

    async def delete(self, pod: JSON) -> None:
        self.deleted.append(pod["metadata"]["name"])

    def event(
        self, pod: JSON, type: str, reason: str, message: str, container: str = "", annotations: Any = None
    ) -> None:
        self.events.append((reason, message))

    def said(self, reason: str) -> list[str]:
        return [message for why, message in self.events if why == reason]

    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.events]


class Node:
    """A node without an API server: workers on real containerd."""

    def __init__(
        self, containerd: PrivateContainerd, base: Path, group: str, cgroups: Cgroups | None = None
    ) -> None:
        self.endpoint = containerd.endpoint
        self.runtime = CriRuntime(self.endpoint)
        self.api = Recorded()
        self.logs, self.root = base / "log", base / "kubelet"
        machine = facts.inspect(base)
        kernel = replace(settings.kernel(NodeAgentOptions(), machine), memory=2**33)
        self.host = LinuxHost(
            base / "kubelet", self.logs, cgroups or Cgroups(group, "cgroupfs", kernel=kernel)
        )
        self.shared = Shared(
            world=World(),
            runtime=self.runtime,
            host=self.host,
            api=self.api,
            node=NodeFacts(
                name="node-1",
                cluster_dns=("10.96.0.10",),
                kernel=kernel,
                security=NodeSecurity(str(self.root / "seccomp")),
            ),
            addresses=HostFacts(("192.0.2.1",), deep=mounting.sets_recursively()),
            checks=NodeChecks(self.runtime),
            allocatable=lambda: {"cpu": "2", "memory": "8Gi"},
        )
        self.workers: dict[str, PodWorker] = {}
        self._listener: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        await self.host.start()

        async def loop() -> None:
            while True:
                try:
                    async for event in self.runtime.events():
                        for worker in list(self.workers.values()):
                            if event.kind == "exited":
                                worker.exited(event.id)
                            worker.wake()
                except RuntimeFailure:
                    await asyncio.sleep(0.2)

        self._listener = asyncio.ensure_future(loop())

    def pod(self, name: str, spec: JSON, **meta: Any) -> JSON:
        spec.setdefault("terminationGracePeriodSeconds", 1)
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            container.setdefault("image", BUSYBOX)
        return {
            "metadata": {"name": name, "namespace": "default", "uid": str(uuid.uuid4()), "generation": 1}
            | meta,
            "spec": spec,
            "status": {"phase": "Pending"},
        }

    def run(self, pod: JSON) -> PodWorker:
        worker = PodWorker(self.shared, pod, self._finished)
        self.workers[pod["metadata"]["uid"]] = worker
        worker.spawn()
        return worker

    def _finished(self, uid: str) -> None:
        self.workers.pop(uid, None)

    def delete(self, worker: PodWorker, grace: int = 1) -> None:
        meta = worker.pod["metadata"] | {
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": grace,
        }
        worker.update(worker.pod | {"metadata": meta})

    async def close(self) -> None:
        for worker in list(self.workers.values()):
            self.delete(worker, 0)
        # Every container is given two seconds at the end, which a test that is over need not wait for.
        running = [c.id for c in await self.runtime.list_containers() if c.state == "running"]
        await asyncio.gather(*(self.runtime.stop_container(c, 0) for c in running), return_exceptions=True)
        async with asyncio.timeout(30):
            while self.workers:  # noqa: ASYNC110 - a poll is all a test needs
                await asyncio.sleep(0.05)
        if self._listener is not None:
            self._listener.cancel()
        await self.shared.checks.close()  # type: ignore[attr-defined]
        await self.runtime.close()


@pytest.fixture
async def node(containerd: PrivateContainerd, tmp_path: Path) -> AsyncIterator[Node]:
    group = f"/bamikube-test-{uuid.uuid4().hex[:8]}"
    node = Node(containerd, tmp_path, group)
    await node.listen()
    try:
        yield node
    finally:
        await node.close()
        remove_groups(group)


def remove_groups(group: str) -> None:
    """Take away the cgroups of a node that has been closed."""
    for pattern in ("kubepods/*/", "kubepods/", ""):
        for path in Path("/sys/fs/cgroup").glob(f"*{group}/{pattern}"):
            if not path.is_symlink():
                path.rmdir()


Until = Callable[[Callable[[], object]], Awaitable[None]]


@pytest.fixture
def until() -> Until:
    """Wait for a condition, at most half a minute."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - conditions are plain functions
                await asyncio.sleep(0.02)

    return wait

"""What a pod's worker stands on, without a machine: a runtime, a host, checks and a cluster, all in memory.

The worker above them is the real one. Times are the event loop's, so a test on virtual time is done at once. A test
says what happens by hand: ``runtime.exit`` ends a container, ``runtime.broken`` and ``checks.answers`` hold what fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bamikube.kit.clock import LoopClock
from bamikube.kit.world import World
from bamikube.nodeagent.container.spec import NodeFacts
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.gate import Gate
from bamikube.nodeagent.pod.kernel import Kernel
from bamikube.nodeagent.pod.status import HostFacts
from bamikube.nodeagent.pod.worker import PodWorker
from bamikube.nodeagent.probing.checks import Result
from bamikube.nodeagent.runtime.port import (
    Container,
    ContainerSpec,
    ContainerState,
    Handler,
    Health,
    IdMap,
    Image,
    Resources,
    RuntimeEvent,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
)
from bamikube.nodeagent.users.ranges import Ranges
from bamikube.nodeagent.volumes.plugin import Made

JSON = dict[str, Any]


class HollowRuntime:
    """Sandboxes and containers that are only records. ``stubborn`` names containers that end by force only."""

    def __init__(self, clock: LoopClock) -> None:
        self._clock = clock
        self.sandboxes: dict[str, Sandbox] = {}
        self.containers: dict[str, Container] = {}
        self.specs: dict[str, ContainerSpec] = {}
        self.broken: dict[str, RuntimeFailure] = {}  # by call
        self.stubborn: set[str] = set()
        self.pull: Callable[[str], Awaitable[None]] | None = None
        self.missing: set[str] = set()  # images
        self.handlers: tuple[Handler, ...] = ()
        self.stops: list[tuple[str, float, float]] = []  # container name, grace, when
        self.updates: list[tuple[str, Resources]] = []
        self.told_sandboxes: dict[str, tuple[Resources, Resources]] = {}
        self.listeners: list[asyncio.Queue[RuntimeEvent]] = []
        self._number = 0
        self._changed = asyncio.Event()

    def _new(self, kind: str) -> str:
        self._number += 1
        return f"{kind}{self._number}"

    async def _call(self, name: str) -> None:
        await asyncio.sleep(0.001)
        if name in self.broken:
            raise self.broken[name]

    def set(self, identity: str, state: ContainerState, **what: Any) -> None:
        self.containers[identity] = replace(self.containers[identity], state=state, **what)
        self._changed.set()
        self._changed = asyncio.Event()
        if state == "exited":
            for queue in self.listeners:
                queue.put_nowait(RuntimeEvent("exited", identity))

    def exit(self, name: str, code: int = 0, reason: str = "") -> None:
        """The newest container of that name ends by itself."""
        found = [c for c in self.containers.values() if c.name == name and c.state == "running"]
        newest = max(found, key=lambda c: c.attempt)
        self.set(newest.id, "exited", exit_code=code, reason=reason, finished_at=self._clock.now())

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        queue: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self.listeners.append(queue)
        while True:
            yield await queue.get()

    async def health(self) -> Health:
        return Health(handlers=self.handlers)

    async def list_sandboxes(self, uid: str = "") -> list[Sandbox]:
        await self._call("list")
        return [replace(s, ips=()) for s in self.sandboxes.values() if not uid or s.uid == uid]

    async def sandbox_status(self, sandbox_id: str) -> Sandbox:
        return self.sandboxes[sandbox_id]

    async def run_sandbox(self, spec: SandboxSpec) -> str:
        await self._call("run_sandbox")
        identity = self._new("s")
        address = (f"10.244.1.{self._number}",)
        self.sandboxes[identity] = Sandbox(
            identity, spec.name, spec.namespace, spec.uid, spec.attempt, True, self._clock.now(), ips=address
        )
        return identity

    async def stop_sandbox(self, sandbox_id: str) -> None:
        await self._call("stop_sandbox")
        self.sandboxes[sandbox_id] = replace(self.sandboxes[sandbox_id], ready=False)
        for container in list(self.containers.values()):
            if container.sandbox_id == sandbox_id and container.state == "running":
                self.set(container.id, "exited", exit_code=137, finished_at=self._clock.now())

    async def remove_sandbox(self, sandbox_id: str) -> None:
        self.sandboxes.pop(sandbox_id, None)
        for container in list(self.containers.values()):
            if container.sandbox_id == sandbox_id:
                self.containers.pop(container.id)

    async def list_containers(self, uid: str = "") -> list[Container]:
        await self._call("list")
        mine = {s.id for s in self.sandboxes.values() if not uid or s.uid == uid}
        return [c for c in self.containers.values() if c.sandbox_id in mine]

    async def container_status(self, container_id: str) -> Container:
        if container_id not in self.containers:
            raise RuntimeFailure("NOT_FOUND", f"container {container_id} not found")
        return self.containers[container_id]

    async def create_container(self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec) -> str:
        await self._call("create_container")
        identity = self._new("c")
        self.specs[identity] = spec
        self.containers[identity] = Container(
            identity,
            sandbox_id,
            spec.name,
            spec.attempt,
            "created",
            self._clock.now(),
            image=spec.image,
            annotations=spec.annotations,
        )
        return identity

    async def release_trees(self, owner: str) -> None:
        """There are none: nothing hollow shows an image's contents."""

    async def start_container(self, container_id: str) -> None:
        try:
            await self._call("start_container")
        except RuntimeFailure as failure:
            now = self._clock.now()
            what = {"exit_code": 128, "reason": "StartError", "message": failure.message}
            self.set(container_id, "exited", finished_at=now, **what)
            raise
        self.set(container_id, "running", started_at=self._clock.now())

    async def stop_container(self, container_id: str, grace: float) -> None:
        container = self.containers[container_id]
        self.stops.append((container.name, grace, self._clock.now()))
        if container.name in self.stubborn:
            await asyncio.sleep(grace)
        await asyncio.sleep(0.01)
        if self.containers[container_id].state != "exited":
            code = 137 if container.name in self.stubborn else 143
            self.set(container_id, "exited", exit_code=code, finished_at=self._clock.now())

    async def update_sandbox(self, sandbox_id: str, resources: Resources, overhead: Resources) -> None:
        await self._call("update_sandbox")
        self.told_sandboxes[sandbox_id] = (resources, overhead)

    async def update_container(self, container_id: str, resources: Resources) -> None:
        await self._call("update_container")
        self.updates.append((self.containers[container_id].name, resources))

    async def remove_container(self, container_id: str) -> None:
        self.containers.pop(container_id, None)

    async def image(self, name: str) -> Image | None:
        await self._call("image")
        return None if name in self.missing else Image(f"sha256:{name}", (name,), size=1)

    async def pull_image(self, name: str, credentials: Any = None) -> str:
        if self.pull is not None:
            await self.pull(name)
        await self._call("pull_image")
        self.missing.discard(name)
        return f"sha256:{name}"


class HollowHost:
    """A machine with nothing on it. ``stuck`` names volumes whose set-up never ends."""

    def __init__(self) -> None:
        self.stuck: set[str] = set()
        self.used: dict[str, int] = {}  # bytes of memory, by container id, "" for the pod
        self.cleaned: list[str] = []
        self.prepared: set[str] = set()
        self.ranges = Ranges()
        self.logs: dict[tuple[str, str], int] = {}  # by uid and container: the highest attempt that has a log

    def cgroup_parent(self, pod: JSON) -> str:
        return "/kubepods"

    def log_directory(self, pod: JSON) -> str:
        return "/var/log/pods"

    async def prepare(self, pod: JSON) -> None:
        self.prepared.add(pod["metadata"]["uid"])

    def known_pods(self) -> set[str]:
        return set(self.prepared)

    async def users(self, pod: JSON) -> IdMap:
        return self.ranges.take(pod["metadata"]["uid"])

    async def set_up(self, pod: JSON, volume: JSON, given: Any, version: str) -> Made:
        if volume["name"] in self.stuck:
            await asyncio.Event().wait()
        return Made(Path("/"))

    async def mounts(self, *_: Any) -> tuple[()]:
        return ()

    def devices(self, *_: Any) -> tuple[()]:
        return ()

    def memory_used(self, pod: JSON, container_id: str = "") -> int:
        return self.used.get(container_id, 0)

    def node_hosts(self) -> str:
        return ""

    def termination_message(self, *_: Any) -> str:
        return ""

    def link_log(self, *_: Any) -> None: ...

    def logged(self, pod: JSON) -> dict[str, int]:
        return {name: attempt for (uid, name), attempt in self.logs.items() if uid == pod["metadata"]["uid"]}

    def remove_log(self, *_: Any) -> None: ...

    async def cleanup(self, uid: str) -> None:
        self.cleaned.append(uid)
        self.ranges.release(uid)

    def remove_logs(self, uid: str) -> None:
        self.prepared.discard(uid)
        self.logs = {key: attempt for key, attempt in self.logs.items() if key[0] != uid}


class HollowChecks:
    """Answers by script: ``answers`` holds by container name and action what is answered; else success."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[], Awaitable[Result]] | Result] = {}
        self.asked: list[tuple[str, str]] = []

    async def probe(
        self, handler: JSON, spec: JSON, container_id: str, address: str, timeout: float
    ) -> Result:
        return await self._answer("probe", spec)

    async def hook(
        self, handler: JSON, spec: JSON, container_id: str, address: str, timeout: float
    ) -> Result:
        return await self._answer("hook", spec)

    async def _answer(self, kind: str, spec: JSON) -> Result:
        self.asked.append((kind, spec["name"]))
        answer = self.answers.get(f"{kind}/{spec['name']}", Result("success"))
        return answer if isinstance(answer, Result) else await answer()


def merged(status: JSON, patch: JSON) -> JSON:
    """What a strategic merge patch makes of a status: conditions by type, addresses by ip, the rest replaced."""
    result = dict(status)
    for field, value in patch.items():
        key = {"conditions": "type", "podIPs": "ip", "hostIPs": "ip"}.get(field)
        if value is None:
            result.pop(field, None)
        elif key is None:
            result[field] = value
        else:
            old = {item[key]: item for item in status.get(field) or ()}
            for item in value:
                if item.get("$patch") == "delete":
                    old.pop(item[key], None)
                else:
                    both = old.get(item[key], {}) | item
                    old[item[key]] = {k: v for k, v in both.items() if v is not None}
            result[field] = list(old.values())
    return result


class HollowApi:
    """A cluster that takes down what it is told."""

    def __init__(self) -> None:
        self.status: dict[str, JSON] = {}
        self.version = 0
        self.fails: list[Exception] = []  # what the next writes end with
        self.patches: list[JSON] = []
        self.events: list[tuple[str, str, str]] = []  # type, reason, message
        self.deleted: list[str] = []

    async def config_map(self, namespace: str, name: str) -> JSON | None:
        return None

    async def secret(self, namespace: str, name: str) -> JSON | None:
        return None

    async def trust_bundles(self) -> list[JSON] | None:
        return []

    async def find(self, resource: str, namespace: str, name: str) -> JSON | None:
        return None

    async def token(self, pod: JSON, audience: str, seconds: int) -> tuple[str, float]:
        return "token", 4e9

    def services(self, namespace: str) -> list[JSON]:
        return []

    async def write_status(self, pod: JSON, patch: JSON) -> JSON:
        await asyncio.sleep(0.001)
        if self.fails:
            raise self.fails.pop(0)
        self.patches.append(patch)
        name = pod["metadata"]["name"]
        self.version += 1
        self.status[name] = merged(self.status.get(name, {}), patch)
        return self.pod(pod)

    def pod(self, pod: JSON) -> JSON:
        """The pod as it stands in this cluster."""
        meta = pod["metadata"] | {"resourceVersion": str(self.version)}
        return pod | {"metadata": meta, "status": self.status[meta["name"]]}

    async def delete(self, pod: JSON) -> None:
        self.deleted.append(pod["metadata"]["name"])

    def event(
        self, pod: JSON, type: str, reason: str, message: str, container: str = "", annotations: Any = None
    ) -> None:
        self.events.append((type, reason, message))

    def said(self, reason: str) -> list[str]:
        return [message for _, why, message in self.events if why == reason]


class HollowNode:
    """A node of these parts, and the workers of its pods."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.runtime = HollowRuntime(self.clock)
        self.host, self.api, self.checks = HollowHost(), HollowApi(), HollowChecks()
        self.shared = Shared(
            world=World(clock=self.clock),
            runtime=self.runtime,  # type: ignore[arg-type]
            host=self.host,  # type: ignore[arg-type]
            api=self.api,  # type: ignore[arg-type]
            node=NodeFacts(name="node-1", kernel=Kernel(memory=2**33)),
            addresses=HostFacts(("192.0.2.1",)),
            checks=self.checks,
            allocatable=lambda: {"cpu": "2", "memory": "8Gi"},
        )
        self.workers: dict[str, PodWorker] = {}

    async def __aenter__(self) -> HollowNode:
        self._listener = asyncio.ensure_future(self._listen())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.cancel()
        for worker in list(self.workers.values()):
            await worker.close()

    async def _listen(self) -> None:
        async for event in self.runtime.events():
            for worker in list(self.workers.values()):
                worker.exited(event.id)

    def run(self, name: str, **spec: Any) -> PodWorker:
        spec.setdefault("terminationGracePeriodSeconds", 30)
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            container.setdefault("image", "busybox:1")
        meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "generation": 1}
        worker = PodWorker(self.shared, {"metadata": meta, "spec": spec, "status": {}}, self.workers.pop)
        self.workers[f"uid-{name}"] = worker
        worker.spawn()
        return worker

    def delete(self, worker: PodWorker, grace: int = 30) -> None:
        meta = worker.pod["metadata"] | {
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": grace,
        }
        worker.update(worker.pod | {"metadata": meta})

    async def until(self, condition: Callable[[], object], within: float = 60.0) -> float:
        """Wait until ``condition`` holds; how long that took, in the loop's seconds."""
        begun = self.clock.monotonic()
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110 - a poll is all a test needs
                await asyncio.sleep(0.005)
        return self.clock.monotonic() - begun


def item(worker: PodWorker, index: int = 0, field: str = "containerStatuses") -> JSON:
    """One container's status; empty before there is one."""
    found = worker.status.get(field) or []
    return dict(found[index]) if len(found) > index else {}


def waiting(worker: PodWorker) -> str:
    """Why the first container waits."""
    return str(((item(worker).get("state") or {}).get("waiting") or {}).get("reason", ""))


def running(worker: PodWorker) -> bool:
    return "running" in (item(worker).get("state") or {})


def gate(max_pods: int = 110, name: str = "node-1", **more: Any) -> Gate:
    """The gate of a node with two cores and eight GiB, and the name and number of pods given."""
    amounts = {"cpu": "2", "memory": "8Gi", "ephemeral-storage": "10Gi", "pods": str(max_pods)}
    node: JSON = {"metadata": {"name": name}, "status": {"allocatable": amounts}}

    async def fresh() -> JSON:
        return node

    return Gate(lambda: node, fresh, **more)

"""A hollow machine: a runtime, a disk and manifests that outlive the node agents above them.

Containers do what their ``args`` say: ``run`` for ever, ``exit SECONDS CODE``, ``stubborn`` (ends by force only). The runtime may
restart, hang, lose answers of calls that took effect, and forget; the machine may reboot. Every transition is told to
``witness``, which knows what must never happen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any, Literal, Protocol

from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.nodeagent import labels
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.node import facts
from bamikube.nodeagent.probing.checks import Result
from bamikube.nodeagent.runtime.port import (
    Condition,
    Container,
    ContainerSpec,
    Handler,
    Health,
    IdMap,
    Image,
    RuntimeEvent,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
)
from bamikube.nodeagent.users.ranges import UNIT, NoRange, Ranges
from bamikube.nodeagent.volumes.plugin import Made
from tests.simulation.fuse import Fuse
from tests.support.hollow_pods import HollowChecks, HollowHost, HollowRuntime

JSON = dict[str, Any]
SOME_USERS = 4  # pods that have their own, at most
DEADLINE = 120.0  # seconds after which a client gives up a call
READS = frozenset(
    (
        "list_sandboxes",
        "list_containers",
        "sandbox_status",
        "container_status",
        "image",
        "health",
        "version",
        "list_images",
    )
)
UNKNOWN_EXIT = 255  # what containerd says of a container that ended while nobody looked


class Witness(Protocol):
    """Told of what the runtime does, before it is done."""

    def lends(self, uid: str, users: IdMap | None) -> None: ...

    def makes(self, uid: str, name: str) -> None: ...

    def starts(self, container: Container) -> None: ...

    def stops(self, container: Container) -> None: ...

    def cleans(self, uid: str) -> None: ...

    def forgets(self, uid: str) -> None: ...


class NoWitness:
    """Nobody looks."""

    def lends(self, uid: str, users: IdMap | None) -> None: ...

    def makes(self, uid: str, name: str) -> None: ...

    def starts(self, container: Container) -> None: ...

    def stops(self, container: Container) -> None: ...

    def cleans(self, uid: str) -> None: ...

    def forgets(self, uid: str) -> None: ...


class MachineRuntime(HollowRuntime):
    """The runtime itself; times are taken from the dice."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.world.clock)  # type: ignore[arg-type]
        self._machine = machine
        self._chance = machine.world.chance
        self._reserved: set[tuple[str, int]] = set()  # sandboxes in the making

    async def _call(self, name: str) -> None:
        await self._clock.sleep(self._chance.uniform(0.001, 0.01))

    async def health(self) -> Health:
        able = (Handler("", user_namespaces=True),)
        return Health((Condition("RuntimeReady", True), Condition("NetworkReady", True)), able)

    async def version(self) -> str:
        return "containerd://1.6.20"

    async def list_images(self) -> list[Image]:
        return []

    async def sandbox_status(self, sandbox_id: str) -> Sandbox:
        if sandbox_id not in self.sandboxes:
            raise RuntimeFailure("NOT_FOUND", f"sandbox {sandbox_id} not found")
        return self.sandboxes[sandbox_id]

    async def run_sandbox(self, spec: SandboxSpec) -> str:
        key = (spec.uid, spec.attempt)
        if key in self._reserved or any((s.uid, s.attempt) == key for s in self.sandboxes.values()):
            raise RuntimeFailure("UNKNOWN", f"failed to reserve sandbox name {spec.name}: name is reserved")
        self._reserved.add(key)
        try:
            await self._clock.sleep(self._chance.uniform(0.05, 0.6))
            self._machine.witness.lends(spec.uid, spec.namespaces.users)
            identity, self._number = f"s{self._number + 1}", self._number + 1
            address = f"10.{244 + self._number // 62500}.{self._machine.number * 8 + self._number // 250}.{self._number % 250 + 1}"
            self.sandboxes[identity] = Sandbox(
                identity,
                spec.name,
                spec.namespace,
                spec.uid,
                spec.attempt,
                True,
                self._clock.now(),
                ips=(address,),
            )
            return identity
        finally:
            self._reserved.discard(key)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        await self._call("stop_sandbox")
        if sandbox_id in self.sandboxes:
            for container in self._within(sandbox_id):
                if container.state == "running":
                    self._machine.witness.stops(container)
            await super().stop_sandbox(sandbox_id)

    def _within(self, sandbox_id: str) -> list[Container]:
        return [c for c in self.containers.values() if c.sandbox_id == sandbox_id]

    async def list_containers(self, uid: str = "") -> list[Container]:
        await self._call("list")
        return [c for c in self.containers.values() if not uid or c.labels[labels.POD_UID] == uid]

    async def create_container(self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec) -> str:
        if sandbox_id not in self.sandboxes:
            raise RuntimeFailure("NOT_FOUND", f"sandbox {sandbox_id} not found")
        for other in self.containers.values():
            if (other.labels[labels.POD_UID], other.name, other.attempt) == (
                sandbox.uid, spec.name, spec.attempt,
            ):  # fmt: skip
                raise RuntimeFailure(
                    "UNKNOWN", f"failed to reserve container name {spec.name}: name is reserved"
                )
        identity = await super().create_container(sandbox_id, spec, sandbox)
        self._machine.witness.makes(sandbox.uid, spec.name)
        self._machine.witness.lends(sandbox.uid, spec.namespaces.users)
        self.containers[identity] = replace(self.containers[identity], labels=spec.labels)
        return identity

    async def start_container(self, container_id: str) -> None:
        await self._call("start_container")
        found = self.containers.get(container_id)
        if found is None or found.state != "created" or not self.sandboxes[found.sandbox_id].ready:
            raise RuntimeFailure("UNKNOWN", f"container {container_id} cannot be started")
        self._machine.witness.starts(found)
        self.set(container_id, "running", started_at=self._clock.now())
        self._machine.host.logs[found.labels[labels.POD_UID], found.name] = found.attempt
        match self.specs[container_id].args:
            case ("exit", seconds, code):
                self._machine.tasks.spawn(self._end(container_id, float(seconds), int(code)), "life")

    async def _end(self, container_id: str, seconds: float, code: int) -> None:
        await self._clock.sleep(seconds)
        self.end(container_id, code)

    def end(self, container_id: str, code: int, reason: str = "") -> None:
        """A container ends by itself."""
        if container_id in self.containers and self.containers[container_id].state == "running":
            self.set(container_id, "exited", exit_code=code, reason=reason, finished_at=self._clock.now())

    def fail_sandbox(self, sandbox_id: str) -> None:
        """Its own process ends."""
        if sandbox_id in self.sandboxes:
            self.sandboxes[sandbox_id] = replace(self.sandboxes[sandbox_id], ready=False)
            for queue in self.listeners:
                queue.put_nowait(RuntimeEvent("exited", sandbox_id))

    async def stop_container(self, container_id: str, grace: float) -> None:
        found = self.containers.get(container_id)
        if found is None:
            raise RuntimeFailure("NOT_FOUND", f"container {container_id} not found")
        if found.state != "running":
            return
        self._machine.witness.stops(found)
        stubborn = "stubborn" in self.specs[container_id].args
        await self._clock.sleep(grace if stubborn else min(grace, self._chance.uniform(0.01, 1.0)))
        self.end(container_id, 137 if stubborn else 143)

    async def remove_container(self, container_id: str) -> None:
        await self._call("remove")
        if container_id in self.containers and self.containers[container_id].state == "running":
            raise RuntimeFailure("UNKNOWN", f"container {container_id} is running")
        await super().remove_container(container_id)

    async def pull_image(self, name: str, credentials: Any = None) -> str:
        await self._clock.sleep(self._chance.uniform(0.2, 8.0))
        if self._chance.random() < 0.2:
            raise RuntimeFailure("UNKNOWN", f"failed to pull {name}")
        self.missing.discard(name)
        return f"sha256:{name}"

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        queue: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self.listeners.append(queue)
        try:
            while (event := await queue.get()).id:
                yield event
            raise RuntimeFailure("UNAVAILABLE", "the event stream broke")
        finally:
            self.listeners.remove(queue)

    def break_events(self) -> None:
        for queue in self.listeners:
            queue.put_nowait(RuntimeEvent("exited", ""))


class MachineHost(HollowHost):
    """The disk: which pods have folders, which volumes are made, and who has which users. Those there are do for few pods."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine
        self.volumes: set[tuple[str, str]] = set()
        self.written: dict[str, IdMap] = {}  # the users of pods, by uid

    def recall(self) -> None:
        """A node agent begins, and reads what was written."""
        self.ranges = Ranges(UNIT, SOME_USERS * UNIT)
        for uid, users in self.written.items():
            self.ranges.record(uid, users)

    async def users(self, pod: JSON) -> IdMap:
        uid, world = pod["metadata"]["uid"], self._machine.world
        try:
            found = self.ranges.take(uid)
        except NoRange as error:
            raise HostFailure(f"create user namespace: {error}") from error
        await world.clock.sleep(world.chance.uniform(0.0, 0.02))
        self.written[uid] = found
        return found

    async def set_up(self, pod: JSON, volume: JSON, given: Any, version: str) -> Made:
        world = self._machine.world
        await world.clock.sleep(world.chance.uniform(0.001, 0.3))
        self.volumes.add((pod["metadata"]["uid"], volume["name"]))
        return await super().set_up(pod, volume, given, version)

    async def cleanup(self, uid: str) -> None:
        world = self._machine.world
        await world.clock.sleep(world.chance.uniform(0.001, 0.3))
        self._machine.witness.cleans(uid)
        self.volumes = {(owner, name) for owner, name in self.volumes if owner != uid}
        self.written.pop(uid, None)
        self.ranges.release(uid)

    def remove_logs(self, uid: str) -> None:
        self._machine.witness.forgets(uid)
        super().remove_logs(uid)


class MachineChecks(HollowChecks):
    """Probes see whether a container is sick; hooks take their time, and some fail."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    async def probe(
        self, handler: JSON, spec: JSON, container_id: str, address: str, timeout: float
    ) -> Result:
        return Result("failure", "sick") if container_id in self._machine.sick else Result("success")

    async def hook(
        self, handler: JSON, spec: JSON, container_id: str, address: str, timeout: float
    ) -> Result:
        world = self._machine.world
        await world.clock.sleep(min(timeout, world.chance.uniform(0.0, 3.0)))
        return Result("failure", "no") if world.chance.random() < 0.05 else Result("success")


class Machine:
    """What is left when a node agent dies."""

    def __init__(self, name: str, number: int, world: World) -> None:
        self.name, self.number, self.world = name, number, world
        self.tasks = Tasks(f"machine/{name}")
        self.witness: Witness = NoWitness()
        self.runtime, self.host, self.checks = MachineRuntime(self), MachineHost(self), MachineChecks(self)
        self.manifests: dict[str, str] = {}  # by path
        self.sick: set[str] = set()  # ids of containers whose probes fail
        self.loss = 0.0  # the chance that the answer of a call to the runtime is lost
        self.boots = 1
        self.mood: Literal["up", "down", "hung"] = "up"  # the runtime's
        self.turned = asyncio.Event()  # set, and made anew, with each turn of the mood
        self._working: dict[asyncio.Task[Any], None] = {}

    def facts(self) -> facts.Machine:
        return facts.Machine(
            8, 16 << 30, 100 << 30, "amd64", "6.1.0", "Debian", self.name, self.name, f"boot-{self.boots}"
        )

    def _turn(self, mood: Literal["up", "down", "hung"]) -> None:
        self.mood = mood
        self.turned.set()
        self.turned = asyncio.Event()

    async def hang(self, seconds: float) -> None:
        """The runtime answers nobody."""
        self._turn("hung")
        await self.world.clock.sleep(seconds)
        self._turn("up")

    async def restart_runtime(self, seconds: float) -> None:
        """What the runtime was doing is not done; containers live on."""
        self._turn("down")
        self._drop_work()
        await self.world.clock.sleep(seconds)
        self._turn("up")

    def _drop_work(self) -> None:
        for task in self._working:
            task.cancel()
        self.runtime.break_events()

    def reboot(self, lost: bool) -> None:
        """Everything that ran has ended; the runtime has forgotten it (``lost``) or knows that much."""
        self._drop_work()
        runtime, now = self.runtime, self.world.clock.now()
        for container in list(runtime.containers.values()):
            runtime.end(container.id, UNKNOWN_EXIT, "Unknown")
        runtime.sandboxes = {s.id: replace(s, ready=False) for s in runtime.sandboxes.values() if not lost}
        if lost:
            runtime.containers.clear()
        self.host.volumes.clear()
        self.sick.clear()
        self.boots += 1
        self.booted = now

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Let the runtime work, whoever asked for it goes away or not."""
        task = self.tasks.spawn(_told(work), "work")
        self._working[task] = None
        task.add_done_callback(lambda done: self._working.pop(done, None))
        return task

    async def close(self) -> None:
        await self.tasks.close()


async def _told(work: Coroutine[Any, Any, Any]) -> tuple[Any, RuntimeFailure | None]:
    """What came of it: whoever asked may be there no more, and then nobody is to wonder about a failure."""
    try:
        return await work, None
    except RuntimeFailure as failure:
        return None, failure


class Wire:
    """One agent's way to the runtime of its machine."""

    def __init__(self, machine: Machine, fuse: Fuse) -> None:
        self._machine, self._fuse = machine, fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._machine.runtime, name)

        async def call(*given: Any, **named: Any) -> Any:
            longer = float(given[1]) if name == "stop_container" else 0.0
            return await self._carry(name, lambda: found(*given, **named), DEADLINE + longer)

        return call

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        await self._reach()
        async for event in self._machine.runtime.events():
            await self._reach()
            self._fuse.check()
            yield event

    async def _reach(self) -> None:
        while self._machine.mood == "hung":
            await self._machine.turned.wait()
        if self._machine.mood == "down":
            raise RuntimeFailure("UNAVAILABLE", "connection refused")

    async def _carry(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]], limit: float) -> Any:
        machine, chance = self._machine, self._machine.world.chance
        reads = name in READS
        last = not reads and self._fuse.enter(f"runtime.{name}")
        self._fuse.check()
        try:
            async with asyncio.timeout(limit):
                await self._reach()
                task = machine.begin(work())
                try:
                    answer, failure = await asyncio.shield(task)
                except asyncio.CancelledError:
                    if task.cancelled():
                        raise RuntimeFailure("UNAVAILABLE", "the runtime went away") from None
                    if chance.random() < 0.6:
                        task.cancel()
                    raise
                await self._reach()
        except TimeoutError:
            raise RuntimeFailure("DEADLINE_EXCEEDED", "Deadline Exceeded") from None
        self._fuse.leave(f"runtime.{name}", last)
        if chance.random() < machine.loss:
            raise RuntimeFailure("UNAVAILABLE", "the answer was lost")
        if failure is not None:
            raise failure
        return answer

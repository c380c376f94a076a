"""Starting things: a pod's volumes, its sandbox, one container.

The thin executor of the plan's start actions. Every failure becomes a :class:`Trouble` in the worker's memory (what,
and when to try again) and an event in Kubernetes' words; the next plan reads it from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from bamikube.api.errors import ApiError
from bamikube.nodeagent import figures
from bamikube.nodeagent.container import dns, security
from bamikube.nodeagent.container.env import ConfigError, Sources, environment, references
from bamikube.nodeagent.container.spec import container_spec, sandbox_spec
from bamikube.nodeagent.host.port import CgroupFailure, HostFailure
from bamikube.nodeagent.host.subpaths import NoSuchFolder
from bamikube.nodeagent.images.present import Images
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.decision import Action
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.placing import placed
from bamikube.nodeagent.pod.state import SETTLE, Memory, RuntimeState, Trouble
from bamikube.nodeagent.runtime.port import ContainerSpec, IdMap, Image, RuntimeFailure, Sandbox, SandboxSpec
from bamikube.nodeagent.volumes.faults import plain
from bamikube.nodeagent.volumes.image import mounted_by, pull_of
from bamikube.nodeagent.volumes.keeper import PodVolumes

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY = 10.0  # seconds until a container that could not be configured is tried again
MOUNT_RETRY = (0.5, 32.0)  # seconds: first and longest wait after a failed mount or sandbox


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Await work that must not be cut off: a cancellation is felt only when the work is done."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # a failure, too, has been seen: nobody asks for it any more
        raise


def _beside_target(spec: JSON, config: ContainerSpec, state: RuntimeState) -> ContainerSpec:
    """``config`` in the process namespace of the container an ephemeral one is to look at. Raises ConfigError."""
    target = spec.get("targetContainerName")
    if not target:
        return config
    found = state.latest(target)
    if found is None:
        raise ConfigError(f"unable to find target container {target}")
    return replace(config, namespaces=replace(config.namespaces, pid="target", target=found.id))


class Starter:
    """Starts the parts of one pod."""

    def __init__(self, shared: Shared, memory: Memory, pulled: Callable[[float], None]) -> None:
        self._shared = shared
        self._memory = memory
        self._images = Images(shared, memory, pulled)
        self._volumes = PodVolumes(shared)

    def _event(self, pod: JSON, kind: str, reason: str, message: str, container: str = "") -> None:
        self._shared.api.event(pod, kind, reason, message, container)

    def _now(self) -> float:
        return self._shared.world.clock.now()

    # -- volumes -----------------------------------------------------------------------------------------------

    async def mount(self, pod: JSON, ips: tuple[str, ...]) -> bool:
        """Make all volumes. False (and ``memory.blocked``) when one cannot be made yet."""
        try:
            await self._shared.host.prepare(pod)
            faults = await self._volumes.set_up(pod, ips)
        except CgroupFailure as error:
            text = f"unable to ensure pod container exists: {error}"
            self._event(pod, "Warning", "FailedCreatePodContainer", text)
            self._block("FailedCreatePodContainer", text)
            return False
        except (HostFailure, OSError) as error:
            faults = [plain(error)]
        for text in faults:
            self._event(pod, "Warning", "FailedMount", text)
        if faults:
            self._block("FailedMount", faults[0])
            return False
        self._memory.volumes_ready = True
        self._memory.blocked = None
        return True

    async def refresh(self, pod: JSON, ips: tuple[str, ...]) -> None:
        """Bring written volumes up to date; a failure leaves them as they are and says so."""
        for text in await self._volumes.refresh(pod, ips):
            self._event(pod, "Warning", "FailedMount", text)

    def _block(self, reason: str, message: str) -> None:
        before = self._memory.blocked
        period = (
            min(before.period * 2, MOUNT_RETRY[1]) if before is not None and before.period else MOUNT_RETRY[0]
        )
        self._memory.blocked = Trouble(reason, message, self._now() + period, period=period)

    # -- the sandbox -------------------------------------------------------------------------------------------

    async def _users(self, pod: JSON) -> IdMap | None:
        """The pod's users, if it has its own. Raises HostFailure."""
        return await self._shared.host.users(pod) if security.own_users(pod) else None

    def sandbox_spec(
        self, pod: JSON, attempt: int, handler: str = "", users: IdMap | None = None
    ) -> SandboxSpec:
        host = self._shared.host
        return sandbox_spec(
            pod,
            attempt,
            self._shared.node,
            cgroup_parent=host.cgroup_parent(pod),
            log_directory=host.log_directory(pod),
            runtime_handler=handler,
            users=users,
        )

    async def _handler(self, pod: JSON) -> str:
        """How the runtime calls what the pod's RuntimeClass stands for. Raises ConfigError, ApiError and OSError."""
        name = pod["spec"].get("runtimeClassName")
        if not name:
            return ""
        found = await self._shared.api.find("runtimeclasses.node.k8s.io", "", name)
        if found is None:
            raise ConfigError(f'runtimeclass.node.k8s.io "{name}" not found')
        return str(found["handler"])

    async def create_sandbox(self, pod: JSON, action: Action) -> bool:
        if action.reason == "SandboxChanged":
            self._event(pod, "Normal", "SandboxChanged", action.message)
        node = self._shared.node
        lacking = dns.warnings(pod, node=node.resolver, cluster_dns=node.cluster_dns, domain=node.domain)
        for reason, text in lacking:
            self._event(pod, "Warning", reason, text)
        begun, spec, own_users = self._now(), None, security.own_users(pod)
        if own_users:
            figures.STARTED_OWN_USERS.inc()
        try:
            handler = await self._handler(pod)
            if own_users:
                told = (await self._shared.runtime.health()).handlers
                security.check_user_namespace(handler, told)
            spec = self.sandbox_spec(pod, action.attempt, handler, await self._users(pod))
            async with self._shared.slots.one():
                # To the end: a cancelled RunPodSandbox would leave half a network behind.
                await _to_the_end(self._shared.runtime.run_sandbox(spec))
        except (RuntimeFailure, ConfigError, HostFailure, ApiError, OSError) as failure:
            figures.SANDBOX_ERRORS.labels(spec.runtime_handler if spec else "").inc()
            figures.STARTED_PODS_ERRORS.labels("failed to create pod sandbox").inc()
            if own_users:
                figures.STARTED_OWN_USERS_ERRORS.inc()
            text = failure.in_go() if isinstance(failure, RuntimeFailure) else str(failure)
            message = f"Failed to create pod sandbox: {text}"
            self._block("FailedCreatePodSandBox", message)
            self._event(pod, "Warning", "FailedCreatePodSandBox", message)
            return False
        figures.SANDBOX_SECONDS.labels(spec.runtime_handler).observe(max(0.0, self._now() - begun))
        figures.STARTED_PODS.inc()
        self._memory.blocked = None
        return True

    # -- a container -------------------------------------------------------------------------------------------

    async def start(self, pod: JSON, action: Action, sandbox: Sandbox, state: RuntimeState) -> str | None:
        """Start one container; its id when it runs. On failure the memory holds the trouble."""
        spec = facts.container(pod, action.name)
        if spec is None:
            return None
        image = await self._images.ensure(pod, spec)
        if image is None:
            return None
        trees: list[tuple[JSON, str]] = []
        for volume in mounted_by(pod, spec):
            shown = await self._images.ensure(pod, pull_of(spec, volume))
            if shown is None:
                return None
            trees.append((volume, shown.id))
        name, memory, now = spec["name"], self._memory, self._now()
        ips = self._shared.addresses.ips if facts.host_network(pod) else sandbox.ips
        try:
            for volume, shown_id in trees:
                await self._volumes.show_image(pod, volume, shown_id)
            known = await self._shared.sources(pod, references(spec), ips)
            config = await self._configure(pod, spec, action.attempt, image, known, ips)
            config = _beside_target(spec, config, state)
            config = await self._shared.devices.equip(pod, spec, config)
            place = self._shared.place(facts.uid(pod), name)
            config = replace(config, resources=placed(config.resources, place))
        except (ConfigError, HostFailure, ApiError, OSError, ValueError, RuntimeFailure) as error:
            made = isinstance(error, NoSuchFolder)  # the runtime's to find, so no fault of the configuration
            reason = "CreateContainerError" if made else "CreateContainerConfigError"
            figures.STARTED_CONTAINERS_ERRORS.labels(facts.kind_of(pod, name), reason).inc()
            memory.troubles[name] = Trouble(reason, plain(error), now + RETRY)
            self._event(pod, "Warning", "Failed", f"Error: {plain(error)}", name)
            return None
        if action.backoff is not None:
            memory.backoffs[name] = action.backoff
        container_id = ""
        async with self._shared.slots.one():
            try:
                container_id = await _to_the_end(
                    self._shared.runtime.create_container(
                        sandbox.id,
                        config,
                        self.sandbox_spec(pod, sandbox.attempt, users=config.namespaces.users),
                    )
                )
                self._event(pod, "Normal", "Created", f"Created container: {name}", name)
                memory.troubles.pop(name, None)
                memory.given[container_id] = dict(spec.get("resources") or {})
                if spec.get("lifecycle", {}).get("postStart"):
                    memory.hooking.add(container_id)
                await _to_the_end(self._shared.runtime.start_container(container_id))
            except RuntimeFailure as failure:
                memory.hooking.discard(container_id)
                word = "RunContainerError" if container_id else "CreateContainerError"
                figures.STARTED_CONTAINERS_ERRORS.labels(facts.kind_of(pod, name), word).inc()
                now = self._now()
                memory.troubles[name] = (
                    Trouble("RunContainerError", failure.message, now, settles=now + SETTLE)
                    if container_id
                    else Trouble("CreateContainerError", failure.message, now + RETRY)
                )
                self._event(pod, "Warning", "Failed", f"Error: {failure.message}", name)
                return None
        figures.STARTED_CONTAINERS.labels(facts.kind_of(pod, name)).inc()
        self._shared.host.link_log(pod, name, action.attempt, container_id)
        self._event(pod, "Normal", "Started", f"Started container {name}", name)
        return container_id

    async def _configure(
        self, pod: JSON, spec: JSON, attempt: int, image: Image, known: Sources, ips: tuple[str, ...]
    ) -> Any:
        if faults := await self._volumes.set_up(pod, ips):  # a container that came later may mount more
            raise HostFailure(faults[0])
        env = environment(pod, spec, known)
        node = self._shared.node
        hosts = dns.hosts_file(pod, ips, node.name, node.domain, self._shared.host.node_hosts())
        mounts = await self._shared.host.mounts(pod, spec, attempt, hosts, env)
        devices = self._shared.host.devices(pod, spec)
        made = container_spec(
            pod, spec, attempt, environment=env, mounts=mounts, devices=devices, image=image, image_ref=image.id, node=node,
            users=await self._users(pod),
        )  # fmt: skip
        groups = dict.fromkeys((*made.supplemental_groups, *self._volumes.groups(pod)))
        return replace(made, supplemental_groups=tuple(groups))

"""Keeps the Node object and its lease: register once, renew in time, write the status when it changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from bamikube.api.errors import ApiError
from bamikube.client.client import Client
from bamikube.kit.clock import rfc3339_micro
from bamikube.kit.world import World
from bamikube.nodeagent.node import facts, status
from bamikube.nodeagent.node.runtime_look import RuntimeLook
from bamikube.nodeagent.node.status import NodeConfig
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import Runtime

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
RENEW = 0.25  # of the lease's duration
LOOK_UNREADY = 1.0  # seconds while the node is not ready, or the runtime does not answer
GONE = 300.0  # seconds between two warnings that the API server knows no such node any more


class Registrar:
    """The node's own object. ``registered`` is set once the API has it.

    ``pressures``: the conditions that say what the node is short of; ``faults``: what keeps it from being ready, beside
    the runtime; ``devices`` are capacity and allocatable of what plugins offer; ``tell`` writes an event of the node;
    ``cordoned`` says whether the node is to take no more pods.
    """

    def __init__(
        self,
        client: Client,
        world: World,
        runtime: Runtime,
        config: NodeConfig,
        machine: facts.Machine,
        pressures: Callable[[], Collection[str]] = tuple,
        tell: Callable[[str, str, str], None] = lambda type, reason, message: None,
        faults: Callable[[], Sequence[str]] = tuple,
        devices: Callable[[], Mapping[str, tuple[int, int]]] = dict,
        cordoned: Callable[[], bool] = bool,
    ) -> None:
        self._client, self._world = client, world
        self._runtime = RuntimeLook(runtime, world, self.changed)
        self._config, self._machine, self._pressures, self._tell = config, machine, pressures, tell
        self._devices, self._cordoned, self._was_cordoned = devices, cordoned, False
        self._faults, self._changed = faults, asyncio.Event()
        self.registered = asyncio.Event()
        self.node: JSON = {}
        self._written = float("-inf")
        self._told: JSON = {}  # the status that events were told of last
        self._lease: JSON | None = None
        self._missed: float | None = None  # when it was last said that the node is gone

    async def run(self) -> None:
        """Register (or wait until somebody else has done so), then keep the status."""
        try:
            while not self.registered.is_set():
                try:
                    await (self._register() if self._config.register else self._find())
                    self.registered.set()
                except (ApiError, OSError) as error:
                    log.warning("cannot register node %s yet: %s", self._config.name, error)
                    await self._world.clock.sleep(1.0)
            while True:
                await self._keep()
        finally:
            await self._runtime.close()

    async def _keep(self) -> None:
        """Write what has changed, then wait for the next change, or for a while."""
        is_ready = False
        try:
            is_ready = await self.update()
        except (ApiError, OSError) as error:
            log.warning("cannot write the status of node %s: %s", self._config.name, error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause(at_ease=is_ready and not self._runtime.unsure)):
                await self._changed.wait()
        self._changed.clear()

    def _pause(self, *, at_ease: bool) -> float:
        """The seconds until the next look."""
        often = self._config.look_seconds
        return often if at_ease else min(often, LOOK_UNREADY)

    def changed(self) -> None:
        """Something of the node is different: look at once."""
        self._changed.set()

    async def _register(self) -> None:
        wanted = status.registration(self._config, self._machine)
        wanted["status"] = await self._status({})
        ready = [c for c in wanted["status"]["conditions"] if c["type"] == "Ready"]
        try:
            self.node = await self._client.create("nodes", wanted)
            log.info("registered node %s", self._config.name)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            await self._find()
            before = self.node.get("status") or {}
            ready = [c for c in before.get("conditions") or () if c["type"] == "Ready"]
            self._tell_of_reboot(before)
            patch = status.reconciled(self.node, wanted, status.defaults(self._config, self._machine).keys())
            if patch:
                self.node = await self._client.patch("nodes", self._config.name, patch, kind="merge")
        # What the node is short of is told at every start, that it is ready only when it was not before.
        self._announce({"conditions": ready}, wanted["status"])
        pressures = [c for c in wanted["status"]["conditions"] if c["type"] != "Ready"]
        self._told = {"conditions": [*pressures, *ready]}

    async def _find(self) -> None:
        """Take the node as the API server has it. Raises ApiError when it has none."""
        self.node = await self._client.get("nodes", self._config.name)

    async def _status(self, old: JSON) -> JSON:
        """What is to be said of the node now. Nobody waits for a runtime that hangs."""
        await self._runtime.look()
        known = (old.get("nodeInfo") or {}).get("containerRuntimeVersion", "containerd://Unknown")
        found = status.status(
            self._config,
            self._machine,
            self._pressures(),
            self._runtime.conditions,
            self._runtime.version or known,
            self._runtime.images,
            old,
            self._world.clock.now(),
            (*self._runtime.faults, *self._faults()),
            self._runtime.health,
        )
        for name, (whole, usable) in self._devices().items():
            found["capacity"][name], found["allocatable"][name] = str(whole), str(usable)
        return found

    def _announce(self, old: JSON, new: JSON) -> None:
        """Tell of what the node has become short of, or no longer is, and of whether it is ready."""
        for reason in status.turns(old, new):
            self._tell("Normal", reason, f"Node {self._config.name} status is now: {reason}")

        if self._cordoned() != self._was_cordoned:
            self._was_cordoned = not self._was_cordoned
            reason = "NodeNotSchedulable" if self._was_cordoned else "NodeSchedulable"
            self._tell("Normal", reason, f"Node {self._config.name} status is now: {reason}")

    def _tell_of_reboot(self, before: JSON) -> None:
        """The machine was booted since this node was written of last: nothing that ran then does now."""
        known, now = (before.get("nodeInfo") or {}).get("bootID"), self._machine.boot_id
        if known and known != now:
            text = f"Node {self._config.name} has been rebooted, boot id: {now}"
            self._tell("Warning", "Rebooted", text)

    async def update(self) -> bool:
        """Write the status if it changed or the heartbeat is due; whether the node is ready."""
        old = self.node.get("status") or {}
        new = await self._status(old)
        self._announce(self._told, new)
        self._told = new
        now = self._world.clock.monotonic()
        if status.meaningful(old, new) or now - self._written >= self._config.heartbeat_seconds:
            patch = {"status": new}
            try:
                self.node = await self._client.patch(
                    "nodes", self._config.name, patch, kind="strategic", subresource="status"
                )
            except ApiError as error:
                if error.code == 404:
                    self._told_to_go(now)
                    return False
                raise
            self._written, self._missed = now, None
        return any(c["type"] == "Ready" and c["status"] == "True" for c in new["conditions"])

    def _told_to_go(self, now: float) -> None:
        """Somebody has deleted the node. It stays so, as with the kubelet: whoever deletes a node means it, and StatefulSets
        begin their pods elsewhere because of it. A node agent that is begun anew registers again."""
        if self._missed is None or now - self._missed >= GONE:
            self._missed = now
            log.warning(
                'nodes "%s" not found: it was deleted; its status is written again when somebody creates it, or when this '
                "node agent is started anew",
                self._config.name,
            )

    async def renew(self) -> None:
        """The lease loop: what node lifecycle watches."""
        await self.registered.wait()
        while True:
            try:
                if self._missed is None:  # the lease of a node that was deleted is nobody's
                    await self._renew()
            except (ApiError, OSError) as error:
                self._lease = None
                log.warning("cannot renew the lease of node %s: %s", self._config.name, error)
                await self._world.clock.sleep(1.0)
                continue
            await self._world.clock.sleep(RENEW * self._config.lease_seconds)

    async def _renew(self) -> None:
        name = self._config.name
        resource = "leases.coordination.k8s.io"
        if self._lease is None:
            try:
                self._lease = await self._client.get(resource, name, LEASE_NAMESPACE)
            except ApiError as error:
                if error.code != 404:
                    raise
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": self._config.lease_seconds,
            "renewTime": rfc3339_micro(self._world.clock.now()),
        }
        if self._lease is not None:
            self._lease = await self._client.update(resource, self._lease | {"spec": spec})
            return
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self.node["metadata"]["uid"]}
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [owner]},
            "spec": spec,
        }
        self._lease = await self._client.create(resource, lease)

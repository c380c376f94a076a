"""A node of one agent: the real one (registration, gate, workers, static pods and their mirrors) above a machine that runs
nothing. Whoever cancels ``run`` kills the agent, at once and for good; the machine stays as it is, and the next one finds it so.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bamikube.client.client import Client
from bamikube.client.informer import Informer
from bamikube.client.transport import Transport
from bamikube.kit.tasks import Tasks
from bamikube.nodeagent.agent import PodAgent
from bamikube.nodeagent.api import ClusterApi
from bamikube.nodeagent.container.spec import NodeFacts
from bamikube.nodeagent.node import reservations, status
from bamikube.nodeagent.node.own import OwnNode
from bamikube.nodeagent.node.registrar import Registrar
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.gate import Gate
from bamikube.nodeagent.pod.kernel import Kernel
from bamikube.nodeagent.pod.status import HostFacts
from bamikube.nodeagent.referenced import Referenced
from bamikube.nodeagent.sources import manifest
from bamikube.nodeagent.sources.mirrors import Mirrors
from tests.simulation.fuse import Fuse, Fused, FusedTransport
from tests.simulation.machine import Machine, Wire

LOOK = 1.0  # seconds between two looks at the manifests
MANY = frozenset(("probe",))  # calls that are too many to die at


class NoEvents:
    """Events for people are not written: nobody reads them here."""

    def event(self, *what: Any, **more: Any) -> None: ...


class AgentNode:
    """One life of the node agent of a machine. ``fuse`` ends it."""

    def __init__(self, transport: Transport, machine: Machine, fuse: Fuse | None = None) -> None:
        self.machine, self.fuse = machine, fuse or Fuse()
        self._world = world = machine.world
        machine.host.recall()
        self._client = client = Client(FusedTransport(transport, self.fuse), world)
        name = machine.name
        address = f"192.168.0.{machine.number}"
        config = status.NodeConfig(name, name, (address,), {}, (), 10250, 110)
        runtime: Any = Wire(machine, self.fuse)
        self._pods = Informer(client, "pods", world, fields=f"spec.nodeName={name}")
        self._services = Informer(client, "services", world)
        referenced = Referenced(client, world)
        at_first = status.registration(config, machine.facts())
        amounts = status.shown(reservations.allocatable(machine.facts(), 110, config.reserved))
        at_first["status"] = {"allocatable": amounts}
        self._own = OwnNode(client, world, name, at_first)
        self._registrar = Registrar(
            client, world, runtime, config, machine.facts(), faults=lambda: self.agent.ailing()
        )
        shared = Shared(
            world=world,
            runtime=runtime,
            host=Fused(machine.host, self.fuse, "host"),
            api=ClusterApi(client, NoEvents(), self._services, referenced),  # type: ignore[arg-type]
            node=NodeFacts(name=name, kernel=Kernel(memory=16 << 30)),
            addresses=HostFacts((address,)),
            checks=Fused(machine.checks, self.fuse, "checks", MANY),
            allocatable=lambda: amounts,
            began=world.clock.now(),
        )
        self.agent = PodAgent(shared, self._pods, referenced, Gate(self._own.current, self._own.fresh))
        self._mirrors = Mirrors(
            client,
            world,
            self._pods,
            self._own.current,
            self.agent.static_pods,
            lambda: self.agent.manifests_read,
        )
        self.agent.mirrored = self._mirrors.changed

    async def run(self) -> None:
        """In the order of the real service; until cancelled, or the fuse blows."""
        tasks = Tasks(self.machine.name)
        ended = asyncio.Event()
        self.fuse.died = ended.set
        self.agent.manifests_read = False
        try:
            tasks.spawn(self._work(tasks), "begin")
            await ended.wait()
        finally:
            self.fuse.blow("when it was killed")
            await tasks.close()

    async def _work(self, tasks: Tasks) -> None:
        tasks.spawn(self._services.run(), "services")
        tasks.spawn(self._registrar.run(), "node")
        tasks.spawn(self._registrar.renew(), "lease")
        tasks.spawn(self._read(), "manifests")
        tasks.spawn(self.agent.run(), "agent")
        await self._registrar.registered.wait()
        tasks.spawn(self._own.run(), "own node")
        await self._own.synced.wait()
        await self._services.synced.wait()
        tasks.spawn(self._pods.run(), "pods")
        await self._pods.synced.wait()
        tasks.spawn(self._mirrors.run(), "mirrors")

    async def _read(self) -> None:
        """The folder of manifests."""
        seen: dict[str, str] | None = None
        while True:
            if seen != self.machine.manifests:
                seen = dict(self.machine.manifests)
                now = self._world.clock.now()
                self.agent.keep(
                    [
                        manifest.parse(text.encode(), self.machine.name, path, now)
                        for path, text in seen.items()
                    ]
                )
            await self._world.clock.sleep(LOOK)

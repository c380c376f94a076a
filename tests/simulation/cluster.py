"""The whole control plane in one event loop: the real services on a model of etcd and a simulated network."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from bamikube.apiserver.identity import ALL_AUTHENTICATED, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.client.client import Client
from bamikube.controllers.options import ControllersOptions
from bamikube.controllers.service import Controllers
from bamikube.kit.chance import Chance
from bamikube.kit.clock import LoopClock
from bamikube.kit.http import Handler, Request
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.scheduler.options import SchedulerOptions
from bamikube.scheduler.service import Scheduler
from bamikube.store.model import ModelStore
from tests.simulation.hollow import HollowNode
from tests.simulation.network import Network


class SimulatedUsers:
    """Takes the user's name from a header: the stand-in for client certificates on a network without TLS."""

    async def authenticate(self, request: Request) -> User | None:
        name = request.headers.get("x-simulated-user")
        if not name:
            return None
        groups = tuple(part for part in request.headers.get("x-simulated-groups", "").split(",") if part)
        return User(name, (*groups, ALL_AUTHENTICATED))


class Process:
    """Something that runs, can be killed, and comes back."""

    def __init__(
        self, name: str, make: Callable[[], Coroutine[Any, Any, None]], world: World, tasks: Tasks
    ) -> None:
        self.name = name
        self.kills = 0
        self._make = make
        self._world = world
        self._task: asyncio.Task[None] | None = None
        self._wanted = True
        tasks.spawn(self._keep(), name)

    async def _keep(self) -> None:
        """As the lab does: start it again when it ends, whatever the reason."""
        while True:
            if self._wanted:
                self._task = asyncio.ensure_future(self._make())
                try:
                    await asyncio.wait({self._task})
                finally:
                    self._task.cancel()
                    await asyncio.gather(self._task, return_exceptions=True)
            await self._world.clock.sleep(self._world.chance.uniform(0.2, 1.0))

    def kill(self) -> None:
        self.kills += 1
        if self._task is not None:
            self._task.cancel()

    def stop(self) -> None:
        """Kill it and leave it down until ``start``."""
        self._wanted = False
        self.kill()

    def start(self) -> None:
        self._wanted = True


class Cluster:
    """Two API servers, controllers and schedulers that compete for their leases, and hollow nodes.

    ``server`` are options of the API servers."""

    def __init__(
        self,
        seed: int,
        nodes: int = 3,
        *,
        servers: int = 2,
        controllers: int = 2,
        schedulers: int = 1,
        **server: Any,
    ) -> None:
        self._server = server
        self.world = World(LoopClock(), Chance(seed))
        self.tasks = Tasks("cluster")
        self.store = ModelStore(self.world)
        self.network = Network(self.world)
        self.servers: dict[str, ApiServer] = {}
        self.processes: dict[str, Process] = {}
        for name in (f"apiserver-{number}" for number in range(1, servers + 1)):
            self._start(name, self._api_server(name))
        for number in range(1, controllers + 1):
            self._start(f"controllers-{number}", self._controllers)
        for number in range(1, schedulers + 1):
            self._start(f"scheduler-{number}", self._scheduler)
        for number in range(1, nodes + 1):
            self._start(f"node-{number}", self._node(f"node-{number}", number))

    def _start(self, name: str, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.processes[name] = Process(name, make, self.world, self.tasks)

    def _api_server(self, name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def run() -> None:
            options = ApiServerOptions(
                anonymous_auth=False, etcd_compaction_interval=20, etcd_compaction_window=60, **self._server
            )
            server = ApiServer(self.store, options, self.world, methods=(SimulatedUsers(),))
            self.servers[name] = server
            try:
                await server.run()
            finally:
                self.servers.pop(name, None)

        return run

    def client(self, user: str, groups: str = "system:masters") -> Client:
        """A client that stays with one API server while it lives, as a connection does."""
        held: list[ApiServer] = []

        def pick() -> Handler | None:
            # A server that is still starting accepts connections too: what it answers must be right all the same.
            if not held or held[0] not in self.servers.values():
                running = list(self.servers.values())
                held[:] = [self.world.chance.choice(running)] if running else []
            return held[0].handle if held else None

        return Client(self.network.transport(user, groups, pick), self.world)

    async def _controllers(self) -> None:
        options = ControllersOptions(kubeconfig="none")
        await Controllers(self.client("system:kube-controller-manager"), options, self.world).run()

    async def _scheduler(self) -> None:
        options = SchedulerOptions(kubeconfig="none")
        await Scheduler(self.client("system:kube-scheduler"), options, self.world).run()

    def _node(self, name: str, number: int) -> Callable[[], Coroutine[Any, Any, None]]:
        async def run() -> None:
            client = self.client(f"system:node:{name}", "system:nodes")
            await HollowNode(client, name, number, self.world).run()

        return run

    async def up(self) -> None:
        """Wait until an API server answers and all nodes are there."""
        client = self.client("admin")
        wanted = sum(name.startswith("node-") for name in self.processes)
        async with asyncio.timeout(120):
            while True:
                with contextlib.suppress(OSError, Exception):
                    if len((await client.list("nodes"))["items"]) == wanted:
                        return
                await self.world.clock.sleep(0.5)

    async def close(self) -> None:
        await self.tasks.close()
        await self.store.close()

"""Device plugins: they register here, say which devices they have, and how a container is to be given one.

A plugin opens a socket of its own in ``<root>/device-plugins`` and registers it at ``kubelet.sock`` there. From then on its list
of devices is followed; when it ends, its devices count as unhealthy, and after five minutes the resource is gone. When the node
agent starts it removes all sockets of that folder, which tells plugins to register again.

Calls to plugins are made one pod after the other, so that no two are given the same device.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from bamikube.api.predicates.general import extended
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.nodeagent import figures
from bamikube.nodeagent.container.env import ConfigError
from bamikube.nodeagent.devices import book as books
from bamikube.nodeagent.devices.book import Book, Given, Unavailable
from bamikube.nodeagent.devices.near import nearest
from bamikube.nodeagent.numa.hints import Nodes
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import ContainerSpec, Mount
from bamikube.nodeagent.runtime.port import Device as ContainerDevice
from bamikube.rpc.deviceplugin import deviceplugin_pb2 as pb
from bamikube.rpc.deviceplugin import deviceplugin_pb2_grpc

log = logging.getLogger(__name__)

VERSION = "v1beta1"
SOCKET, CHECKPOINT = "kubelet.sock", "kubelet_internal_checkpoint"
STOPPED = 300.0  # seconds after which a resource is gone whose plugin has ended
ANSWER = 30.0  # seconds a plugin has to answer
_PRE_START = "device plugin PreStartContainer rpc failed with err: "


@dataclass(slots=True)
class Plugin:
    """A plugin that has registered. Once it has ``stopped`` it is asked nothing more."""

    stub: Any
    channel: grpc.aio.Channel
    prefers: bool
    pre_start: bool
    stopped: bool = False


class DeviceManager:
    """``changed`` is told when the node has other devices; ``active`` are the uids of pods that may keep theirs, None while not all
    of them are known."""

    def __init__(
        self, world: World, root: Path, changed: Callable[[], None], active: Callable[[], set[str] | None]
    ) -> None:
        self._world, self._changed, self._active = world, changed, active
        self.near: Callable[[str, str], Nodes | None] = lambda _uid, _name: (
            None
        )  # where a container's devices are to be
        self.folder = root / "device-plugins"
        self.book = Book()
        self._plugins: dict[str, Plugin] = {}
        self._gone: set[str] = set()
        self._turn = asyncio.Lock()
        self._tasks = Tasks("devices")
        self._server: grpc.aio.Server | None = None

    # -- registration --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read what was given, clear the folder of sockets, and listen. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        for path in self.folder.iterdir():
            if path.name != CHECKPOINT and not path.is_dir():
                path.unlink(missing_ok=True)
        try:
            self.book = books.loaded((self.folder / CHECKPOINT).read_text())
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.warning("cannot read which devices were given away, %s: %s", self.folder / CHECKPOINT, error)
        server = grpc.aio.server()
        deviceplugin_pb2_grpc.add_RegistrationServicer_to_server(_Registration(self), server)
        listen(server, self.folder / SOCKET)
        await server.start()
        self._server = server

    async def close(self) -> None:
        await self._tasks.close()
        for plugin in self._plugins.values():
            await plugin.channel.close()
        if self._server is not None:
            await self._server.stop(None)

    def register(self, version: str, endpoint: str, resource: str, options: pb.DevicePluginOptions) -> None:
        """Follow a plugin from now on; one of the same resource before it is let go. Raises ValueError."""
        if version != VERSION:
            raise ValueError(
                f'requested API version "{version}" is not supported by kubelet. Supported version is ["{VERSION}"]'
            )
        if not extended(resource):
            raise ValueError(f'the ResourceName "{resource}" is invalid')
        if not endpoint or "/" in endpoint:
            raise ValueError(f'the endpoint "{endpoint}" is not the name of a socket in {self.folder}')
        channel = grpc.aio.insecure_channel(
            f"unix:{self.folder / endpoint}", options=[("grpc.default_authority", "localhost")]
        )
        plugin = Plugin(
            deviceplugin_pb2_grpc.DevicePluginStub(channel),
            channel,
            options.get_preferred_allocation_available,
            options.pre_start_required,
        )
        self._plugins[resource] = plugin
        self._tasks.spawn(self._follow(resource, plugin), resource)
        figures.PLUGIN_REGISTRATIONS.labels(resource).inc()
        log.info("a device plugin has registered %s on %s", resource, endpoint)

    async def _follow(self, resource: str, plugin: Plugin) -> None:
        """Take in a plugin's lists of devices until it ends; then see its resource out."""
        try:
            async for answer in plugin.stub.ListAndWatch(pb.Empty(), wait_for_ready=True):
                if self._plugins.get(resource) is not plugin:
                    break  # another one has taken its place
                self._seen(
                    resource,
                    {
                        d.ID: books.Device(d.health == books.HEALTHY, tuple(n.ID for n in d.topology.nodes))
                        for d in answer.devices
                    },
                )
        except grpc.aio.AioRpcError as error:
            log.warning("the device plugin of %s ended: %s", resource, error.details())
        plugin.stopped = True
        if self._plugins.get(resource) is plugin:
            devices = self.book.devices.get(resource, {})
            self._seen(resource, {i: replace(device, healthy=False) for i, device in devices.items()})
        await plugin.channel.close(ANSWER)  # what is being asked may be answered yet
        await self._world.clock.sleep(STOPPED)
        if self._plugins.get(resource) is plugin:
            log.warning("the device plugin of %s has not come back: its resource is gone", resource)
            del self._plugins[resource]
            self.book.devices.pop(resource, None)
            self._gone.add(resource)
            self._save()
            self._changed()

    def _seen(self, resource: str, devices: dict[str, books.Device]) -> None:
        self.book.devices[resource] = devices
        self._gone.discard(resource)
        self._save()
        self._changed()

    def _save(self) -> None:
        path = self.folder / CHECKPOINT
        half = path.with_suffix(".tmp")
        try:
            half.write_text(self.book.dump())
            half.replace(path)
        except OSError as error:
            log.warning("cannot note which devices were given away in %s: %s", path, error.strerror)

    # -- what others ask -----------------------------------------------------------------------------------------

    def amounts(self) -> dict[str, tuple[int, int]]:
        """Capacity and allocatable of each resource; nothing of those that are gone."""
        return self.book.amounts() | dict.fromkeys(self._gone, (0, 0))

    def refusal(self, pod: JSON) -> tuple[str, str] | None:
        """Why the pod cannot be given its devices, as reason and message."""
        self._forget(facts.uid(pod))
        try:
            self.book.short(pod)
        except Unavailable as error:
            return refused(error)
        return None

    def wanted(self, pod: JSON) -> bool:
        """Whether the pod asks for devices at all."""
        return any(self.book.wants(container) for container in facts.all_containers(pod))

    def _forget(self, arriving: str) -> None:
        active = self._active()
        if active is not None and self.book.forget(active | {arriving}):
            self._save()

    async def allocate(self, pod: JSON) -> tuple[str, str] | None:
        """Give the pod's containers what they ask for; why that was not possible, as reason and message."""
        async with self._turn:
            self._forget(facts.uid(pod))
            try:
                for container in facts.all_containers(pod):
                    for resource, number in self.book.wants(container).items():
                        await self._give(pod, container["name"], resource, number)
            except Unavailable as error:
                return refused(error)
        return None

    async def _give(self, pod: JSON, container: str, resource: str, number: int) -> None:
        choice = self.book.choose(pod, container, resource, number)
        if choice is None:
            return
        choice = nearest(self.book, resource, choice, self.near(facts.uid(pod), container))
        plugin = self._plugins.get(resource)
        if plugin is None:
            raise Unavailable(f"unknown Device Plugin {resource}")
        if plugin.stopped:
            raise Unavailable(f"endpoint {resource} has been stopped")
        try:
            ids = await self._preferred(plugin, choice)
            request = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=ids)])
            with figures.PLUGIN_SECONDS.labels(resource).time():
                answer = await plugin.stub.Allocate(request, timeout=ANSWER)
        except grpc.aio.AioRpcError as error:
            raise Unavailable(in_go(error)) from error
        if not answer.container_responses:
            raise Unavailable(f"no containers return in allocation response {answer}")
        given = Given(ids, answer.container_responses[0].SerializeToString())
        self.book.given[facts.uid(pod), container, resource] = given
        self._save()

    async def _preferred(self, plugin: Plugin, choice: books.Choice) -> tuple[str, ...]:
        """Which devices it shall be: those the plugin would rather give, as far as they are to be had."""
        if not choice.wanted:
            return choice.must
        liked: list[str] = []
        if plugin.prefers:
            request = pb.ContainerPreferredAllocationRequest(
                available_deviceIDs=[*choice.must, *choice.free],
                must_include_deviceIDs=choice.must,
                allocation_size=len(choice.must) + choice.wanted,
            )
            answer = await plugin.stub.GetPreferredAllocation(
                pb.PreferredAllocationRequest(container_requests=[request]), timeout=ANSWER
            )
            if answer.container_responses:
                liked = [i for i in answer.container_responses[0].deviceIDs if i in choice.free]
        order = dict.fromkeys([*liked, *choice.free])
        return (*choice.must, *list(order)[: choice.wanted])

    async def equip(self, pod: JSON, spec: JSON, config: ContainerSpec) -> ContainerSpec:
        """A container's configuration with what its devices need. Raises ConfigError."""
        uid, name = facts.uid(pod), spec["name"]
        found = {r: given for (u, c, r), given in self.book.given.items() if (u, c) == (uid, name)}
        for resource, given in sorted(found.items()):
            plugin = self._plugins.get(resource)
            if plugin is not None and plugin.pre_start:
                if plugin.stopped:
                    raise ConfigError(f"{_PRE_START}endpoint {resource} has been stopped")
                request = pb.PreStartContainerRequest(devices_ids=given.ids)
                try:
                    await plugin.stub.PreStartContainer(request, timeout=ANSWER)
                except grpc.aio.AioRpcError as error:
                    raise ConfigError(f"{_PRE_START}{in_go(error)}") from error
            config = equipped(config, pb.ContainerAllocateResponse.FromString(given.answer))
        return config


def listen(server: grpc.aio.Server, path: Path) -> None:
    """Have a server listen on a socket. Raises OSError."""
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise OSError(f"cannot listen on {path}: {error}") from error


def refused(error: Unavailable) -> tuple[str, str]:
    return "UnexpectedAdmissionError", f"Allocate failed due to {error}, which is unexpected"


def in_go(error: grpc.aio.AioRpcError) -> str:
    """As a Go client would print it."""
    code = "".join(word.capitalize() for word in error.code().name.split("_"))
    return f"rpc error: code = {code} desc = {error.details()}"


def equipped(config: ContainerSpec, answer: pb.ContainerAllocateResponse) -> ContainerSpec:
    """With the devices, mounts and variables of a plugin's answer; what the pod says itself wins. Pure."""
    own = {key for key, _ in config.env}
    return replace(
        config,
        env=(*((k, v) for k, v in sorted(answer.envs.items()) if k not in own), *config.env),
        mounts=(*config.mounts, *(Mount(m.container_path, m.host_path, m.read_only) for m in answer.mounts)),
        devices=(
            *config.devices,
            *(ContainerDevice(d.container_path, d.host_path, d.permissions) for d in answer.devices),
        ),
        annotations=dict(answer.annotations) | dict(config.annotations),
        cdi_devices=(*config.cdi_devices, *(device.name for device in answer.cdi_devices)),
    )


class _Registration(deviceplugin_pb2_grpc.RegistrationServicer):  # type: ignore[misc]
    def __init__(self, manager: DeviceManager) -> None:
        self._manager = manager

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.Empty:
        try:
            self._manager.register(request.version, request.endpoint, request.resource_name, request.options)
        except ValueError as error:
            log.warning("a device plugin was not registered: %s", error)
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))
        return pb.Empty()

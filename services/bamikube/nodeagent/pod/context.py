"""What all workers of one node share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bamikube.kit.slots import Slots
from bamikube.kit.world import World
from bamikube.nodeagent.api import PodApi
from bamikube.nodeagent.container.env import Sources
from bamikube.nodeagent.container.spec import NodeFacts
from bamikube.nodeagent.host.port import Host
from bamikube.nodeagent.images.puller import Puller
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.placing import ANYWHERE, Place
from bamikube.nodeagent.pod.status import HostFacts
from bamikube.nodeagent.probing.checks import Checks
from bamikube.nodeagent.runtime.port import ContainerSpec, Runtime

LONG = 3.0  # seconds after which a start is not counted any more: it hangs, and costs nothing


class Equips(Protocol):
    """Adds to a container's configuration what the devices need that it was given."""

    async def equip(self, pod: JSON, spec: JSON, config: ContainerSpec) -> ContainerSpec:
        """Raises ConfigError."""


class NoDevices:
    """A node without device plugins."""

    async def equip(self, pod: JSON, spec: JSON, config: ContainerSpec) -> ContainerSpec:
        return config


@dataclass(slots=True)
class Shared:
    """The ports, the node's facts, and the number of starts in flight."""

    world: World
    runtime: Runtime
    host: Host
    api: PodApi
    node: NodeFacts
    addresses: HostFacts
    checks: Checks
    allocatable: Callable[[], Mapping[str, str]]
    devices: Equips = field(default_factory=NoDevices)
    refresh: float = 60.0  # seconds between two looks at what configMap, secret and token volumes hold
    began: float = 0.0  # when this node agent did, in seconds since the epoch
    puller: Puller = field(default_factory=Puller)
    place: Callable[[str, str], Place] = lambda _uid, _name: (
        ANYWHERE
    )  # of a container, by uid of its pod and name
    # What guaranteed pods are not resized by, and the policy that has it so.
    fixed: Mapping[str, str] = field(default_factory=dict)
    # CRI starts cost CPU, not waiting: four at once are the fastest on two cores.
    slots: Slots = field(default_factory=lambda: Slots(4, LONG))

    async def sources(self, pod: JSON, wanted: set[tuple[str, str]], pod_ips: tuple[str, ...]) -> Sources:
        """Fetch the objects a container or volume refers to, all at once."""
        namespace = pod["metadata"]["namespace"]
        order = sorted(wanted)
        calls = [
            self.api.config_map(namespace, name) if kind == "ConfigMap" else self.api.secret(namespace, name)
            for kind, name in order
        ]
        objects = dict(zip(order, await asyncio.gather(*calls), strict=True))
        return Sources(
            objects,
            self.api.services(namespace),
            self.addresses.ips,
            pod_ips,
            self.node.name,
            self.allocatable(),
        )

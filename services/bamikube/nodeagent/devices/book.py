"""Which devices there are, and which container was given which. Pure; the manager asks plugins and keeps the file.

A resource (``example.com/gpu``) has devices by id, each healthy or not. A container keeps what it was given until its pod has
ended, also over restarts of its own, of the plugin and of the node agent. What a plain init container was given is
given on to the containers after it; a sidecar keeps its own.

Worked example: three devices, one of them sick, one given away: capacity 3, allocatable 2, and a pod that wants two is told
``requested number of devices unavailable for example.com/gpu. Requested: 2, Available: 1``.

Source: "Device Plugins" of the Kubernetes documentation.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bamikube.api.predicates import fits
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON

Key = tuple[str, str, str]  # uid of the pod, name of the container, resource
HEALTHY = "Healthy"


class Unavailable(Exception):
    """A container cannot be given what it asks for, in the kubelet's words."""


@dataclass(frozen=True, slots=True)
class Device:
    healthy: bool
    nodes: tuple[int, ...] = ()  # of the machine's memory, that it is near to


@dataclass(frozen=True, slots=True)
class Given:
    """``answer``: what the plugin said is to be done to the container, as it came."""

    ids: tuple[str, ...]
    answer: bytes


@dataclass(frozen=True, slots=True)
class Choice:
    """``must`` are given on from an init container; ``wanted`` more are to be chosen among ``free``."""

    must: tuple[str, ...]
    free: tuple[str, ...]
    wanted: int


@dataclass(slots=True)
class Book:
    devices: dict[str, dict[str, Device]] = field(default_factory=dict)  # by resource and id
    given: dict[Key, Given] = field(default_factory=dict)

    def amounts(self) -> dict[str, tuple[int, int]]:
        """Capacity and allocatable of each resource."""
        return {name: (len(d), sum(x.healthy for x in d.values())) for name, d in self.devices.items()}

    def wants(self, container: JSON) -> dict[str, int]:
        """How many devices of which resource a container asks for. Resources without a plugin are not devices."""
        limits = fits.amounts((container.get("resources") or {}).get("limits"))
        known = self.devices.keys() | {resource for _, _, resource in self.given}
        return {name: number for name, number in limits.items() if number and name in known}

    def taken(self, resource: str) -> set[str]:
        return {i for (_, _, name), given in self.given.items() if name == resource for i in given.ids}

    def reusable(self, pod: JSON, container: str, resource: str) -> tuple[str, ...]:
        """What init containers of the pod that have ended by then leave to this one."""
        uid, left = facts.uid(pod), dict[str, None]()
        for spec in facts.all_containers(pod):
            if spec["name"] == container:
                break
            given = self.given.get((uid, spec["name"], resource))
            if given is None:
                continue
            plain = any(spec is i for i in facts.init_containers(pod)) and not facts.is_sidecar(spec)
            if plain:
                left |= dict.fromkeys(given.ids)
            else:
                left = {i: None for i in left if i not in given.ids}
        return tuple(left)

    def choose(self, pod: JSON, container: str, resource: str, number: int) -> Choice | None:
        """Among what is to be chosen for a container; None if it has it. Raises Unavailable."""
        known = self.devices.get(resource)
        has = self.given.get((facts.uid(pod), container, resource))
        if has is not None and not known:
            return None  # the node agent has begun anew, the plugin has not come back yet: the container has what it has
        if known is None:
            raise Unavailable(f"cannot allocate unregistered device {resource}")
        healthy = {i for i, device in known.items() if device.healthy}
        if not healthy:
            raise Unavailable(f"no healthy devices present; cannot allocate unhealthy devices {resource}")
        if has is not None:
            if len(has.ids) != number:
                raise Unavailable(
                    f'pod "{facts.uid(pod)}" container "{container}" changed request for resource "{resource}" '
                    f"from {len(has.ids)} to {number}"
                )
            if not set(has.ids) <= healthy:
                text = "previously allocated devices are no longer healthy; cannot allocate unhealthy devices"
                raise Unavailable(f"{text} {resource}")
            return None
        must = tuple(i for i in self.reusable(pod, container, resource) if i in healthy)[:number]
        free = tuple(sorted(healthy - self.taken(resource)))
        wanted = number - len(must)
        if len(free) < wanted:
            raise Unavailable(
                f"requested number of devices unavailable for {resource}. "
                f"Requested: {wanted}, Available: {len(free)}"
            )
        return Choice(must, free, wanted)

    def short(self, pod: JSON) -> None:
        """Raises Unavailable if the pod as a whole cannot be given what it asks for."""
        trial = Book(self.devices, dict(self.given))
        for container in facts.all_containers(pod):
            for resource, number in trial.wants(container).items():
                choice = trial.choose(pod, container["name"], resource, number)
                if choice is not None:
                    ids = (*choice.must, *choice.free[: choice.wanted])
                    trial.given[facts.uid(pod), container["name"], resource] = Given(ids, b"")

    def forget(self, active: Iterable[str]) -> bool:
        """Take back what pods were given that are not among the ``active`` uids; whether that was anything."""
        kept = set(active)
        gone = [key for key in self.given if key[0] not in kept]
        for key in gone:
            del self.given[key]
        return bool(gone)

    # -- the file ------------------------------------------------------------------------------------------------

    def dump(self) -> str:
        entries = []
        for (uid, container, resource), given in sorted(self.given.items()):
            near: dict[str, list[str]] = {}
            for one in given.ids:
                device = self.devices.get(resource, {}).get(one)
                for node in (device.nodes if device else ()) or (-1,):
                    near.setdefault(str(node), []).append(one)
            entries.append(
                {
                    "PodUID": uid,
                    "ContainerName": container,
                    "ResourceName": resource,
                    "DeviceIDs": near,
                    "AllocResp": base64.b64encode(given.answer).decode(),
                }
            )
        registered = {n: sorted(i for i, d in ds.items() if d.healthy) for n, ds in self.devices.items()}
        return json.dumps({"Data": {"PodDeviceEntries": entries, "RegisteredDevices": registered}})


def loaded(text: str) -> Book:
    """What :meth:`Book.dump` wrote: resources are known, their devices not until their plugins come back. Raises ValueError."""
    book = Book()
    try:
        data: Mapping[str, Any] = json.loads(text)["Data"]
        for entry in data.get("PodDeviceEntries") or ():
            ids = dict.fromkeys(i for near in entry["DeviceIDs"].values() for i in near)
            key = (entry["PodUID"], entry["ContainerName"], entry["ResourceName"])
            book.given[key] = Given(tuple(ids), base64.b64decode(entry["AllocResp"]))
        book.devices = {name: {} for name in data.get("RegisteredDevices") or {}}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"it is not what the node agent writes ({error!r})") from error
    return book

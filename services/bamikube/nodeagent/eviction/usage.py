"""What pods use and what the node has left, from one sample of the figures. Pure.

The signals are the kubelet's: memory is what the kernel could not take back at once, so that page caches nobody touches
count as free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bamikube.nodeagent.eviction.decide import Observation
from bamikube.nodeagent.eviction.thresholds import ALLOCATABLE
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.stats.disks import Taken
from bamikube.nodeagent.stats.sampler import Files, Room, Sample, Whole
from bamikube.nodeagent.stats.subjects import Subject


@dataclass(frozen=True, slots=True)
class Counted:
    """Which of a pod's files count."""

    layers: bool = True
    logs: bool = True
    volumes: bool = True


EVERYTHING = Counted()


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """Of one container: its working set in bytes, its written layer, its logs."""

    memory: int = 0
    layer: Taken = field(default_factory=Taken)
    logs: Taken = field(default_factory=Taken)


@dataclass(frozen=True, slots=True)
class PodUse:
    """Of one pod; ``volumes`` are those on the node's disk that go with it."""

    memory: int = 0
    processes: int = 0
    containers: Mapping[str, ContainerUse] = field(default_factory=dict)
    volumes: Mapping[str, Taken] = field(default_factory=dict)

    def taken(self, counted: Counted) -> Taken:
        total = Taken()
        for container in self.containers.values():
            total += container.layer if counted.layers else Taken()
            total += container.logs if counted.logs else Taken()
        for volume in self.volumes.values() if counted.volumes else ():
            total += volume
        return total


@dataclass(frozen=True, slots=True)
class Uses:
    """What each running pod uses, by uid. ``dedicated``: images have a file system of their own."""

    pods: Mapping[str, PodUse]
    dedicated: bool = False


def uses(sample: Sample, files: Files, dedicated: bool = False) -> Uses:
    return Uses({subject.uid: _use(subject, sample, files) for subject in sample.subjects}, dedicated)


def _use(subject: Subject, sample: Sample, files: Files) -> PodUse:
    containers = {}
    for member in subject.members:
        figures = sample.figures.get(member.group)
        layer = files.layers.get(member.container.id)
        containers[member.container.name] = ContainerUse(
            figures.working_set if figures is not None else 0,
            Taken(layer.bytes, layer.inodes) if layer is not None else Taken(),
            files.logs.get((subject.uid, member.container.name), Taken()),
        )
    whole = sample.figures.get(subject.group)
    groups = [sample.figures.get(group) for group in subject.groups()[1:]]
    volumes = {
        name: files.volumes[subject.uid, name][1]
        for name in facts.local_volumes(subject.pod)
        if (subject.uid, name) in files.volumes
    }
    return PodUse(
        whole.working_set if whole is not None else sum(c.memory for c in containers.values()),
        sum(len(figures.processes) for figures in groups if figures is not None),
        containers,
        volumes,
    )


def observations(whole: Whole, room: Room, limits: JSON) -> dict[str, Observation]:
    """The signals; what could not be read has none. ``limits``: how many processes there may be and are."""
    found = {}
    for signal, figures, most in (
        ("memory.available", whole.node, whole.memory),
        (ALLOCATABLE, whole.pods, whole.pods.limit if whole.pods is not None else 0),
    ):
        if figures is not None and 0 < most <= whole.memory:
            left = max(0, most - figures.working_set)
            found[signal] = Observation(left, left + figures.working_set, whole.time)
    for name, disk in (("nodefs", room.node), ("imagefs", room.images), ("containerfs", room.images)):
        if disk.capacity:
            found[f"{name}.available"] = Observation(disk.available, disk.capacity, room.time)
        if disk.inodes:  # some file systems make them as they go, and say 0
            found[f"{name}.inodesFree"] = Observation(disk.inodes_free, disk.inodes, room.time, whole=True)
    if limits:
        left = limits["maxpid"] - limits["curproc"]
        found["pid.available"] = Observation(left, limits["maxpid"], whole.time, whole=True)
    return found

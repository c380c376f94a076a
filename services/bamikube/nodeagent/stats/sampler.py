"""Samples: the figures of everything on the node at one time, and CPU as a rate between two of them.

A sample is good for a second, so that two readers do not disturb each other's rates. Reading is done on a thread: it
is a few hundred small files, and pods must not wait for them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bamikube.kit.world import World
from bamikube.nodeagent.host.threads import OneAtATime, beside
from bamikube.nodeagent.node.facts import meminfo
from bamikube.nodeagent.runtime.port import LayerUsage, Runtime, RuntimeFailure
from bamikube.nodeagent.stats import disks, network
from bamikube.nodeagent.stats.disks import Disk, Taken
from bamikube.nodeagent.stats.groups import Figures, Groups
from bamikube.nodeagent.stats.network import Interface
from bamikube.nodeagent.stats.subjects import Subject
from bamikube.nodeagent.stats.system import booted

log = logging.getLogger(__name__)

FRESH = 1.0  # seconds a sample is good for
SHARE = 0.005  # of a core: where counting is done quickly, it is done again sooner
PATIENCE = 20.0  # seconds a file system is waited for
LAYERS_FRESH = 10.0  # seconds: as often as containerd looks at what containers have written
NODE = "/"
_BLOCK = Path("/sys/dev/block")


@dataclass(slots=True)
class Sample:
    """What was found at ``time`` (seconds since the epoch)."""

    time: float
    subjects: list[Subject] = field(default_factory=list)
    figures: dict[str, Figures] = field(default_factory=dict)  # by cgroup
    rates: dict[str, int] = field(default_factory=dict)  # by cgroup: nanocores
    networks: dict[str, tuple[Interface, ...]] = field(default_factory=dict)  # by uid; the node's by ""
    memory: dict[str, int] = field(default_factory=dict)  # /proc/meminfo
    failed: bool = False


@dataclass(slots=True)
class Files:
    """What lies on disks: the two file systems, and what pods take."""

    node: Disk = field(default_factory=Disk)
    images: Disk = field(default_factory=Disk)
    images_used: int = 0
    devices: tuple[str, str] = ("nodefs", "imagefs")  # what the two lie on
    block: str = "0:0"  # the number of what images lie on
    device_names: dict[str, str] = field(default_factory=dict)  # by number: 8:0
    layers: Mapping[str, LayerUsage] = field(default_factory=dict)  # by container id
    logs: dict[tuple[str, str], Taken] = field(default_factory=dict)  # by uid and container
    volumes: dict[tuple[str, str], tuple[Disk, Taken]] = field(default_factory=dict)  # by uid and volume


@dataclass(frozen=True, slots=True)
class Whole:
    """The node and all of its pods together, in brief. ``memory``: what the machine has, in bytes."""

    time: float
    memory: int
    node: Figures | None
    pods: Figures | None


@dataclass(frozen=True, slots=True)
class Room:
    """What the two file systems have left, seen at ``time``. ``dedicated``: they are two."""

    time: float = 0.0
    node: Disk = field(default_factory=Disk)
    images: Disk = field(default_factory=Disk)
    dedicated: bool = False


class Sampler:
    """``subjects`` tells what runs; ``log_directory`` and ``volumes`` where a pod's files lie.

    ``patience``: seconds the runtime is waited for; what it said before is good enough then.
    """

    patience = 5.0
    files_fresh = 60.0  # seconds what folders take is good for: counting reads every entry

    def __init__(
        self,
        world: World,
        runtime: Runtime,
        subjects: Callable[[], list[Subject]],
        root: Path,
        log_directory: Callable[[Subject], str],
        volumes: Callable[[str], Mapping[str, Path]],
        groups: Groups,
        above: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._world, self._runtime = world, runtime
        self.subjects, self._root, self._log_directory = subjects, root, log_directory
        self._volumes, self._groups, self._above = volumes, groups, above
        self._sample, self._detailed = Sample(0.0), False
        self._files, self._counted, self._spent = Files(), float("-inf"), 0.0
        self._counting, self._measuring = OneAtATime(), OneAtATime()
        self.v2 = groups.v2  # the machine has version 2 of cgroups
        self._room = Room()
        self._booted = booted(Path("/proc/stat").read_text())
        self._images, self._images_used, self._asked = "", 0, float("-inf")
        self._layers: dict[str, LayerUsage] = {}

    async def sample(self, detailed: bool = False) -> Sample:
        """The figures now; with ``detailed`` those that only cadvisor's metrics show."""
        now = self._world.clock.now()
        if now - self._sample.time < FRESH and (self._detailed or not detailed):
            return self._sample
        before, chosen = self._sample, self.subjects()
        fresh = await beside(lambda: self._read(chosen, now, detailed))
        started = {m.group: m.container.started_at for s in chosen for m in s.members}
        started |= {s.group: s.started for s in chosen} | {NODE: self._booted}
        for group, figures in fresh.figures.items():
            old = before.figures.get(group)
            if old is not None and figures.time - old.time >= FRESH:
                fresh.rates[group] = max(0, int((figures.cpu - old.cpu) / (figures.time - old.time)))
            elif old is not None and group in before.rates:
                fresh.rates[group] = before.rates[group]
            elif 0 < (since := started.get(group, 0.0)) < now:
                fresh.rates[group] = int(figures.cpu / (now - since))  # nothing to compare with yet
        self._sample, self._detailed = fresh, detailed
        return fresh

    def _read(self, chosen: list[Subject], now: float, detailed: bool) -> Sample:
        result = Sample(now, chosen, memory=meminfo())
        for group in (NODE, *self._above(), *(g for s in chosen for g in s.groups())):
            figures = self._groups.read(group, now, detailed)
            if figures is not None:
                result.figures[group] = figures
        result.failed = NODE not in result.figures
        result.networks[""] = network.of_process("self")
        for subject in chosen:
            if subject.pod["spec"].get("hostNetwork"):
                result.networks[subject.uid] = result.networks[""]
            elif pids := self._groups.processes(subject.sandbox_group):
                result.networks[subject.uid] = network.of_process(pids[0])
        return result

    async def files(self) -> Files:
        """What lies on the disks: counted a minute ago at most, and what the runtime said ten seconds ago at most."""
        now = self._world.clock.monotonic()
        if now - self._asked >= LAYERS_FRESH:
            self._asked = now
            try:
                async with asyncio.timeout(self.patience):
                    self._images, self._images_used = await self._runtime.image_filesystem()
                    self._layers = {item.id: item for item in await self._runtime.layers()}
            except (RuntimeFailure, TimeoutError) as failure:
                said = str(failure) or "it does not answer"
                log.warning("the runtime does not tell what images and containers take: %s", said)
        fresh = min(self.files_fresh, max(LAYERS_FRESH, self._spent / SHARE))
        soon = min(fresh, 20 * self._spent)  # pods that are new want to be seen, but not at any price
        age = now - self._counted
        if age >= fresh or (age >= soon and not self._knows_all()):
            chosen = self.subjects()
            counted = await self._counting.run(lambda: self._count(chosen, self._images), PATIENCE)
            if counted is not None:
                self._files = counted
            else:
                log.warning("a file system does not answer: what pods take on disks is not counted now")
            self._counted = now
            self._spent = self._world.clock.monotonic() - now
        self._files.images_used, self._files.layers = self._images_used, self._layers
        return self._files

    async def whole(self) -> Whole:
        """The figures of the node and of its pods together: a handful of files."""
        now = self._world.clock.now()
        pods = next(iter(self._above()), "")

        def read() -> Whole:
            groups = self._groups
            return Whole(now, meminfo().get("MemTotal", 0), groups.read(NODE, now), groups.read(pods, now))

        return await beside(read)

    async def room(self) -> Room:
        """What is left on the disks now; what was left when they last answered, should they hang."""
        if not self._images:
            try:
                async with asyncio.timeout(self.patience):
                    self._images, self._images_used = await self._runtime.image_filesystem()
            except (RuntimeFailure, TimeoutError):
                log.warning("the runtime does not tell where images lie")
        now, images = self._world.clock.now(), self._images or self._root

        def measure() -> Room:
            try:
                apart = os.stat(images).st_dev != os.stat(self._root).st_dev
            except OSError:  # the runtime sees a path that we do not
                return Room(now, disks.disk(self._root))
            return Room(now, disks.disk(self._root), disks.disk(images), apart)

        found = await self._measuring.run(measure, self.patience)
        if found is None:
            log.warning("a file system does not answer: how full it is cannot be seen now")
        self._room = found or self._room
        return self._room

    def _knows_all(self) -> bool:
        return all((s.uid, m.container.name) in self._files.logs for s in self.subjects() for m in s.members)

    def _count(self, chosen: list[Subject], images: str) -> Files:
        files = Files(node=disks.disk(self._root), images=disks.disk(images or self._root))
        files.devices = (disks.device_of(self._root), disks.device_of(images or self._root))
        files.block = disks.number_of(images or self._root)
        files.device_names = {p.name: disks.device_name(p.name) for p in _BLOCK.glob("*")}
        for subject in chosen:
            folder = Path(self._log_directory(subject))
            for member in subject.members:
                name = member.container.name
                files.logs[subject.uid, name] = disks.taken(folder / name)
            for volume, path in self._volumes(subject.uid).items():
                files.volumes[subject.uid, volume] = (disks.disk(path), disks.taken(path))
        return files

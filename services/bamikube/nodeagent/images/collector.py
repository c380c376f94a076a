"""Removing images nobody uses: those too old, and once the disk gets full as many as have to go.

As the kubelet does it. An image that nobody has used for ``max_age`` goes (0: never; counted at the earliest from the start
of the node agent). Above the high threshold unused images go, the one used longest ago first, until as much is free as
the low threshold asks for. One seen for less than ``min_age`` stays: a pod may be about to start from it. Images that
containers were made from, that pods name, or that the runtime pins (the sandbox' pause image) stay always.

Source: "Garbage collection of unused containers and images".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bamikube.kit.world import World
from bamikube.nodeagent import figures
from bamikube.nodeagent.host.threads import OneAtATime
from bamikube.nodeagent.images import names
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import Container, Image, Runtime, RuntimeFailure
from bamikube.nodeagent.stats.disks import Disk, disk

log = logging.getLogger(__name__)

PERIOD = 300.0  # seconds between two looks at the disk
PATIENCE = 10.0  # seconds the disk is waited for


class CollectionFailed(Exception):
    """Not as much could be removed as has to go; the text is Kubernetes'."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Thresholds in percent of the images' disk, ages in seconds; ``high`` 100: the disk is not looked at.

    ``sandbox``: the image sandboxes are made of, for runtimes that do not pin it.
    """

    high: int = 85
    low: int = 80
    min_age: float = 120.0
    max_age: float = 0.0
    sandbox: str = ""


@dataclass(slots=True)
class Seen:
    """When an image was found first, and when it was last in use (seconds since the epoch)."""

    first: float
    used: float


def named(pods: Iterable[JSON]) -> set[str]:
    """The images that pods name, for containers and volumes, as the runtime writes them."""
    found: set[str] = set()
    for pod in pods:
        spec = pod["spec"]
        fields = ("containers", "initContainers", "ephemeralContainers")
        written = [c.get("image", "") for field in fields for c in spec.get(field) or ()]
        written += [
            (v["image"] or {}).get("reference", "") for v in spec.get("volumes") or () if "image" in v
        ]
        found.update(_in_full(text) for text in written)
    return found - {""}


def _in_full(text: str) -> str:
    """An image's name as the runtime writes it; "" for what is none."""
    try:
        name = names.parse(text)
    except ValueError:
        return ""
    return f"{name.repository}@{name.digest}" if name.digest else f"{name.repository}:{name.tag}"


def in_use(image: Image, containers: Iterable[Container], named: set[str]) -> bool:
    """Whether a container, running or dead, was made from it, or a pod names it."""
    known = {image.id, *image.tags, *image.digests}
    return bool(known & named) or any(c.image in known or c.image_ref in known for c in containers)


def _candidates(images: list[Image], seen: dict[str, Seen], busy: set[str]) -> list[Image]:
    """What may go at all, longest unused first."""
    free = [i for i in images if i.id not in busy and not i.pinned and not _pause(i)]
    return sorted(free, key=lambda i: (seen[i.id].used, seen[i.id].first, i.id))


def too_old(
    images: list[Image], seen: dict[str, Seen], busy: set[str], now: float, policy: Policy, since: float
) -> list[Image]:
    """What nobody has used for longer than ``max_age``; ``since``: when the node agent began to look. Pure."""
    if not policy.max_age or now - since <= policy.max_age:
        return []
    free = _candidates(images, seen, busy)
    return [i for i in free if now - max(seen[i.id].used, seen[i.id].first) > policy.max_age]


def victims(
    images: list[Image], seen: dict[str, Seen], busy: set[str], now: float, excess: int, policy: Policy
) -> list[Image]:
    """The images to remove so that ``excess`` bytes become free, longest unused first; [] for no excess. Pure."""
    chosen: list[Image] = []
    free = 0
    for image in _candidates(images, seen, busy):
        if free >= excess:
            break
        if now - seen[image.id].first >= policy.min_age:
            chosen.append(image)
            free += image.size
    return chosen


def excess(found: Disk, policy: Policy) -> int:
    """How many bytes have to become free; 0 below the high threshold. Pure."""
    percent = 100 - found.available * 100 // found.capacity if found.capacity else 0
    if percent < policy.high or policy.high >= 100:
        return 0
    return max(0, found.capacity * (100 - policy.low) // 100 - found.available)


def _pause(image: Image) -> bool:
    """What old runtimes do not pin."""
    return any("/pause:" in tag for tag in image.tags)


class ImageCollector:
    """Looks every few minutes. ``pods`` are those that may still start, ``tell`` writes an event of the node."""

    def __init__(
        self,
        world: World,
        runtime: Runtime,
        policy: Policy,
        pods: Callable[[], Iterable[JSON]] = list,
        tell: Callable[[str, str], None] = lambda reason, message: None,
    ) -> None:
        self._world, self._runtime, self._policy = world, runtime, policy
        self._pods, self._tell = pods, tell
        self._seen: dict[str, Seen] = {}
        self._since = world.clock.now()
        self._failed = False  # the last look
        self._measuring = OneAtATime()

    async def run(self) -> None:
        while True:
            await self.look()
            await self._world.clock.sleep(PERIOD)

    async def look(self) -> None:
        """Collect; only who fails twice in a row says so in an event, for the first time may have been too early."""
        try:
            await self.collect()
        except (CollectionFailed, RuntimeFailure, OSError) as failure:
            text = failure.in_go() if isinstance(failure, RuntimeFailure) else str(failure)
            log.warning("cannot remove unused images as it should be: %s", text)
            if self._failed:
                self._tell("ImageGCFailed", text)
            self._failed = True
        else:
            self._failed = False

    async def _look(self) -> tuple[list[Image], set[str]]:
        """All images, and the ids of those in use."""
        images = await self._runtime.list_images()
        containers = await self._runtime.list_containers()
        now = self._world.clock.now()
        wanted = named(self._pods()) | ({_in_full(self._policy.sandbox)} - {""})
        busy = {image.id for image in images if in_use(image, containers, wanted)}
        self._seen = {i.id: self._seen.get(i.id, Seen(now, 0.0)) for i in images}
        for identity in busy:
            self._seen[identity].used = now
        return images, busy

    async def collect(self) -> list[Image]:
        """One look: remember what is in use, remove what has to go. Returns what was removed.

        Raises RuntimeFailure, and CollectionFailed when too little could go.
        """
        images, busy = await self._look()
        now, policy = self._world.clock.now(), self._policy
        old = too_old(images, self._seen, busy, now, policy, self._since)
        removed, _ = await self._remove(old, "age")
        path, _ = await self._runtime.image_filesystem()
        found = await self._measuring.run(lambda: disk(path), PATIENCE)
        if found is None:
            log.warning("%s does not answer: whether images have to go for space cannot be seen now", path)
            return removed
        if not found.capacity:
            text = "invalid capacity 0 on image filesystem"
            self._tell("InvalidDiskCapacity", text)
            raise CollectionFailed(text)
        wanted = excess(found, policy)
        left = [image for image in images if image not in removed]
        chosen = victims(left, self._seen, busy, now, wanted, policy)
        spare, faults = await self._remove(chosen, "space")
        freed = sum(image.size for image in spare)
        if faults:
            said = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
            raise CollectionFailed(
                f"wanted to free {wanted} bytes, but freed {freed} bytes space with errors in image deletion: {said}"
            )
        if freed < wanted:
            text = (
                "Failed to garbage collect required amount of images. "
                f"Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
            )
            self._tell("FreeDiskSpaceFailed", text)
            raise CollectionFailed(text)
        return removed + spare

    async def remove_unused(self) -> list[Image]:
        """Remove every image that nobody uses, as long as it is known: the disk is under pressure."""
        images, busy = await self._look()
        now, everything = self._world.clock.now(), sum(image.size for image in images) + 1
        chosen = victims(images, self._seen, busy, now, everything, self._policy)
        return (await self._remove(chosen, "space"))[0]

    async def _remove(self, images: list[Image], why: str) -> tuple[list[Image], list[str]]:
        """What was removed, and what the runtime said of those that could not be."""
        removed: list[Image] = []
        faults: list[str] = []
        for image in images:
            try:
                await self._runtime.remove_image(image.id)
            except RuntimeFailure as failure:
                log.warning("cannot remove the image %s: %s", next(iter(image.tags), image.id), failure)
                if failure.in_go() not in faults:
                    faults.append(failure.in_go())
                continue
            figures.IMAGES_REMOVED.labels(why).inc()
            removed.append(image)
            log.info("removed the unused image %s (%d bytes)", next(iter(image.tags), image.id), image.size)
        return removed, faults

"""Removing images nobody uses once the disk gets full.

As the kubelet does it: above the high threshold, unused images go, the one used longest ago first, until as many
bytes are free as the low threshold asks for. An image seen for less than two minutes stays: a pod may be about to
start from it. The sandbox' pause image stays always.

Source: "Garbage collection of unused containers and images" (image-gc-high-threshold 85 %, low 80 %).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass

from bamikube.kit.world import World
from bamikube.nodeagent.runtime.port import Container, Image, Runtime, RuntimeFailure

log = logging.getLogger(__name__)

PERIOD = 300.0  # seconds between two looks at the disk
MINIMUM_AGE = 120.0  # seconds an image must have been known before it may go


@dataclass(slots=True)
class Seen:
    """When an image was found first, and when it was last in use (seconds since the epoch)."""

    first: float
    used: float


def in_use(image: Image, containers: Iterable[Container]) -> bool:
    """Whether a container, running or dead, was made from it."""
    names = {image.id, *image.tags, *image.digests}
    return any(c.image in names or c.image_ref in names for c in containers)


def victims(
    images: list[Image], unused_since: dict[str, Seen], busy: set[str], now: float, excess: int
) -> list[Image]:
    """The images to remove so that ``excess`` bytes become free, longest unused first; [] for no excess."""
    chosen: list[Image] = []
    free = 0
    for image in sorted(images, key=lambda i: (unused_since[i.id].used, unused_since[i.id].first, i.id)):
        if free >= excess:
            break
        if image.id in busy or now - unused_since[image.id].first < MINIMUM_AGE:
            continue
        if any("/pause:" in tag for tag in image.tags):
            continue
        chosen.append(image)
        free += image.size
    return chosen


class ImageCollector:
    """Looks every few minutes; thresholds are percentages of the file system the images lie on."""

    def __init__(self, world: World, runtime: Runtime, high: int, low: int) -> None:
        self._world, self._runtime = world, runtime
        self._high, self._low = high, low
        self._seen: dict[str, Seen] = {}

    async def run(self) -> None:
        while True:
            try:
                await self.collect()
            except (RuntimeFailure, OSError) as failure:
                log.warning("cannot look for unused images: %s", failure)
            await self._world.clock.sleep(PERIOD)

    async def collect(self) -> list[Image]:
        """One look: remember what is in use, remove what has to go. Returns what was removed."""
        images = await self._runtime.list_images()
        containers = await self._runtime.list_containers()
        now = self._world.clock.now()
        busy = {image.id for image in images if in_use(image, containers)}
        self._seen = {i.id: self._seen.get(i.id, Seen(now, 0.0)) for i in images}
        for identity in busy:
            self._seen[identity].used = now
        path, _ = await self._runtime.image_filesystem()
        disk = os.statvfs(path)
        capacity = disk.f_blocks * disk.f_frsize
        used = capacity - disk.f_bavail * disk.f_frsize
        if capacity == 0 or used * 100 < capacity * self._high:
            return []
        excess = used - capacity * self._low // 100
        removed = []
        for image in victims(images, self._seen, busy, now, excess):
            await self._runtime.remove_image(image.id)
            removed.append(image)
            log.info("removed the unused image %s (%d bytes)", next(iter(image.tags), image.id), image.size)
        if sum(image.size for image in removed) < excess:
            log.warning(
                "the images' disk is %d %% full and only %d bytes of unused images could be removed; free space on %s",
                used * 100 // capacity, sum(image.size for image in removed), path,
            )  # fmt: skip
        return removed

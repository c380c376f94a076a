"""How eviction sees the node: a cheap glance each time, a closer look at the pods when it is needed."""

from __future__ import annotations

from typing import Protocol

from bamikube.nodeagent.eviction.decide import Observations
from bamikube.nodeagent.eviction.usage import Uses, observations, uses
from bamikube.nodeagent.stats.sampler import Files, Sample, Sampler
from bamikube.nodeagent.stats.system import limits


class Looks(Protocol):
    """The node, as eviction asks about it."""

    async def glance(self) -> Observations:
        """What is left of everything."""

    async def uses(self) -> Uses:
        """What pods use of memory and processes."""

    async def taken(self) -> Uses:
        """What pods take on disks, which takes longer to find out."""


class SampledLooks:
    """Looks at this machine."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    async def glance(self) -> Observations:
        return observations(await self._sampler.whole(), await self._sampler.room(), limits())

    async def uses(self) -> Uses:
        return uses(await self._sampler.sample(detailed=True), Files())

    async def taken(self) -> Uses:
        files, room = await self._sampler.files(), await self._sampler.room()
        return uses(Sample(room.time, self._sampler.subjects()), files, room.dedicated)

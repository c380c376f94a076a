"""Where a container runs on a machine with managers of resources: on which processors, with memory of which NUMA nodes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bamikube.nodeagent.runtime.port import Resources

UNLIMITED = -1  # microseconds of CPU time per period; unlike 0 it takes away a limit that there was


@dataclass(frozen=True, slots=True)
class Place:
    """``cpus`` and ``memories`` as the kernel lists them, "" for all; ``alone``: nobody else runs on those processors."""

    cpus: str = ""
    memories: str = ""
    alone: bool = False


ANYWHERE = Place()


def placed(resources: Resources, place: Place) -> Resources:
    """What a container may use at its place. Whoever has processors for himself is not held back on them by a quota."""
    quota = UNLIMITED if place.alone else resources.cpu_quota
    return replace(resources, cpus=place.cpus, memories=place.memories, cpu_quota=quota)

"""What a cgroup is bound to, and the files of both versions of cgroups that say so. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bamikube.nodeagent.node.reservations import Bounds


@dataclass(frozen=True, slots=True)
class Limits:
    """0: not given. ``quota``: microseconds of CPU time in each ``period``, -1: as much as there is; ``memory`` in bytes.

    ``huge_pages``: bytes by the kernel's name of a size (``2MB``), of all others none; None: not given.
    """

    shares: int = 0
    quota: int = 0
    period: int = 0
    memory: int = 0
    pids: int = 0
    huge_pages: Mapping[str, int] | None = field(default=None)
    cpus: frozenset[int] = frozenset()  # the processors it runs on; none: all, and nobody is told


def of_bounds(bounds: Bounds) -> Limits:
    return Limits(shares=bounds.shares or 0, memory=bounds.memory or 0, pids=bounds.pids or 0)


def weight(shares: int) -> int:
    """CPU shares as version 2 counts them."""
    return 1 + ((shares - 2) * 9999) // 262142


def files(limits: Limits, hierarchy: str, v2: bool) -> dict[str, str]:
    """The files of a hierarchy (its folder's name with version 1) and what is to be in them; huge pages have their own."""
    cpu: dict[str, str] = {}
    found: dict[str, str] = {}
    if limits.shares:
        cpu |= {"cpu.weight": str(weight(limits.shares))} if v2 else {"cpu.shares": str(limits.shares)}
    if quota := limits.quota:
        v1 = {"cpu.cfs_period_us": str(limits.period), "cpu.cfs_quota_us": str(quota)}
        cpu |= {"cpu.max": f"{quota if quota > 0 else 'max'} {limits.period}"} if v2 else v1
    if v2 or hierarchy in ("cpu", "cpu,cpuacct"):
        found |= cpu
    if limits.memory and (v2 or hierarchy == "memory"):
        found["memory.max" if v2 else "memory.limit_in_bytes"] = str(limits.memory)
    if limits.pids and (v2 or hierarchy == "pids"):
        found["pids.max"] = str(limits.pids)
    return found

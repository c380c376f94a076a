"""cgroups as systemd names and describes them. Pure.

``kubepods/burstable/pod1-2`` is the slice ``kubepods-burstable-pod1_2.slice``: a dash is a step down, so those in names become
underscores, and the folder repeats the names of all above it::

    kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice

A slice is made as a transient unit that wants the one above it; its limits are properties that change while it is there. Source:
systemd.slice(5), systemd.resource-control(5) and org.freedesktop.systemd1(5).
"""

from __future__ import annotations

from collections.abc import Sequence

from bamikube.nodeagent.host.limits import Limits, weight

SUFFIX = ".slice"
INFINITY = 2**64 - 1
_STEP = 10_000  # microseconds of CPU time a second: systemd counts quotas in hundredths of a processor
_PERIODS_SINCE = 242  # the version from which on systemd lets the period be chosen
_CPUS_SINCE = 244

Property = tuple[str, str, object]  # name, D-Bus signature, value


def name(parts: Sequence[str]) -> str:
    """The slice of a cgroup; ``-.slice`` is the root."""
    return "-".join(part.replace("-", "_") for part in parts) + SUFFIX if parts else f"-{SUFFIX}"


def path(parts: Sequence[str]) -> str:
    """Its folder."""
    return "/".join(name(parts[: n + 1]) for n in range(len(parts)))


def parts(slice_name: str) -> tuple[str, ...]:
    """The cgroup of a slice: the way back from :func:`name`."""
    stem = slice_name.removesuffix(SUFFIX)
    return tuple(part.replace("_", "-") for part in stem.split("-")) if stem not in ("", "-") else ()


def unit(parts: Sequence[str], limits: Limits, v2: bool, version: int) -> list[Property]:
    """What a new slice is described by."""
    return [
        ("Description", "s", f"pods' cgroup {'/'.join(parts)}"),
        ("Wants", "as", [name(parts[:-1])]),
        ("MemoryAccounting", "b", True),
        ("CPUAccounting", "b", True),
        ("IOAccounting" if v2 else "BlockIOAccounting", "b", True),
        ("TasksAccounting", "b", True),
        ("DefaultDependencies", "b", False),
        *properties(limits, v2, version),
    ]


def properties(limits: Limits, v2: bool, version: int) -> list[Property]:
    """Its limits; ``version`` is systemd's."""
    found: list[Property] = []
    if limits.memory:
        found.append(("MemoryMax" if v2 else "MemoryLimit", "t", limits.memory))
    if limits.shares:
        found.append(("CPUWeight", "t", weight(limits.shares)) if v2 else ("CPUShares", "t", limits.shares))
    if limits.quota:
        if version >= _PERIODS_SINCE:
            found.append(("CPUQuotaPeriodUSec", "t", limits.period))
        found.append(("CPUQuotaPerSecUSec", "t", _per_second(limits.quota, limits.period)))
    if limits.pids:
        found.append(("TasksMax", "t", limits.pids))
    if limits.cpus and v2 and version >= _CPUS_SINCE:
        found.append(("AllowedCPUs", "ay", _bits(limits.cpus)))
    return found


def _bits(cpus: frozenset[int]) -> bytes:
    """A set of processors, the first in the lowest bit of the first byte."""
    return sum(1 << cpu for cpu in cpus).to_bytes(max(cpus) // 8 + 1, "little")


def _per_second(quota: int, period: int) -> int:
    """Microseconds of CPU time a second, rounded up to what systemd can count."""
    return INFINITY if quota < 0 else -(-(quota * 1_000_000 // period) // _STEP) * _STEP


def version(text: str) -> int:
    """``252 (252.38-1)`` or ``v252.1`` as 252; 0 for what is no version."""
    digits = ""
    for letter in text.removeprefix("v"):
        if not letter.isdigit():
            break
        digits += letter
    return int(digits or 0)

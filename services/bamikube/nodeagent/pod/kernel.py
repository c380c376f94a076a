"""How this node holds containers to their resources: what of the machine and of its configuration enters their cgroups. Pure.

Swap: with cgroup v1 a container's memory and swap together are bound to its memory limit. With v2 its swap is bound by itself: to
nothing, or (``LimitedSwap``) to the part of the machine's swap that its request is of the machine's memory. Only containers of
burstable pods that could use more memory than they request have any; critical pods have none.

Worked example: on 16 GiB with 8 GiB of swap a container that requests 2 GiB may swap 1 GiB.

Source: KEP-2400 (swap), KEP-4205 and the API reference of KubeletConfiguration (``singleProcessOOMKill``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bamikube.api import podresources
from bamikube.api.qos import qos_class
from bamikube.api.quantity import Quantity
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON

PERIOD = 100_000  # microseconds


@dataclass(frozen=True, slots=True)
class Kernel:
    """``huge_pages`` are the sizes that the machine knows, in bytes; ``bounds_swap``: whether its cgroups can."""

    memory: int = 0  # bytes
    swap: int = 0  # bytes
    v2: bool = False
    bounds_swap: bool = False
    limited_swap: bool = False  # LimitedSwap is configured
    single_kill: bool = True  # memory that runs out costs one process, not the whole container
    huge_pages: tuple[int, ...] = ()
    quotas: bool = True  # containers are held to their limits of cpu
    period: int = PERIOD  # microseconds in which such a limit is counted


def page_name(size: int) -> str:
    """A size of huge pages as the kernel's cgroups call it: ``2MB``."""
    amount, unit = size >> 10, 0
    while amount >= 1024 and amount % 1024 == 0:
        amount, unit = amount >> 10, unit + 1
    return f"{amount}{'KMGT'[unit]}B"


def swap_allowed(pod: JSON, spec: JSON, kernel: Kernel) -> int:
    """Bytes of swap that a container may use."""
    if not (kernel.v2 and kernel.bounds_swap and kernel.limited_swap) or facts.critical(pod):
        return 0
    resources = spec.get("resources") or {}
    request, limit = (_memory(resources.get(key)) for key in ("requests", "limits"))
    if (
        qos_class(pod["spec"]) != "Burstable"
        or request == limit
        or not 0 <= request <= kernel.memory
        or not kernel.memory
    ):
        return 0
    return int(request / kernel.memory * kernel.swap)


def _memory(amounts: Mapping[str, str] | None) -> int:
    return podresources.amounts(amounts).get("memory", Quantity(0)).value()


def unified(kernel: Kernel, swap: int | None = None) -> tuple[tuple[str, str], ...]:
    """The files of a cgroup of version 2 that have no field of their own; ``swap`` in bytes, None for what has no bound of it."""
    found = {}
    if kernel.v2 and not kernel.single_kill:
        found["memory.oom.group"] = "1"
    if kernel.v2 and kernel.bounds_swap and swap is not None:
        found["memory.swap.max"] = str(swap)
    return tuple(found.items())

"""What a pod's requests and limits mean to the kernel.

Source of a pod's sums: :mod:`bamikube.api.podresources`. CPU shares run from 2 to 262144 (1024 a core), quotas are counted per 100 ms
unless the node is configured otherwise (:mod:`.kernel`).
"""

from __future__ import annotations

from dataclasses import replace

from bamikube.api import podresources
from bamikube.api.qos import qos_class
from bamikube.api.quantity import Quantity
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.kernel import PERIOD, Kernel, page_name, swap_allowed, unified
from bamikube.nodeagent.quantity import number
from bamikube.nodeagent.runtime.port import Resources

MIN_SHARES = 2
MAX_SHARES = 262_144
MIN_QUOTA = 1_000  # microseconds: the kernel's smallest
GUARANTEED = -997  # the OOM score of who goes last
HUGE = "hugepages-"


def shares(milli: float) -> int:
    return int(min(MAX_SHARES, max(MIN_SHARES, milli * 1024 // 1000)))


def quota(milli: float, period: int = PERIOD) -> int:
    """Microseconds of CPU time per period; 0 for no limit."""
    return 0 if milli <= 0 else int(max(MIN_QUOTA, milli * period // 1000))


def _linux(
    kernel: Kernel, request: float | None, limit: float, memory: int, swap: int | None = None
) -> Resources:
    """Amounts as cgroup values: thousandths of a processor and bytes. Who requests nothing is taken to request the limit."""
    return Resources(
        cpu_shares=shares(limit if request is None else request),
        cpu_quota=quota(limit, kernel.period) if kernel.quotas else 0,
        cpu_period=kernel.period if kernel.quotas else 0,
        memory_limit=memory,
        unified=unified(kernel, swap),
    )


def container_resources(pod: JSON, spec: JSON, kernel: Kernel) -> Resources:
    """The cgroup values of one container; one without limits has the pod's."""
    resources = spec.get("resources") or {}
    whole = podresources.amounts((pod["spec"].get("resources") or {}).get("limits"))
    own = podresources.amounts(resources.get("limits"))
    limits = whole | {name: amount for name, amount in own.items() if amount}
    request = podresources.amounts(resources.get("requests")).get("cpu")
    memory = limits["memory"].value() if "memory" in limits else 0
    found = _linux(
        kernel,
        request.milli_value() if request is not None else None,
        limits["cpu"].milli_value() if "cpu" in limits else 0,
        memory,
        swap_allowed(pod, spec, kernel),
    )
    pages = _pages(limits)
    return replace(
        found,
        oom_score_adj=oom_score(pod, spec, kernel.memory),
        # none of a size that was not asked for
        huge_pages=tuple((name, pages.get(name, 0)) for name in map(page_name, kernel.huge_pages)),
        swap_limit=memory if kernel.bounds_swap and not kernel.v2 else 0,
    )


def pod_cgroup(pod: JSON, period: int = PERIOD) -> Resources:
    """The cgroup values of the pod as a whole: bounded where every container is, or where the pod itself has a limit."""
    spec = pod["spec"]
    limits = podresources.limits(spec)
    whole = (spec.get("resources") or {}).get("limits") or {}
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    parts = [(one.get("resources") or {}).get("limits") or {} for one in containers]
    bounds = {name: limits[name] for name in limits if name in whole or all(name in part for part in parts)}
    request = podresources.requests(spec).get("cpu") or limits.get("cpu")
    return Resources(
        cpu_shares=shares(request.milli_value() if request else 0),
        cpu_quota=quota(bounds["cpu"].milli_value(), period) if "cpu" in bounds else 0,
        cpu_period=period,
        memory_limit=bounds["memory"].value() if "memory" in bounds else 0,
    )


def sandbox_resources(pod: JSON, kernel: Kernel) -> Resources:
    """What the containers may use together, for runtimes that make the sandbox (a small machine, say) that large."""
    spec = {key: value for key, value in pod["spec"].items() if key != "overhead"}
    return _sum(kernel, podresources.requests(spec).get("cpu"), podresources.limits(spec))


def overhead(pod: JSON, kernel: Kernel) -> Resources:
    """What the sandbox itself needs beside its containers, as the pod's RuntimeClass says."""
    given = podresources.amounts(pod["spec"].get("overhead"))
    return _sum(kernel, given.get("cpu", Quantity(0)), given) if given else Resources()


def _sum(kernel: Kernel, request: Quantity | None, limits: podresources.Amounts) -> Resources:
    return _linux(
        kernel,
        request.milli_value() if request is not None else None,
        limits["cpu"].milli_value() if "cpu" in limits else 0,
        limits["memory"].value() if "memory" in limits else 0,
    )


def milli_requested(spec: JSON) -> int:
    """Thousandths of a processor that a pod requests, its overhead included."""
    cpu = podresources.requests(spec).get("cpu")
    return cpu.milli_value() if cpu else 0


def huge_pages(spec: JSON) -> dict[str, int]:
    """How many bytes of each size of huge pages the pod may use; sizes are called as the kernel does: ``2MB``."""
    return _pages(podresources.limits(spec))


def _pages(limits: podresources.Amounts) -> dict[str, int]:
    return {
        page_name(int(number(name.removeprefix(HUGE)))): amount.value()
        for name, amount in limits.items()
        if name.startswith(HUGE)
    }


def oom_score(pod: JSON, spec: JSON, node_memory: int) -> int:
    """Who goes first when memory runs out: 1000 best effort, -997 guaranteed, between them by request.

    What a pod requests as a whole beyond its containers is in equal parts theirs and the init containers'; a sidecar goes after the containers that it serves.
    """
    if facts.critical(pod) and pod["spec"].get("priorityClassName") == "system-node-critical":
        return GUARANTEED
    kind = qos_class(pod["spec"])
    if kind == "Guaranteed":
        return GUARANTEED
    if kind == "BestEffort":
        return 1000
    containers, rest = pod["spec"]["containers"], _rest_of_each(pod["spec"])

    def score(requested: int) -> int:
        return 1000 - 1000 * (requested + rest) // max(1, node_memory)

    own = score(_memory_requested(spec))
    if any(one["name"] == spec["name"] and facts.is_sidecar(one) for one in facts.init_containers(pod)):
        own = min(own, score(min(map(_memory_requested, containers))))
    return min(999, max(1000 + GUARANTEED, own))


def _memory_requested(spec: JSON) -> int:
    return int(number(((spec.get("resources") or {}).get("requests") or {}).get("memory", 0)))


def _rest_of_each(spec: JSON) -> int:
    """Each container's part of the bytes that the pod requests beyond what they do themselves."""
    whole = _memory_requested(spec)
    if not whole:
        return 0
    parts = {key: value for key, value in spec.items() if key not in ("resources", "overhead")}
    given = podresources.requests(parts).get("memory")
    count = len(spec["containers"]) + len(spec.get("initContainers") or ())
    return max(0, whole - (given.value() if given else 0)) // count

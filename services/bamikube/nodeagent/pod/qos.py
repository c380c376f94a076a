"""What a pod's requests and limits mean to the kernel.

Source of a pod's sums: :mod:`bamikube.api.podresources`. CPU shares run from 2 to 262144 (1024 a core), quotas are counted per 100 ms.
"""

from __future__ import annotations

from bamikube.api import podresources
from bamikube.api.qos import qos_class
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.quantity import number
from bamikube.nodeagent.runtime.port import Resources

PERIOD = 100_000  # microseconds
MIN_SHARES = 2
MAX_SHARES = 262_144
MIN_QUOTA = 1_000  # microseconds: the kernel's smallest
GUARANTEED = -997  # the OOM score of who goes last
HUGE = "hugepages-"


def shares(milli: float) -> int:
    return int(min(MAX_SHARES, max(MIN_SHARES, milli * 1024 // 1000)))


def quota(milli: float) -> int:
    """Microseconds of CPU time per period; 0 for no limit."""
    return 0 if milli <= 0 else int(max(MIN_QUOTA, milli * PERIOD // 1000))


def container_resources(pod: JSON, spec: JSON, node_memory: int) -> Resources:
    """The cgroup values of one container; one without limits has the pod's. ``node_memory`` in bytes scales the OOM score."""
    resources = spec.get("resources") or {}
    whole = (pod["spec"].get("resources") or {}).get("limits") or {}
    limits = whole | (resources.get("limits") or {})
    requests = resources.get("requests") or {}
    cpu_limit = float(number(limits["cpu"]) * 1000) if "cpu" in limits else 0.0
    cpu_request = float(number(requests["cpu"]) * 1000) if "cpu" in requests else cpu_limit
    memory = int(number(limits["memory"])) if "memory" in limits else 0
    return Resources(
        cpu_shares=shares(cpu_request),
        cpu_quota=quota(cpu_limit),
        cpu_period=PERIOD,
        memory_limit=memory,
        oom_score_adj=oom_score(pod, spec, node_memory),
    )


def pod_cgroup(pod: JSON) -> Resources:
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
        cpu_quota=quota(bounds["cpu"].milli_value()) if "cpu" in bounds else 0,
        cpu_period=PERIOD,
        memory_limit=bounds["memory"].value() if "memory" in bounds else 0,
    )


def sandbox_resources(pod: JSON) -> Resources:
    """What the containers may use together, for runtimes that make the sandbox (a small machine, say) that large."""
    return pod_cgroup({"spec": {key: value for key, value in pod["spec"].items() if key != "overhead"}})


def overhead(pod: JSON) -> Resources:
    """What the sandbox itself needs beside its containers, as the pod's RuntimeClass says."""
    given = podresources.amounts(pod["spec"].get("overhead"))
    if not given:
        return Resources()
    return Resources(
        cpu_shares=shares(given["cpu"].milli_value()) if "cpu" in given else 0,
        cpu_quota=quota(given["cpu"].milli_value()) if "cpu" in given else 0,
        cpu_period=PERIOD,
        memory_limit=given["memory"].value() if "memory" in given else 0,
    )


def milli_requested(spec: JSON) -> int:
    """Thousandths of a processor that a pod requests, its overhead included."""
    cpu = podresources.requests(spec).get("cpu")
    return cpu.milli_value() if cpu else 0


def huge_pages(spec: JSON) -> dict[str, int]:
    """How many bytes of each size of huge pages the pod may use; sizes are called as the kernel does: ``2MB``."""
    found = {}
    for name, amount in podresources.limits(spec).items():
        if name.startswith(HUGE):
            size, unit = int(number(name.removeprefix(HUGE))) >> 10, 0
            while size >= 1024 and size % 1024 == 0:
                size, unit = size >> 10, unit + 1
            found[f"{size}{'KMGT'[unit]}B"] = amount.value()
    return found


def oom_score(pod: JSON, spec: JSON, node_memory: int) -> int:
    """Who goes first when memory runs out: 1000 best effort, -997 guaranteed, between them by request.

    What a pod requests as a whole beyond its containers is theirs in equal parts; a sidecar goes after the containers that it serves.
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
    return max(0, whole - (given.value() if given else 0)) // len(spec["containers"])

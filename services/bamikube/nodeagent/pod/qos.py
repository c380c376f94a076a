"""What a pod's requests and limits mean to the kernel.

Source of a pod's sums: :mod:`bamikube.api.podresources`. CPU shares run from 2 to 262144 (1024 a core), quotas are counted per 100 ms.
"""

from __future__ import annotations

from bamikube.api import podresources
from bamikube.api.qos import qos_class
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.quantity import number
from bamikube.nodeagent.runtime.port import Resources

PERIOD = 100_000  # microseconds
MIN_SHARES = 2
MAX_SHARES = 262_144
MIN_QUOTA = 1_000  # microseconds: the kernel's smallest


def shares(milli: float) -> int:
    return int(min(MAX_SHARES, max(MIN_SHARES, milli * 1024 // 1000)))


def quota(milli: float) -> int:
    """Microseconds of CPU time per period; 0 for no limit."""
    return 0 if milli <= 0 else int(max(MIN_QUOTA, milli * PERIOD // 1000))


def container_resources(pod: JSON, spec: JSON, node_memory: int) -> Resources:
    """The cgroup values of one container. ``node_memory`` in bytes scales the OOM score."""
    resources = spec.get("resources") or {}
    limits = resources.get("limits") or {}
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


def oom_score(pod: JSON, spec: JSON, node_memory: int) -> int:
    """Who goes first when memory runs out: 1000 best effort, -997 guaranteed, between them by request."""
    if pod["spec"].get("priorityClassName") == "system-node-critical":
        return -997
    kind = qos_class(pod["spec"])
    if kind == "Guaranteed":
        return -997
    if kind == "BestEffort":
        return 1000
    request = float(number(((spec.get("resources") or {}).get("requests") or {}).get("memory", 0)))
    score = 1000 - int(1000 * request / max(1, node_memory))
    return min(999, max(3, score))

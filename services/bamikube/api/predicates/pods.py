"""What state a pod is in, as every controller, the proxy's endpoints and the scheduler must agree on.

Source: the Pod Lifecycle documentation and ``k8s.io/kubernetes/pkg/api/v1/pod``'s published behaviour.
"""

from __future__ import annotations

from typing import Any

from bamikube.api.predicates.conditions import find
from bamikube.api.times import seconds

Pod = dict[str, Any]


def phase(pod: Pod) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def is_terminal(pod: Pod) -> bool:
    """All containers have ended and none will be started again."""
    return phase(pod) in ("Succeeded", "Failed")


def is_terminating(pod: Pod) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def is_active(pod: Pod) -> bool:
    """Counts as a replica: neither ended nor on its way out."""
    return not is_terminal(pod) and not is_terminating(pod)


def is_ready(pod: Pod) -> bool:
    condition = find(pod, "Ready")
    return condition is not None and condition.get("status") == "True"


def is_available(pod: Pod, min_ready_seconds: int, now: float) -> bool:
    """Ready for at least ``min_ready_seconds`` (``now`` in seconds since the epoch)."""
    return is_ready(pod) and available_in(pod, min_ready_seconds, now) <= 0


def available_in(pod: Pod, min_ready_seconds: int, now: float) -> float:
    """Seconds until a ready pod becomes available; 0 or less when it is."""
    if min_ready_seconds <= 0:
        return 0.0
    since = seconds((find(pod, "Ready") or {}).get("lastTransitionTime"))
    return since + min_ready_seconds - now if since else float(min_ready_seconds)


def restarts(pod: Pod) -> int:
    """The highest restart count among the pod's containers."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return max((int(status.get("restartCount") or 0) for status in statuses), default=0)


def node_name(pod: Pod) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")

"""The status of a Deployment: counts summed over its ReplicaSets, and the conditions Available, Progressing and
ReplicaFailure with the words ``kubectl rollout status`` and ``kubectl wait`` look for.

Pure: the status before and the sets in, the status that follows out. Source: the Deployment API types.
"""

from __future__ import annotations

from typing import Any

from bamikube.api.predicates.conditions import find, put
from bamikube.api.times import seconds, stamp
from bamikube.controllers.deployment_sets import counted, limits, size

Object = dict[str, Any]


def complete(deployment: Object, sets: list[Object], new: Object | None) -> bool:
    """All pods are of the new template and available, and no old one is left."""
    wanted = int(deployment["spec"].get("replicas", 1))
    if new is None:
        return False
    total = sum(counted(rs, "replicas") for rs in sets)
    return counted(new, "replicas") == wanted == total and counted(new, "availableReplicas") == wanted


def status_of(
    deployment: Object, sets: list[Object], new: Object | None, now: float, *, created: Object | None = None
) -> Object:
    """The status that follows from the ReplicaSets' own."""
    old = deployment.get("status") or {}
    wanted = int(deployment["spec"].get("replicas", 1))
    total = sum(counted(rs, "replicas") for rs in sets)
    available = sum(counted(rs, "availableReplicas") for rs in sets)
    status: Object = {"observedGeneration": deployment["metadata"].get("generation", 0)}
    counts = {
        "replicas": total,
        "updatedReplicas": counted(new, "replicas") if new is not None else 0,
        "readyReplicas": sum(counted(rs, "readyReplicas") for rs in sets),
        "availableReplicas": available,
        "unavailableReplicas": max(
            0, sum(size(rs) for rs in [*sets, *([created] if created else [])]) - available
        ),
    }
    status |= {name: count for name, count in counts.items() if count}
    if old.get("collisionCount"):
        status["collisionCount"] = old["collisionCount"]
    _, unavailable = limits(deployment)
    stamp_now = stamp(now)
    conditions = list(old.get("conditions") or [])
    if available >= wanted - unavailable:
        verdict = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        verdict = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    conditions = _put(conditions, "Available", verdict, stamp_now)
    progress = _progress(deployment, sets, new, counts, created, now)
    if progress is not None:
        # Every step forward starts the deadline anew, also when the words stay the same.
        renew = progress[1] == "ReplicaSetUpdated"
        conditions = _put(conditions, "Progressing", progress, stamp_now, renew=renew)
    # What ails the new set is said rather than what ails an old one.
    ordered = [rs for rs in sets if rs is new] + [rs for rs in sets if rs is not new]
    failure = next((failure for rs in ordered if (failure := find(rs, "ReplicaFailure"))), None)
    if failure is None:
        conditions = [condition for condition in conditions if condition["type"] != "ReplicaFailure"]
    else:
        verdict = (failure["status"], failure.get("reason", ""), failure.get("message", ""))
        conditions = _put(conditions, "ReplicaFailure", verdict, stamp_now)
    status["conditions"] = conditions
    return status


def _put(
    conditions: list[Object], type: str, verdict: tuple[str, str, str], now: str, *, renew: bool = False
) -> list[Object]:
    """As ``conditions.put``, with ``lastUpdateTime``, which moves when anything about the condition does."""
    status, reason, message = verdict
    old = next((condition for condition in conditions if condition["type"] == type), None)
    same = old is not None and (old.get("status"), old.get("reason"), old.get("message")) == verdict
    if same and not renew:
        return conditions
    new = {"type": type, "status": status, "reason": reason, "message": message, "lastUpdateTime": now}
    return put(conditions, new, now)


def _progress(
    deployment: Object,
    sets: list[Object],
    new: Object | None,
    counts: dict[str, int],
    created: Object | None,
    now: float,
) -> tuple[str, str, str] | None:
    """The Progressing condition: ``(status, reason, message)``, or None to leave it as it is."""
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    if deadline is None or deadline == 2**31 - 1:
        return None
    old = find(deployment, "Progressing")
    reason = old.get("reason", "") if old is not None else ""
    if deployment["spec"].get("paused"):
        if reason == "ProgressDeadlineExceeded":
            return None
        return ("Unknown", "DeploymentPaused", "Deployment is paused")
    if created is not None:
        made = created["metadata"]["name"]
        return ("True", "NewReplicaSetCreated", f'Created new replica set "{made}"')
    if reason == "DeploymentPaused":
        return ("Unknown", "DeploymentResumed", "Deployment is resumed")
    if new is None:
        return None
    rs = new["metadata"]["name"]
    if reason == "NewReplicaSetAvailable" and counts["replicas"] == counts["updatedReplicas"]:
        # The rollout is over: pods that fail later, or a change of size, do not start it again.
        return None
    if complete(deployment, sets, new):
        return ("True", "NewReplicaSetAvailable", f'ReplicaSet "{rs}" has successfully progressed.')
    before = deployment.get("status") or {}
    moved = (
        counts["updatedReplicas"] > counted({"status": before}, "updatedReplicas")
        or counts["readyReplicas"] > counted({"status": before}, "readyReplicas")
        or counts["availableReplicas"] > counted({"status": before}, "availableReplicas")
        or counts["replicas"] - counts["updatedReplicas"]
        < counted({"status": before}, "replicas") - counted({"status": before}, "updatedReplicas")
    )
    if moved:
        return ("True", "ReplicaSetUpdated", f'ReplicaSet "{rs}" is progressing.')
    if old is None:
        return ("True", "FoundNewReplicaSet", f'Found existing replica set "{rs}"')
    if reason in ("ProgressDeadlineExceeded", "NewReplicaSetAvailable"):
        return None
    since = seconds(old.get("lastUpdateTime"))
    if since and since + deadline <= now:
        return ("False", "ProgressDeadlineExceeded", f'ReplicaSet "{rs}" has timed out progressing.')
    return None


def deadline_in(deployment: Object, status: Object, now: float) -> float | None:
    """Seconds until the progress deadline has to be looked at."""
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    condition = find({"status": status}, "Progressing")
    if deadline is None or condition is None:
        return None
    if condition.get("reason") in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded", "DeploymentPaused"):
        return None
    return max(1.0, seconds(condition.get("lastUpdateTime")) + float(deadline) - now + 1)

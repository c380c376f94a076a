"""Deployments: a history of ReplicaSets, of which one is wanted.

``plan`` is pure: deployment, its ReplicaSets and pods in; what to create, scale, annotate and delete out, each with
its reason, and the status that follows. The rolling update keeps two promises at every step: never more than
``replicas + maxSurge`` pods, never fewer than ``replicas - maxUnavailable`` available ones.

Worked example (replicas 3, surge 1, unavailable 0, old set has 3 available pods): the new set starts with 1 (3+1 pods);
when that one is available, one old pod may go; the new set grows to 2; and so on, until the old set is empty.

Source: the Deployment documentation and API types; annotation names are Kubernetes' own, since ``kubectl rollout``
reads them.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any

from bamikube.api.predicates import pods as pod_state
from bamikube.api.predicates.conditions import find, put
from bamikube.api.times import seconds, stamp

Object = dict[str, Any]

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"

# Annotations of the Deployment that say something about it alone and are not handed on to its ReplicaSets.
_OWN_ANNOTATIONS = {
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
}
# Letters of the revision-history annotation; the oldest revisions make room.
MAX_HISTORY = 2000

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(slots=True)
class Scale:
    """Set one ReplicaSet to ``replicas`` (was ``before``)."""

    rs: Object
    before: int
    replicas: int
    reason: str


@dataclass(slots=True)
class Plan:
    """What to write. ``annotate`` maps a ReplicaSet's name to the annotations it should have; ``min_ready`` holds the
    ``minReadySeconds`` of those (also named in ``annotate``) that have another one than the Deployment."""

    create: Object | None = None
    scale: list[Scale] = field(default_factory=list)
    annotate: dict[str, dict[str, str]] = field(default_factory=dict)
    min_ready: dict[str, int] = field(default_factory=dict)
    delete: list[Object] = field(default_factory=list)
    revision: str = ""
    status: Object = field(default_factory=dict)
    collision: bool = False
    again: float | None = None


def template_hash(template: Object, collisions: int) -> str:
    """A short name for a pod template, stable over time; ``collisions`` makes another one."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":")) + (
        f"#{collisions}" if collisions else ""
    )
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    letters = []
    for _ in range(10):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


def bare_template(template: Object) -> Object:
    """The template without the hash label: what two revisions are compared by."""
    meta = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH_LABEL}
    meta.pop("creationTimestamp", None)
    if labels:
        meta["labels"] = labels
    else:
        meta.pop("labels", None)
    return {"metadata": meta, "spec": template.get("spec") or {}}


def share(value: Any, total: int, *, up: bool) -> int:
    """An int-or-percent of ``total``."""
    if isinstance(value, str) and value.endswith("%"):
        part = total * int(value[:-1]) / 100
        return math.ceil(part - 1e-9) if up else math.floor(part + 1e-9)
    return int(value)


def limits(deployment: Object) -> tuple[int, int]:
    """``(maxSurge, maxUnavailable)`` in pods. Both zero would never move: then one may be unavailable.

    Recreate has neither: while it replaces its pods, the Deployment is not available, and says so.
    """
    spec = deployment["spec"]
    if _recreates(deployment):
        return 0, 0
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    total = int(spec.get("replicas", 1))
    surge = share(rolling.get("maxSurge", "25%"), total, up=True)
    unavailable = share(rolling.get("maxUnavailable", "25%"), total, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, total)


def revision_of(obj: Object) -> int:
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def size(rs: Object) -> int:
    return int(rs["spec"].get("replicas", 1))


def counted(rs: Object, name: str) -> int:
    return int((rs.get("status") or {}).get(name) or 0)


def find_new(deployment: Object, sets: list[Object]) -> Object | None:
    """The ReplicaSet that has the Deployment's template now; the oldest if several do."""
    wanted = bare_template(deployment["spec"]["template"])
    matching = [rs for rs in sets if bare_template(rs["spec"]["template"]) == wanted]
    return min(
        matching,
        key=lambda rs: (rs["metadata"].get("creationTimestamp", ""), rs["metadata"]["name"]),
        default=None,
    )


def new_replica_set(deployment: Object, hash_: str, replicas: int, annotations: dict[str, str]) -> Object:
    """The ReplicaSet for the Deployment's template."""
    spec = deployment["spec"]
    template = json.loads(json.dumps(spec["template"]))
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    labels[HASH_LABEL] = hash_
    selector = json.loads(json.dumps(spec["selector"]))
    selector.setdefault("matchLabels", {})[HASH_LABEL] = hash_
    meta = deployment["metadata"]
    body: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{hash_}",
            "namespace": meta["namespace"],
            "labels": dict(labels),
            "annotations": annotations,
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {"replicas": replicas, "selector": selector, "template": template},
    }
    if spec.get("minReadySeconds"):
        body["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    return body


def _available(rs: Object) -> int:
    """Available pods of a set that will still be there: its status may not have followed a scale-down yet."""
    return min(size(rs), counted(rs, "availableReplicas"))


def _new_size(deployment: Object, sets: list[Object], new: Object | None) -> int:
    """How large the new ReplicaSet may be at this step of a rolling update."""
    wanted = int(deployment["spec"].get("replicas", 1))
    current = size(new) if new is not None else 0
    if current >= wanted:
        return wanted
    surge, _ = limits(deployment)
    room = wanted + surge - sum(size(rs) for rs in sets)
    return current if room <= 0 else min(wanted, current + room)


def _scale_old(deployment: Object, sets: list[Object], new: Object, new_size: int) -> list[Scale]:
    """Which old ReplicaSets may shrink now: first their unhealthy pods, then as many as availability allows."""
    wanted = int(deployment["spec"].get("replicas", 1))
    _, unavailable = limits(deployment)
    olds = [rs for rs in sets if rs is not new and size(rs) > 0]
    minimum = wanted - unavailable
    total = sum(size(rs) for rs in sets)
    # Pods of the new set that are not available yet must not be counted on.
    new_missing = max(0, new_size - counted(new, "availableReplicas"))
    room = total - size(new) + new_size - minimum - new_missing
    if room <= 0 or not olds:
        return []
    targets = {rs["metadata"]["name"]: size(rs) for rs in olds}
    olds.sort(key=lambda rs: rs["metadata"].get("creationTimestamp", ""))
    unhealthy_left = room
    for rs in olds:
        gone = min(unhealthy_left, size(rs) - _available(rs))
        targets[rs["metadata"]["name"]] -= gone
        unhealthy_left -= gone
    available = sum(_available(rs) for rs in sets)
    healthy_room = available - minimum
    for rs in olds:
        if healthy_room <= 0:
            break
        name = rs["metadata"]["name"]
        gone = min(healthy_room, targets[name])
        targets[name] -= gone
        healthy_room -= gone
    return [
        Scale(rs, size(rs), targets[rs["metadata"]["name"]], "rolling update")
        for rs in olds
        if targets[rs["metadata"]["name"]] != size(rs)
    ]


def _proportional(deployment: Object, sets: list[Object], new: Object | None) -> list[Scale]:
    """The Deployment was resized in the middle of a rollout (or while paused): resize all sets in proportion."""
    wanted = int(deployment["spec"].get("replicas", 1))
    active = [rs for rs in sets if size(rs) > 0]
    if len(active) <= 1:
        only = active[0] if active else (new or (max(sets, key=revision_of) if sets else None))
        if only is None or size(only) == wanted:
            return []
        return [Scale(only, size(only), wanted, "deployment was scaled")]
    if new is not None and counted(new, "availableReplicas") == wanted == size(new):
        return [Scale(rs, size(rs), 0, "new replica set is complete") for rs in active if rs is not new]
    surge, _ = limits(deployment)
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        surge = 0
    allowed = wanted + surge if wanted > 0 else 0
    total = sum(size(rs) for rs in active)
    spare = allowed - total
    if spare == 0:
        return []
    # Largest first when growing, so that the biggest set takes the rounding; smallest last when shrinking.
    ordered = sorted(active, key=lambda rs: (-size(rs), -revision_of(rs) if spare > 0 else revision_of(rs)))
    result = []
    left = spare
    for rs in ordered:
        known = (rs["metadata"].get("annotations") or {}).get(MAX, "")
        before = int(known) if known.isdigit() and int(known) > 0 else total
        # Half a pod rounds up; wanted == 0 takes all there are.
        part = math.floor(size(rs) * allowed / before + 0.5) - size(rs)
        part = max(0, min(part, left)) if spare > 0 else min(0, max(part, left))
        left -= part
        result.append(Scale(rs, size(rs), size(rs) + part, "deployment was scaled during a rollout"))
    first = result[0]
    first.replicas = max(0, first.replicas + left)
    return [scale for scale in result if scale.replicas != scale.before]


def _resized(deployment: Object, sets: list[Object]) -> bool:
    """Whether the wanted size has changed since the active sets were last scaled."""
    wanted = str(deployment["spec"].get("replicas", 1))
    for rs in sets:
        known = (rs["metadata"].get("annotations") or {}).get(DESIRED)
        if size(rs) > 0 and known is not None and known != wanted:
            return True
    return False


def plan(deployment: Object, sets: list[Object], old_pods_remain: bool, now: float) -> Plan:
    """The next step for ``deployment`` whose ReplicaSets are ``sets`` (already claimed).

    ``old_pods_remain`` matters to the Recreate strategy: whether pods of older sets still exist.
    """
    result = Plan()
    spec = deployment["spec"]
    new = find_new(deployment, sets)
    olds = [rs for rs in sets if rs is not new]
    if "deletionTimestamp" in deployment["metadata"]:
        result.status = status_of(deployment, sets, new, now)
        return result
    paused = bool(spec.get("paused"))
    surge, _ = limits(deployment)
    wanted = int(spec.get("replicas", 1))
    newest = max((revision_of(rs) for rs in olds), default=0)
    sizes = {DESIRED: str(wanted), MAX: str(wanted + (0 if _recreates(deployment) else surge))}
    handed_on = {
        key: value
        for key, value in (deployment["metadata"].get("annotations") or {}).items()
        if key not in _OWN_ANNOTATIONS
    }
    if new is not None:
        _mark_new(result, deployment, new, newest, handed_on)
    if paused or _resized(deployment, sets):
        result.scale = _proportional(deployment, sets, new)
        if paused:
            result.delete = _history_beyond(deployment, olds)
    elif _recreates(deployment) and any(size(rs) > 0 for rs in olds):
        result.scale = [Scale(rs, size(rs), 0, "recreate") for rs in olds if size(rs) > 0]
    elif _recreates(deployment) and old_pods_remain:
        pass  # the new set waits until the last old pod is gone
    elif new is None:
        result.revision = str(newest + 1)
        collisions = int((deployment.get("status") or {}).get("collisionCount") or 0)
        hash_ = template_hash(spec["template"], collisions)
        if any(rs["metadata"]["name"] == f"{deployment['metadata']['name']}-{hash_}" for rs in sets):
            result.collision = True
        replicas = _new_size(deployment, sets, None)
        annotations = handed_on | sizes | {REVISION: result.revision}
        result.create = new_replica_set(deployment, hash_, replicas, annotations)
    else:
        replicas = _new_size(deployment, sets, new)
        if replicas != size(new):
            result.scale.append(Scale(new, size(new), replicas, "rolling update"))
        else:
            result.scale += _scale_old(deployment, sets, new, replicas)
        if not result.scale and complete(deployment, sets, new):
            result.delete = _history_beyond(deployment, olds)
    for scale in result.scale:
        name = scale.rs["metadata"]["name"]
        base = result.annotate.get(name, dict(scale.rs["metadata"].get("annotations") or {}))
        result.annotate[name] = base | sizes
    if not result.scale and not paused:
        for rs in sets:
            has = result.annotate.get(rs["metadata"]["name"], dict(rs["metadata"].get("annotations") or {}))
            if size(rs) > 0 and any(has.get(key) != value for key, value in sizes.items()):
                result.annotate[rs["metadata"]["name"]] = has | sizes
    result.status = status_of(deployment, sets, new, now, created=result.create)
    result.again = _deadline_in(deployment, result.status, now)
    return result


def _mark_new(result: Plan, deployment: Object, new: Object, newest: int, handed_on: dict[str, str]) -> None:
    """The new set carries the highest revision, the Deployment's annotations and its ``minReadySeconds``."""
    revision = max(newest + 1, revision_of(new))
    result.revision = str(revision)
    has = dict(new["metadata"].get("annotations") or {})
    wants = has | handed_on | {REVISION: str(revision)}
    if revision != revision_of(new) and revision_of(new):
        past = [part for part in has.get(HISTORY, "").split(",") if part]
        past.append(str(revision_of(new)))
        while len(",".join(past)) > MAX_HISTORY:
            past.pop(0)
        wants[HISTORY] = ",".join(past)
    min_ready = int(deployment["spec"].get("minReadySeconds") or 0)
    name = new["metadata"]["name"]
    if min_ready != int(new["spec"].get("minReadySeconds") or 0):
        result.min_ready[name] = min_ready
    if wants != has or name in result.min_ready:
        result.annotate[name] = wants


def _recreates(deployment: Object) -> bool:
    return (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"


def _history_beyond(deployment: Object, olds: list[Object]) -> list[Object]:
    keep = int(deployment["spec"].get("revisionHistoryLimit", 10))
    idle = [
        rs
        for rs in olds
        if size(rs) == 0
        and counted(rs, "replicas") == 0
        and "deletionTimestamp" not in rs["metadata"]
        and rs["metadata"].get("generation", 0) <= counted(rs, "observedGeneration")
    ]
    idle.sort(key=revision_of)
    return idle[: max(0, len(idle) - keep)]


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


def _deadline_in(deployment: Object, status: Object, now: float) -> float | None:
    """Seconds until the progress deadline has to be looked at."""
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    condition = find({"status": status}, "Progressing")
    if deadline is None or condition is None:
        return None
    if condition.get("reason") in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded", "DeploymentPaused"):
        return None
    return max(1.0, seconds(condition.get("lastUpdateTime")) + float(deadline) - now + 1)


def any_pods(pods: list[Object]) -> bool:
    """Whether any of these pods still runs or may run."""
    return any(not pod_state.is_terminal(pod) for pod in pods)

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

import math
from dataclasses import dataclass, field
from typing import Any

from bamikube.api.predicates import pods as pod_state
from bamikube.controllers.deployment_sets import (
    REVISION,
    counted,
    find_new,
    limits,
    new_replica_set,
    recreates,
    revision_of,
    size,
    template_hash,
)
from bamikube.controllers.deployment_status import complete, deadline_in, status_of

Object = dict[str, Any]

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
    sizes = {DESIRED: str(wanted), MAX: str(wanted + (0 if recreates(deployment) else surge))}
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
    elif recreates(deployment) and any(size(rs) > 0 for rs in olds):
        result.scale = [Scale(rs, size(rs), 0, "recreate") for rs in olds if size(rs) > 0]
    elif recreates(deployment) and old_pods_remain:
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
    result.again = deadline_in(deployment, result.status, now)
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


def any_pods(pods: list[Object]) -> bool:
    """Whether any of these pods still runs or may run."""
    return any(not pod_state.is_terminal(pod) for pod in pods)

"""Rules of the kinds of ``apps``, of replication controllers, pod templates and disruption budgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1123_label
from bamikube.api.validation.pod import pod_template
from bamikube.api.validation.rules import (
    forbidden,
    immutable,
    invalid,
    label_selector,
    named,
    not_negative,
    one_of,
    required,
)
from bamikube.api.validation.templates import (
    SELECTOR_MISMATCH,
    at_most_all,
    int_or_percent,
    is_zero,
    selector,
    template,
)


def _rollout(spec: dict[str, Any], field: str) -> list[Cause]:
    strategy = spec.get("strategy") or {}
    causes: list[Cause] = []
    if strategy.get("type") == "Recreate" and strategy.get("rollingUpdate") is not None:
        detail = "may not be specified when strategy `type` is 'Recreate'"
        causes.append(forbidden(f"{field}.rollingUpdate", detail))
    elif strategy.get("type") == "RollingUpdate":
        rolling = strategy.get("rollingUpdate") or {}
        unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
        causes += int_or_percent(f"{field}.rollingUpdate.maxUnavailable", unavailable)
        causes += int_or_percent(f"{field}.rollingUpdate.maxSurge", surge)
        if is_zero(unavailable) and is_zero(surge):
            detail = "may not be 0 when `maxSurge` is 0"
            causes.append(invalid(f"{field}.rollingUpdate.maxUnavailable", unavailable, detail))
        causes += at_most_all(f"{field}.rollingUpdate.maxUnavailable", unavailable)
    elif strategy.get("type") != "Recreate":
        causes += one_of(f"{field}.type", strategy.get("type"), ("Recreate", "RollingUpdate"))
    return causes


def _deployment(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = not_negative("spec.replicas", spec.get("replicas"))
    causes += selector(spec) + template(spec) + _rollout(spec, "spec.strategy")
    for name in ("minReadySeconds", "revisionHistoryLimit"):
        causes += not_negative(f"spec.{name}", spec.get(name))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        causes += not_negative("spec.progressDeadlineSeconds", deadline)
        if deadline <= spec.get("minReadySeconds", 0):
            detail = "must be greater than minReadySeconds"
            causes.append(invalid("spec.progressDeadlineSeconds", deadline, detail))
    return causes


def _replica_set(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = not_negative("spec.replicas", spec.get("replicas"))
    causes += not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    return causes + selector(spec) + template(spec)


def _replication_controller(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    causes += not_negative("spec.replicas", spec.get("replicas"))
    chosen = spec.get("selector")
    if not chosen:
        causes.append(required("spec.selector"))
    else:
        given = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        if any(given.get(key) != value for key, value in chosen.items()):
            causes.append(invalid("spec.template.metadata.labels", given, SELECTOR_MISMATCH))
    return causes + template(spec)


def _daemon_update(spec: dict[str, Any]) -> list[Cause]:
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") != "RollingUpdate":
        return one_of("spec.updateStrategy.type", strategy.get("type"), ("RollingUpdate", "OnDelete"))
    rolling, field = strategy.get("rollingUpdate") or {}, "spec.updateStrategy.rollingUpdate"
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    causes: list[Cause] = []
    for name, value in (("maxUnavailable", unavailable), ("maxSurge", surge)):
        causes += int_or_percent(f"{field}.{name}", value) + at_most_all(f"{field}.{name}", value)
    if not is_zero(unavailable) and not is_zero(surge):
        causes.append(invalid(f"{field}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
    elif is_zero(unavailable) and is_zero(surge):
        causes.append(required(f"{field}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return causes


def _daemon_set(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = selector(spec, kind="daemonset") + template(spec, kind="DaemonSet")
    causes += not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    causes += _daemon_update(spec)
    return causes + not_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))


def _stateful_update(spec: dict[str, Any]) -> list[Cause]:
    strategy, field = spec.get("updateStrategy") or {}, "spec.updateStrategy"
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if not kind:
        return [required(field)]
    if kind == "OnDelete":
        detail = "only allowed for updateStrategy 'RollingUpdate'"
        return [invalid(f"{field}.rollingUpdate", rolling, detail)] if rolling is not None else []
    if kind != "RollingUpdate":
        return [invalid(field, strategy, "must be 'RollingUpdate' or 'OnDelete'")]
    return not_negative(f"{field}.rollingUpdate.partition", (rolling or {}).get("partition"))


def _stateful_set(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    management = spec.get("podManagementPolicy")
    if not management:
        causes.append(required("spec.podManagementPolicy"))
    elif management not in ("OrderedReady", "Parallel"):
        causes.append(invalid("spec.podManagementPolicy", management, "must be 'OrderedReady' or 'Parallel'"))
    causes += _stateful_update(spec)
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for name in ("whenDeleted", "whenScaled"):
        field = f"spec.persistentVolumeClaimRetentionPolicy.{name}"
        causes += one_of(field, retention.get(name), ("Retain", "Delete"))
    for name in ("replicas", "minReadySeconds"):
        causes += not_negative(f"spec.{name}", spec.get(name))
    causes += not_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
    return causes + selector(spec, kind="statefulset") + template(spec, kind="StatefulSet")


def _new_stateful_set(obj: dict[str, Any]) -> list[Cause]:
    """Names become those of pods and hosts; older objects may have others and keep them."""
    name = (obj.get("spec") or {}).get("serviceName")
    return named("spec.serviceName", name, is_dns1123_label, needed=False)


_STATEFUL_CHANGES = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def _stateful_set_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    fields = {*after, *before} - set(_STATEFUL_CHANGES)
    if all((after.get(field) or None) == (before.get(field) or None) for field in fields):
        return []
    *first, last = (f"'{name}'" for name in _STATEFUL_CHANGES)
    detail = f"updates to statefulset spec for fields other than {', '.join(first)} and {last} are forbidden"
    return [forbidden("spec", detail)]


def _fixed_selector(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    return immutable(
        "spec.selector", (new.get("spec") or {}).get("selector"), (old.get("spec") or {}).get("selector")
    )


def _controller_revision(obj: dict[str, Any]) -> list[Cause]:
    causes = not_negative("revision", obj.get("revision", 0))
    return causes if obj.get("data") is not None else [*causes, required("data", "data is mandatory")]


def _controller_revision_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    return immutable("data", new.get("data"), old.get("data"))


def _pod_template(obj: dict[str, Any]) -> list[Cause]:
    return pod_template(obj.get("template") or {}, "template")


def _disruption_budget(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        causes.append(invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for name, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is not None:
            causes += int_or_percent(f"spec.{name}", value) + at_most_all(f"spec.{name}", value)
    causes += label_selector("spec.selector", spec.get("selector"))
    if spec.get("unhealthyPodEvictionPolicy") is not None:
        policies = ("AlwaysAllow", "IfHealthyBudget")
        causes += one_of("spec.unhealthyPodEvictionPolicy", spec["unhealthyPodEvictionPolicy"], policies)
    return causes


# --- status ---------------------------------------------------------------------------------------------------------

Status = Callable[[dict[str, Any], dict[str, Any]], list[Cause]]


def _counts(*names: str, within: bool = True) -> Status:
    """Counts in a status: none below zero, and (``within``) none but the first above the number of replicas."""

    def validate(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
        causes: list[Cause] = []
        status = new.get("status") or {}
        for name in names:
            value = status.get(name)
            causes += not_negative(f"status.{name}", value)
            bounded = within and name not in ("replicas", "unavailableReplicas")
            if bounded and value and value > status.get("replicas", 0):
                causes.append(invalid(f"status.{name}", value, "cannot be greater than status.replicas"))
        return causes

    return validate


_REPLICA_COUNTS = _counts("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas")

CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("apps", "controllerrevisions"): _controller_revision,
    ("apps", "deployments"): _deployment,
    ("apps", "replicasets"): _replica_set,
    ("apps", "daemonsets"): _daemon_set,
    ("apps", "statefulsets"): _stateful_set,
    ("", "podtemplates"): _pod_template,
    ("", "replicationcontrollers"): _replication_controller,
    ("policy", "poddisruptionbudgets"): _disruption_budget,
}
ONLY_NEW: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("apps", "statefulsets"): _new_stateful_set,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("apps", "controllerrevisions"): _controller_revision_change,
    ("apps", "deployments"): _fixed_selector,
    ("apps", "replicasets"): _fixed_selector,
    ("apps", "daemonsets"): _fixed_selector,
    ("apps", "statefulsets"): _stateful_set_change,
}
STATUS: dict[tuple[str, str], Status] = {
    ("apps", "deployments"): _counts(
        "replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"
    ),
    ("apps", "replicasets"): _REPLICA_COUNTS,
    ("apps", "statefulsets"): _counts(
        "replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"
    ),
    ("apps", "daemonsets"): _counts(
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        within=False,
    ),
    ("", "replicationcontrollers"): _REPLICA_COUNTS,
    ("policy", "poddisruptionbudgets"): _counts(
        "disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods", within=False
    ),
}

"""Rules of namespaces, nodes, leases, priority classes and runtime classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1123_label, is_label_value, is_qualified_name
from bamikube.api.validation.metadata import finalizer_name
from bamikube.api.validation.pod import tolerations
from bamikube.api.validation.rules import (
    cidr,
    duplicate,
    forbidden,
    immutable,
    invalid,
    labels,
    named,
    not_negative,
    not_negative_amount,
    one_of,
)

HIGHEST_USER_PRIORITY = 1_000_000_000
_SYSTEM_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def _namespace(obj: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    for name in (obj.get("spec") or {}).get("finalizers") or ():
        causes += finalizer_name("spec.finalizers", name)
    return causes


def _taints(field: str, taints: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        path = f"{field}[{index}]"
        key, effect = taint.get("key") or "", taint.get("effect") or ""
        causes += [invalid(f"{path}.key", key, message) for message in is_qualified_name(key)]
        causes += [
            invalid(f"{path}.value", taint["value"], m) for m in is_label_value(taint.get("value") or "")
        ]
        causes += one_of(f"{path}.effect", effect, _EFFECTS)
        if (key, effect) in seen:
            causes.append(_same_taint(path, taint))
        seen.add((key, effect))
    return causes


def _same_taint(path: str, taint: dict[str, Any]) -> Cause:
    cause = duplicate(path, taint)
    return Cause(cause.reason, cause.message + ": taints must be unique by key and effect pair", cause.field)


def _cidrs(spec: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    for index, text in enumerate(cidrs):
        causes += cidr(f"spec.podCIDRs[{index}]", text)
    if spec.get("podCIDRs") and spec.get("podCIDR") and spec["podCIDRs"][0] != spec["podCIDR"]:
        causes.append(invalid("spec.podCIDRs[0]", spec["podCIDRs"][0], "must match `podCIDR`"))
    return causes


def _node(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    return _taints("spec.taints", spec.get("taints") or []) + _cidrs(spec)


def _node_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """A pod CIDR and a provider ID can be given once."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    causes: list[Cause] = []
    if before.get("podCIDR") and after.get("podCIDR") != before.get("podCIDR"):
        causes.append(
            forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')
        )
    if before.get("providerID") and after.get("providerID") != before.get("providerID"):
        causes.append(
            forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid')
        )
    return causes


def _lease(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    duration = spec.get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        causes.append(invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    causes += not_negative("spec.leaseTransitions", spec.get("leaseTransitions"))
    holder, strategy = spec.get("holderIdentity"), spec.get("strategy")
    if holder == "":
        causes.append(invalid("spec.holderIdentity", holder, "must not be empty"))
    if strategy is not None:
        causes += [invalid("spec.strategy", strategy, text) for text in is_qualified_name(strategy)]
    if spec.get("preferredHolder") and not strategy:
        detail = "may only be specified if `strategy` is defined"
        causes.append(forbidden("spec.preferredHolder", detail))
    return causes


def _priority_class(obj: dict[str, Any]) -> list[Cause]:
    name, value = (obj.get("metadata") or {}).get("name") or "", obj.get("value", 0)
    causes: list[Cause] = []
    if name.startswith("system-"):
        if why := _unlike_system_class(name, value, bool(obj.get("globalDefault"))):
            detail = "priority class names with 'system-' prefix are reserved for system use only. error: "
            causes.append(forbidden("metadata.name", detail + why))
    elif value > HIGHEST_USER_PRIORITY:
        causes.append(
            forbidden("value", f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}")
        )
    return causes + one_of("preemptionPolicy", obj.get("preemptionPolicy"), ("Never", "PreemptLowerPriority"))


def _unlike_system_class(name: str, value: Any, default: bool) -> str:
    """What keeps it from being the system's class of that name."""
    if name not in _SYSTEM_CLASSES:
        return f"{name} is not a known system priority class"
    if value != _SYSTEM_CLASSES[name]:
        return f"value of {name} PriorityClass must be {_SYSTEM_CLASSES[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if default else ""


def _priority_class_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    if new.get("value", 0) != old.get("value", 0):
        causes.append(forbidden("value", "may not be changed in an update."))
    if new.get("preemptionPolicy") != old.get("preemptionPolicy"):
        causes.append(invalid("preemptionPolicy", new.get("preemptionPolicy"), "field is immutable"))
    return causes


def _runtime_class(obj: dict[str, Any]) -> list[Cause]:
    causes = named("handler", obj.get("handler"), is_dns1123_label)
    overhead = (obj.get("overhead") or {}).get("podFixed") or {}
    for name, amount in overhead.items():
        causes += not_negative_amount(f"overhead.podFixed[{name}]", amount)
    scheduling = obj.get("scheduling") or {}
    causes += labels("scheduling.nodeSelector", scheduling.get("nodeSelector"))
    given = scheduling.get("tolerations") or []
    causes += tolerations("scheduling.tolerations", given)
    for index, each in enumerate(given):
        if each in given[:index]:
            causes.append(duplicate(f"scheduling.tolerations[{index}]", each))
    return causes


def _runtime_class_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    return immutable("handler", new.get("handler"), old.get("handler"))


def _namespace_status(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    phase = (new.get("status") or {}).get("phase")
    if not (new.get("metadata") or {}).get("deletionTimestamp"):
        if phase != "Active":
            detail = "may only be 'Active' if `deletionTimestamp` is empty"
            return [invalid("status.Phase", phase or "", detail)]
    elif phase != "Terminating":
        detail = "may only be 'Terminating' if `deletionTimestamp` is not empty"
        return [invalid("status.Phase", phase or "", detail)]
    return []


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("", "namespaces"): _namespace,
    ("", "nodes"): _node,
    ("coordination.k8s.io", "leases"): _lease,
    ("scheduling.k8s.io", "priorityclasses"): _priority_class,
    ("node.k8s.io", "runtimeclasses"): _runtime_class,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("", "nodes"): _node_change,
    ("scheduling.k8s.io", "priorityclasses"): _priority_class_change,
    ("node.k8s.io", "runtimeclasses"): _runtime_class_change,
}
STATUS: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("", "namespaces"): _namespace_status,
}

"""Rules of namespaces, nodes, leases, events and priority classes."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_label_value, is_qualified_name
from bamikube.api.validation.metadata import finalizer_name
from bamikube.api.validation.rules import (
    duplicate,
    forbidden,
    invalid,
    named,
    not_negative,
    one_of,
    required,
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
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            causes.append(invalid(f"spec.podCIDRs[{index}]", text, detail))
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
    return causes + not_negative("spec.leaseTransitions", spec.get("leaseTransitions"))


def _event(obj: dict[str, Any]) -> list[Cause]:
    """An event lies in the namespace of what it is about (``default`` for what has none)."""
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    field = "involvedObject.namespace" if "involvedObject" in obj else "regarding.namespace"
    namespace = (obj.get("metadata") or {}).get("namespace") or ""
    elsewhere = about.get("namespace") or ""
    if not elsewhere:
        if namespace not in ("default", "kube-system"):
            return [invalid(field, elsewhere, "does not match event.namespace")]
    elif elsewhere != namespace:
        return [invalid(field, elsewhere, "does not match event.namespace")]
    return []


def _priority_class(obj: dict[str, Any]) -> list[Cause]:
    name, value = (obj.get("metadata") or {}).get("name") or "", obj.get("value", 0)
    causes: list[Cause] = []
    if name.startswith("system-"):
        if _SYSTEM_CLASSES.get(name) != value:
            detail = "priority class names with 'system-' prefix are reserved for system use only. error: "
            detail += (
                f"{name} is not a known system priority class"
                if name not in _SYSTEM_CLASSES
                else "wrong value"
            )
            causes.append(forbidden("metadata.name", detail))
    elif value > HIGHEST_USER_PRIORITY:
        causes.append(
            forbidden("value", f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}")
        )
    return causes + one_of("preemptionPolicy", obj.get("preemptionPolicy"), ("Never", "PreemptLowerPriority"))


def _priority_class_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    if new.get("value", 0) != old.get("value", 0):
        causes.append(forbidden("value", "may not be changed in an update."))
    if new.get("preemptionPolicy") != old.get("preemptionPolicy"):
        causes.append(invalid("preemptionPolicy", new.get("preemptionPolicy"), "field is immutable"))
    return causes


def _runtime_class(obj: dict[str, Any]) -> list[Cause]:
    return named("handler", obj.get("handler"), is_label_value)


def _runtime_class_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    return (
        []
        if new.get("handler") == old.get("handler")
        else [invalid("handler", new.get("handler"), "field is immutable")]
    )


def _controller_revision(obj: dict[str, Any]) -> list[Cause]:
    causes = not_negative("revision", obj.get("revision", 0))
    return causes if obj.get("data") is not None else [*causes, required("data", "data is mandatory")]


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("", "namespaces"): _namespace,
    ("", "nodes"): _node,
    ("", "events"): _event,
    ("events.k8s.io", "events"): _event,
    ("coordination.k8s.io", "leases"): _lease,
    ("scheduling.k8s.io", "priorityclasses"): _priority_class,
    ("node.k8s.io", "runtimeclasses"): _runtime_class,
    ("apps", "controllerrevisions"): _controller_revision,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("", "nodes"): _node_change,
    ("scheduling.k8s.io", "priorityclasses"): _priority_class_change,
    ("node.k8s.io", "runtimeclasses"): _runtime_class_change,
}

"""Scopes: a quota may look at some of the pods only.

All scopes of a quota have to match, and a quota with scopes counts pods (or, for ``VolumeAttributesClass``, claims) and
nothing else.

Source: Kubernetes' "Resource Quotas", quota scopes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bamikube.api.qos import qos_class
from bamikube.api.quota.usage import CLAIMS, PODS, Key

Object = dict[str, Any]


def matches(quota_spec: Mapping[str, Any], key: Key, obj: Object) -> bool:
    """Whether a quota with this spec looks at the object."""
    return all(scope_matches(one, key, obj) for one in requirements_of(quota_spec))


def scope_matches(requirement: Mapping[str, Any], key: Key, obj: Object) -> bool:
    """Whether the object is in one scope."""
    name = requirement["scopeName"]
    if key == PODS and name != "VolumeAttributesClass":
        return _pod_matches(requirement, obj)
    if key == CLAIMS and name == "VolumeAttributesClass":
        return any(_selects(requirement, one) for one in _attribute_classes(obj) or [""])
    return False


def requirements_of(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The scopes of a quota, plain ones and those of its selector."""
    plain = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    return [*plain, *((spec.get("scopeSelector") or {}).get("matchExpressions") or ())]


def _pod_matches(requirement: Mapping[str, Any], pod: Object) -> bool:
    spec = pod.get("spec") or {}
    match requirement["scopeName"]:
        case "Terminating":
            return _ends_by_itself(spec)
        case "NotTerminating":
            return not _ends_by_itself(spec)
        case "BestEffort":
            return qos_class(spec) == "BestEffort"
        case "NotBestEffort":
            return qos_class(spec) != "BestEffort"
        case "PriorityClass":
            return _selects(requirement, str(spec.get("priorityClassName") or ""))
        case "CrossNamespacePodAffinity":
            return _looks_into_other_namespaces(spec)
    return False


def _ends_by_itself(spec: Mapping[str, Any]) -> bool:
    deadline = spec.get("activeDeadlineSeconds")
    return deadline is not None and int(deadline) >= 0


def _selects(requirement: Mapping[str, Any], value: str) -> bool:
    values = requirement.get("values") or ()
    match requirement.get("operator"):
        case "In":
            return bool(value) and value in values
        case "NotIn":
            return value not in values
        case "DoesNotExist":
            return not value
    return bool(value)


def _attribute_classes(claim: Object) -> list[str]:
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    target = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    named = (spec.get("volumeAttributesClassName"), status.get("currentVolumeAttributesClassName"), target)
    return [str(name) for name in named if name]


def _looks_into_other_namespaces(spec: Mapping[str, Any]) -> bool:
    affinity = spec.get("affinity") or {}
    for field in ("podAffinity", "podAntiAffinity"):
        part = affinity.get(field) or {}
        terms = list(part.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        terms += [
            one.get("podAffinityTerm") or {}
            for one in part.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False

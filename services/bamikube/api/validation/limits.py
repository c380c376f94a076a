"""Rules of limit ranges and resource quotas. Source: the API reference, "Limit Ranges", "Resource Quotas"."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_qualified_name
from bamikube.api.quantity import Quantity
from bamikube.api.validation.rules import (
    IMMUTABLE,
    duplicate,
    forbidden,
    invalid,
    not_negative_amount,
    not_supported,
    required,
)

_STANDARD = frozenset({"cpu", "memory", "ephemeral-storage", "storage"})
_COUNTED = frozenset(
    {
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    }
)
_QUOTA = (
    _STANDARD
    | _COUNTED
    | {f"{kind}.{name}" for kind in ("requests", "limits") for name in ("cpu", "memory", "ephemeral-storage")}
    | {"requests.storage"}
)
SCOPES = (
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
)
_OPPOSITE = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
# What a quota with scopes may count of the standard names; others (extended resources, count/...) are not judged.
_POD_AMOUNTS = frozenset(
    {"pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"}
)
_COUNTABLE = dict.fromkeys(SCOPES, _POD_AMOUNTS) | {
    "BestEffort": frozenset({"pods"}),
    "VolumeAttributesClass": frozenset({"persistentvolumeclaims", "requests.storage"}),
}


def _resource_name(field: str, name: str, known: Iterable[str]) -> list[Cause]:
    causes = [invalid(field, name, message) for message in is_qualified_name(name)]
    if causes or "/" in name or name in known or "hugepages-" in name:
        return causes
    return [invalid(field, name, "must be a standard resource type or fully qualified")]


# --- limit ranges ---------------------------------------------------------------------------------------------------

_ORDER = (  # what must not be greater than what, and how a message calls the two
    ("min", "max", "min", "min value", "max value"),
    ("min", "defaultRequest", "defaultRequest", "min value", "default request value"),
    ("defaultRequest", "max", "defaultRequest", "default request value", "max value"),
    ("defaultRequest", "default", "defaultRequest", "default request value", "default limit value"),
    ("min", "default", "default", "min value", "default value"),
    ("default", "max", "default", "default value", "max value"),
)


def _ordered(path: str, item: dict[str, Any], name: str) -> list[Cause]:
    causes: list[Cause] = []
    for low, high, blamed, small, large in _ORDER:
        less, more = (item.get(low) or {}).get(name), (item.get(high) or {}).get(name)
        if less is None or more is None or Quantity.parse(less) <= Quantity.parse(more):
            continue
        field, value = f"{path}.{blamed}[{name}]", str((item.get(blamed) or {})[name])
        causes.append(invalid(field, value, f"{small} {less} is greater than {large} {more}"))
    return causes


def _ratio(path: str, item: dict[str, Any], name: str) -> list[Cause]:
    ratio = (item.get("maxLimitRequestRatio") or {}).get(name)
    if ratio is None:
        return []
    field = f"{path}.maxLimitRequestRatio[{name}]"
    if Quantity.parse(ratio) < Quantity.of(1):
        return [invalid(field, str(ratio), f"ratio {ratio} is less than 1")]
    least, most = (item.get("min") or {}).get(name), (item.get("max") or {}).get(name)
    if least is None or most is None or not Quantity.parse(least).nanos:
        return []
    bound = Quantity.parse(most).nanos / Quantity.parse(least).nanos
    if Quantity.parse(ratio).nanos / 10**9 > bound:
        return [invalid(field, str(ratio), f"ratio {ratio} is greater than max/min = {bound:f}")]
    return []


def _limit_range(obj: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
        path, kind = f"spec.limits[{index}]", item.get("type") or ""
        causes += [invalid(f"{path}.type", kind, message) for message in is_qualified_name(kind)]
        if kind in seen:
            causes.append(duplicate(f"{path}.type", kind))
        seen.add(kind)
        if kind == "Pod":
            for field in ("default", "defaultRequest"):
                if item.get(field):
                    causes.append(forbidden(f"{path}.{field}", "may not be specified when `type` is 'Pod'"))
        if kind == "PersistentVolumeClaim" and not any(
            "storage" in (item.get(field) or {}) for field in ("min", "max")
        ):
            detail = "either minimum or maximum storage value is required, but neither was provided"
            causes.append(required(f"{path}.limits", detail))
        names: dict[str, None] = {}
        for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
            for name in item.get(field) or ():
                causes += _resource_name(f"{path}.{field}[{name}]", name, _STANDARD)
                names[name] = None
        for name in names:
            causes += _ordered(path, item, name) + _ratio(path, item, name)
    return causes


# --- quotas ---------------------------------------------------------------------------------------------------------


def _counts_what_it_may(spec: dict[str, Any], scope: str) -> bool:
    """Whether everything a quota counts can be told apart by the scope."""
    counted = _QUOTA.intersection(spec.get("hard") or {})
    return scope not in _COUNTABLE or counted <= _COUNTABLE[scope]


def _scopes(spec: dict[str, Any]) -> list[Cause]:
    scopes = spec.get("scopes") or []
    causes = [not_supported("spec.scopes", scope, SCOPES) for scope in scopes if scope not in SCOPES]
    if not all(_counts_what_it_may(spec, scope) for scope in scopes):
        causes.append(invalid("spec.scopes", scopes, "unsupported scope applied to resource"))
    for pair in _OPPOSITE:
        if set(pair) <= set(scopes):
            causes.append(invalid("spec.scopes", scopes, "conflicting scopes"))
    return causes + _selected_scopes(spec)


def _selected_scopes(spec: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    selector = spec.get("scopeSelector") or {}
    everywhere = "spec.scopeSelector.matchExpressions"
    chosen: set[str] = set()
    for index, each in enumerate(selector.get("matchExpressions") or ()):
        path = f"{everywhere}[{index}]"
        scope, operator, values = each.get("scopeName"), each.get("operator"), each.get("values") or []
        if scope not in SCOPES:
            causes.append(not_supported(f"{path}.scopeName", scope or "", SCOPES))
        if not _counts_what_it_may(spec, scope or ""):
            causes.append(invalid(everywhere, selector, "unsupported scope applied to resource"))
        if scope not in ("PriorityClass", "VolumeAttributesClass") and operator != "Exists":
            detail = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, "
            detail += "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
            detail += "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
            causes.append(invalid(f"{path}.operator", operator or "", detail))
        if operator in ("In", "NotIn") and not values:
            detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            causes.append(required(f"{path}.values", detail))
        elif operator in ("Exists", "DoesNotExist") and values:
            detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            causes.append(invalid(f"{path}.values", values, detail))
        elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            causes.append(invalid(f"{path}.operator", operator or "", "not a valid selector operator"))
        chosen.add(scope or "")
    for pair in _OPPOSITE:
        if set(pair) <= chosen:
            causes.append(invalid(everywhere, sorted(chosen), "conflicting scopes"))
    return causes


def quota_amounts(field: str, amounts: dict[str, Any]) -> list[Cause]:
    """Names and amounts of a quota: known names, nothing below zero, whole numbers of what is counted."""
    causes: list[Cause] = []
    for name, amount in amounts.items():
        path = f"{field}[{name}]"
        causes += _resource_name(path, name, _QUOTA) + not_negative_amount(path, amount)
        whole = name in _COUNTED or name.startswith("count/") or name.endswith("/persistentvolumeclaims")
        if whole and not Quantity.parse(amount).is_whole():
            causes.append(invalid(path, str(amount), "must be an integer"))
    return causes


def _quota(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    return quota_amounts("spec.hard", spec.get("hard") or {}) + _scopes(spec)


def _quota_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    now, was = after.get("scopes") or [], before.get("scopes") or []
    return [] if sorted(now) == sorted(was) else [invalid("spec.scopes", now, IMMUTABLE)]


def _quota_status(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    status = new.get("status") or {}
    return quota_amounts("status.hard", status.get("hard") or {}) + quota_amounts(
        "status.used", status.get("used") or {}
    )


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("", "limitranges"): _limit_range,
    ("", "resourcequotas"): _quota,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("", "resourcequotas"): _quota_change,
}
STATUS: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("", "resourcequotas"): _quota_status,
}

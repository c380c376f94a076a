"""Rules of horizontal pod autoscalers, in the shape of v2 (v1 is converted before its objects are judged) and of v1.

Source: the API reference (autoscaling/v1 and v2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_path_segment
from bamikube.api.quantity import Quantity
from bamikube.api.validation.rules import (
    forbidden,
    invalid,
    label_selector,
    named,
    not_negative,
    not_supported,
    one_of,
    required,
)

MOST_PERIOD = 1800  # seconds a scaling policy looks back
MOST_WINDOW = 3600  # seconds of stabilization
_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}


def _target_of(field: str, ref: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    for name in ("kind", "name"):
        causes += named(f"{field}.{name}", ref.get(name), is_path_segment)
    return causes


def _target(field: str, target: dict[str, Any]) -> list[Cause]:
    """What a metric shall be: a share, a value, or a value for each pod."""
    causes: list[Cause] = []
    kind = target.get("type")
    if not kind:
        causes.append(required(f"{field}.type", "must specify a metric target type"))
    elif kind not in ("Utilization", "Value", "AverageValue"):
        causes.append(invalid(f"{field}.type", kind, "must be either Utilization, Value, or AverageValue"))
    for name in ("value", "averageValue"):
        amount = target.get(name)
        if amount is not None and Quantity.parse(amount).sign() <= 0:
            causes.append(invalid(f"{field}.{name}", str(amount), "must be positive"))
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        causes.append(invalid(f"{field}.averageUtilization", share, "must be greater than 0"))
    return causes


def _resource(field: str, source: dict[str, Any], *, container: bool) -> list[Cause]:
    causes: list[Cause] = []
    if not source.get("name"):
        causes.append(required(f"{field}.name", "must specify a resource name"))
    if container and not source.get("container"):
        causes.append(required(f"{field}.container", "must specify a container"))
    target = source.get("target") or {}
    causes += _target(f"{field}.target", target)
    share, each = target.get("averageUtilization"), target.get("averageValue")
    if share is None and each is None:
        detail = "must set either a target raw value or a target utilization"
        causes.append(required(f"{field}.target.averageUtilization", detail))
    elif share is not None and each is not None:
        detail = "may not set both a target raw value and a target utilization"
        causes.append(forbidden(f"{field}.target.averageValue", detail))
    return causes


def _metric_name(field: str, metric: dict[str, Any]) -> list[Cause]:
    name = metric.get("name")
    if not name:
        return [required(f"{field}.name", "must specify a metric name")]
    causes = [invalid(f"{field}.name", name, message) for message in is_path_segment(name)]
    return causes + label_selector(f"{field}.selector", metric.get("selector"))


def _custom(field: str, kind: str, source: dict[str, Any]) -> list[Cause]:
    """Metrics of pods, of one object, or from outside."""
    causes: list[Cause] = []
    if kind == "Object":
        causes += _target_of(f"{field}.describedObject", source.get("describedObject") or {})
    causes += _metric_name(f"{field}.metric", source.get("metric") or {})
    target = source.get("target") or {}
    causes += _target(f"{field}.target", target)
    value, each = target.get("value"), target.get("averageValue")
    if kind == "Pods":
        if each is None:
            detail = "must specify a positive target averageValue"
            causes.append(required(f"{field}.target.averageValue", detail))
    elif value is None and each is None:
        what = "value or averageValue" if kind == "Object" else "value for metric or a per-pod target"
        causes.append(required(f"{field}.target.averageValue", f"must set either a target {what}"))
    elif kind == "External" and value is not None and each is not None:
        detail = "may not set both a target value for metric and a per-pod target"
        causes.append(forbidden(f"{field}.target.value", detail))
    return causes


def _metric(field: str, metric: dict[str, Any]) -> list[Cause]:
    kind = metric.get("type")
    if not kind:
        return [required(f"{field}.type", "must specify a metric source type")]
    if kind not in _SOURCES:
        return [not_supported(f"{field}.type", kind, _SOURCES)]
    expected = _SOURCES[kind]
    causes: list[Cause] = []
    for name in _SOURCES.values():
        if name != expected and metric.get(name) is not None:
            causes.append(forbidden(f"{field}.{name}", "must populate the given metric source only"))
    source = metric.get(expected)
    if source is None:
        detail = "must populate information for the given metric source"
        return [*causes, required(f"{field}.{expected}", detail)]
    path = f"{field}.{expected}"
    if kind in ("Resource", "ContainerResource"):
        return causes + _resource(path, source, container=kind == "ContainerResource")
    return causes + _custom(path, kind, source)


def _rules(field: str, rules: dict[str, Any]) -> list[Cause]:
    window = rules.get("stabilizationWindowSeconds")
    causes = not_negative(f"{field}.stabilizationWindowSeconds", window)
    if window is not None and window > MOST_WINDOW:
        detail = f"must be less than or equal to {MOST_WINDOW}"
        causes.append(invalid(f"{field}.stabilizationWindowSeconds", window, detail))
    if rules.get("selectPolicy") is not None:
        causes += one_of(f"{field}.selectPolicy", rules["selectPolicy"], ("Disabled", "Max", "Min"))
    policies = rules.get("policies") or []
    if not policies:
        causes.append(required(f"{field}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(policies):
        path = f"{field}.policies[{index}]"
        causes += one_of(f"{path}.type", policy.get("type"), ("Percent", "Pods"))
        for name in ("value", "periodSeconds"):
            if policy.get(name, 0) <= 0:
                causes.append(invalid(f"{path}.{name}", policy.get(name, 0), "must be greater than zero"))
        if policy.get("periodSeconds", 0) > MOST_PERIOD:
            detail = f"must be less than or equal to {MOST_PERIOD}"
            causes.append(invalid(f"{path}.periodSeconds", policy["periodSeconds"], detail))
    return causes


def _autoscaler(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    if least < 1:
        causes.append(invalid("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        causes.append(invalid("spec.maxReplicas", most, "must be greater than 0"))
    if most < least:
        causes.append(invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    causes += _target_of("spec.scaleTargetRef", spec.get("scaleTargetRef") or {})
    share = spec.get("targetCPUUtilizationPercentage")
    if share is not None and share < 1:
        field = "spec.metrics[0].resource.target.averageUtilization"
        causes.append(invalid(field, share, "must be greater than 0"))
    for index, metric in enumerate(spec.get("metrics") or ()):
        causes += _metric(f"spec.metrics[{index}]", metric)
    behavior = spec.get("behavior") or {}
    for direction in ("scaleUp", "scaleDown"):
        if behavior.get(direction) is not None:
            causes += _rules(f"spec.behavior.{direction}", behavior[direction])
    return causes


def _status(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    status = new.get("status") or {}
    causes: list[Cause] = []
    for name in ("currentReplicas", "desiredReplicas"):
        causes += not_negative(f"status.{name}", status.get(name))
    return causes


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("autoscaling", "horizontalpodautoscalers"): _autoscaler,
}
STATUS: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("autoscaling", "horizontalpodautoscalers"): _status,
}

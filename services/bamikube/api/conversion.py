"""One stored object, two shapes: conversion between versions and groups that share their storage.

- Events are kept as core/v1 events. ``events.k8s.io/v1`` calls the same things ``regarding``, ``note``,
  ``reportingController`` and keeps the older fields under ``deprecated...`` names.
- Autoscalers are kept as autoscaling/v2. What v1 has no words for travels in annotations, as in Kubernetes, so that
  nothing is lost when a v1 client reads, changes and writes.

``to_storage`` and ``from_storage`` return the object itself when there is nothing to do, else a new one; they never
change what they are given.
"""

from __future__ import annotations

import copy
from typing import Any

import orjson

from bamikube.api.resources import Resource
from bamikube.api.schema.written import fill

# events.k8s.io/v1 name -> core/v1 name; everything else is called the same.
_EVENT_NAMES = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_CORE_NAMES = {core: event for event, core in _EVENT_NAMES.items()}


def _core_event(obj: dict[str, Any]) -> dict[str, Any]:
    result = {_EVENT_NAMES.get(field, field): value for field, value in obj.items()}
    result["apiVersion"] = "v1"
    return result


def _new_event(obj: dict[str, Any]) -> dict[str, Any]:
    result = {_CORE_NAMES.get(field, field): value for field, value in obj.items()}
    result["apiVersion"] = "events.k8s.io/v1"
    for field in ("reportingController", "reportingInstance"):  # core/v1 writes them even when they are empty
        if result.get(field) == "":
            del result[field]
    return result


_CPU = "targetCPUUtilizationPercentage"
_CURRENT_CPU = "currentCPUUtilizationPercentage"
_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_CURRENT_METRICS = "autoscaling.alpha.kubernetes.io/current-metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"


def _is_cpu(metric: dict[str, Any]) -> bool:
    resource = metric.get("resource") or {}
    target = resource.get("target") or resource.get("current") or {}
    return (
        metric.get("type") == "Resource"
        and resource.get("name") == "cpu"
        and target.get("averageUtilization") is not None
    )


def _dumped(value: Any) -> str:
    return orjson.dumps(value).decode()


def _loaded(annotations: dict[str, str], key: str) -> Any:
    text = annotations.pop(key, None)
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None  # somebody else's annotation under our name: not worth failing for


def _with_annotations(obj: dict[str, Any], annotations: dict[str, str]) -> dict[str, Any]:
    metadata = dict(obj.get("metadata") or {})
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    return metadata


def _autoscaler_v1(obj: dict[str, Any]) -> dict[str, Any]:
    """v2 to v1: the first cpu metric becomes a field, the rest annotations."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = dict((obj.get("metadata") or {}).get("annotations") or {})
    others: list[Any] = []
    for metric in spec.pop("metrics", None) or ():
        if _is_cpu(metric) and _CPU not in spec:
            spec[_CPU] = metric["resource"]["target"]["averageUtilization"]
        else:
            others.append(metric)
    seen: list[Any] = []
    for metric in status.pop("currentMetrics", None) or ():
        if _is_cpu(metric) and _CURRENT_CPU not in status:
            status[_CURRENT_CPU] = metric["resource"]["current"]["averageUtilization"]
        else:
            seen.append(metric)
    behavior, conditions = spec.pop("behavior", None), status.pop("conditions", None)
    for key, value in (
        (_METRICS, others),
        (_CURRENT_METRICS, seen),
        (_CONDITIONS, conditions),
        (_BEHAVIOR, behavior),
    ):
        if value:
            annotations[key] = _dumped(value)
    result = {
        **obj,
        "apiVersion": "autoscaling/v1",
        "metadata": _with_annotations(obj, annotations),
        "spec": spec,
    }
    if "status" in obj:
        result["status"] = status
    return result


def _cpu_metric(percent: int, field: str) -> dict[str, Any]:
    amount: dict[str, Any] = {"averageUtilization": percent}
    if field == "target":
        amount["type"] = "Utilization"
    return {"type": "Resource", "resource": {"name": "cpu", field: amount}}


def newer_autoscaler(obj: dict[str, Any]) -> dict[str, Any]:
    """v1 to v2: fields and annotations become metrics again."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = dict((obj.get("metadata") or {}).get("annotations") or {})
    metrics = _loaded(annotations, _METRICS) or []
    percent = spec.pop(_CPU, None)
    if percent is not None:
        metrics = [_cpu_metric(percent, "target"), *metrics]
    if metrics:
        spec["metrics"] = metrics
    behavior = _loaded(annotations, _BEHAVIOR)
    if behavior:
        spec["behavior"] = behavior
    seen = _loaded(annotations, _CURRENT_METRICS) or []
    current = status.pop(_CURRENT_CPU, None)
    if current is not None:
        seen = [_cpu_metric(current, "current"), *seen]
    conditions = _loaded(annotations, _CONDITIONS)
    if seen:
        status["currentMetrics"] = seen
    if conditions:
        status["conditions"] = conditions
    if status.get("currentReplicas") == 0:  # v1 writes it also when it is zero
        del status["currentReplicas"]
    result = {
        **obj,
        "apiVersion": "autoscaling/v2",
        "metadata": _with_annotations(obj, annotations),
        "spec": spec,
    }
    if "status" in obj:
        result["status"] = status
    return result


def _other_version(obj: dict[str, Any], wanted: Resource) -> dict[str, Any]:
    """A custom object of strategy None: the versions differ in their name, and in the fields they know."""
    if obj.get("apiVersion") == wanted.api_version or wanted.custom is None:
        return obj
    result = copy.deepcopy(obj)
    result["apiVersion"] = wanted.api_version
    wanted.custom.shape(result)
    return result


_HPA_V2 = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler"


def _filled(definition: str, obj: dict[str, Any]) -> dict[str, Any]:
    """``obj`` with what its own version always writes."""
    fill(definition, obj)
    return obj


def to_storage(resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
    """``obj``, in the shape of ``resource``, as it is stored."""
    if resource.custom is not None:
        return _other_version(obj, resource.custom.family.storage)
    if resource.key == ("events.k8s.io", "events"):
        return _filled("io.k8s.api.core.v1.Event", _core_event(obj))
    if resource.key == ("autoscaling", "horizontalpodautoscalers") and resource.version == "v1":
        return _filled(_HPA_V2, newer_autoscaler(obj))
    return obj


def from_storage(resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
    """``obj``, as it is stored, in the shape of ``resource``."""
    if resource.custom is not None:
        return _other_version(obj, resource)
    if resource.key == ("events.k8s.io", "events"):
        return _filled(resource.definition, _new_event(obj))
    if resource.key == ("autoscaling", "horizontalpodautoscalers") and resource.version == "v1":
        return _filled(resource.definition, _autoscaler_v1(obj))
    return obj

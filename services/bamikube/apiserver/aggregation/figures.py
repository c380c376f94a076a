"""What is counted of aggregation, under Kubernetes' names."""

from __future__ import annotations

from prometheus_client import Gauge

from bamikube.kit.metrics import REGISTRY

_UNAVAILABLE = Gauge(
    "aggregator_unavailable_apiservice",
    "Gauge of APIServices which are marked as unavailable broken down by APIService name.",
    ["name"],
    registry=REGISTRY,
)
# Counted up only; the client library would not have a counter beside a gauge of the same name.
_BECAME = Gauge(
    "aggregator_unavailable_apiservice_total",
    "Counter of APIServices which are marked as unavailable broken down by APIService name and reason.",
    ["name", "reason"],
    registry=REGISTRY,
)


def judged(name: str, available: bool, reason: str, *, changed: bool) -> None:
    _UNAVAILABLE.labels(name).set(0 if available else 1)
    if changed and not available:
        _BECAME.labels(name, reason).inc()


def gone(name: str) -> None:
    try:
        _UNAVAILABLE.remove(name)
    except KeyError:
        return

"""Health checks as metrics, for service levels: ``/metrics/slis`` of every service.

They stand in a registry of their own, as Kubernetes' components serve them under that path alone (KEP-3466).
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from bamikube.kit.tallies import Counters

PATH = "/metrics/slis"
_REGISTRY = CollectorRegistry()

_NOW = Gauge(
    "kubernetes_healthcheck",
    "This metric records the result of a single healthcheck.",
    ["name", "type"],
    registry=_REGISTRY,
)
_ALL = Counters(
    "kubernetes_healthchecks",
    "This metric records the results of all healthcheck.",
    ("name", "status", "type"),
    registry=_REGISTRY,
)


def checked(name: str, kind: str, well: bool) -> None:
    """A check was made. ``kind`` is what was asked: healthz, livez or readyz."""
    _NOW.labels(name, kind).set(1 if well else 0)
    _ALL.of(name, "success" if well else "error", kind).inc()


def render() -> bytes:
    """The text of :data:`PATH`."""
    return generate_latest(_REGISTRY)

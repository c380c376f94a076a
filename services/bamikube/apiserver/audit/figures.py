"""What is counted of auditing, under Kubernetes' names."""

from __future__ import annotations

from prometheus_client import Counter

from bamikube.kit.metrics import REGISTRY

_EVENTS = Counter(
    "apiserver_audit_event",  # the client library adds _total
    "Counter of audit events generated and sent to the audit backend.",
    registry=REGISTRY,
)
_LEVELS = Counter(
    "apiserver_audit_level",
    "Counter of policy levels for audit events (1 per request).",
    ["level"],
    registry=REGISTRY,
)
_ERRORS = Counter(
    "apiserver_audit_error",
    "Counter of audit events that failed to be audited properly, by the backend that failed.",
    ["plugin"],
    registry=REGISTRY,
)


def decided(level: str) -> None:
    _LEVELS.labels(level).inc()


def recorded() -> None:
    _EVENTS.inc()


def lost(plugin: str, events: int = 1) -> None:
    _ERRORS.labels(plugin).inc(events)

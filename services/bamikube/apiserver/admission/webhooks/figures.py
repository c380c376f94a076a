"""What is counted of webhooks, under Kubernetes' names."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from bamikube.kit.metrics import REGISTRY

_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0)

_DURATION = Histogram(
    "apiserver_admission_webhook_admission_duration_seconds",
    "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and type.",
    ["name", "type", "operation", "rejected"],
    buckets=_BUCKETS,
    registry=REGISTRY,
)
_REQUESTS = Counter(
    "apiserver_admission_webhook_request",  # the client library adds _total
    "Admission webhook requests, by name, type, operation, HTTP status code and outcome.",
    ["name", "type", "operation", "code", "rejected"],
    registry=REGISTRY,
)
# Counted up only, but Kubernetes' names have no _total, which the client library would add to a counter.
_REJECTIONS = Gauge(
    "apiserver_admission_webhook_rejection_count",
    "Requests rejected by admission webhooks, by the kind of error and the code given to the client.",
    ["name", "type", "operation", "error_type", "rejection_code"],
    registry=REGISTRY,
)
_FAIL_OPEN = Gauge(
    "apiserver_admission_webhook_fail_open_count",
    "Requests let through because an admission webhook could not be called.",
    ["name", "type"],
    registry=REGISTRY,
)


def called(name: str, kind: str, operation: str, code: int, rejected: bool, seconds: float) -> None:
    """A call ended. ``code`` 0: no answer, counted as 600, as Kubernetes does for codes it does not know."""
    shown = "true" if rejected else "false"
    _DURATION.labels(name, kind, operation, shown).observe(seconds)
    _REQUESTS.labels(name, kind, operation, str(code or 600), shown).inc()


def rejected(name: str, kind: str, operation: str, error_type: str, code: int) -> None:
    """``error_type``: calling_webhook_error, apiserver_internal_error or no_error."""
    _REJECTIONS.labels(name, kind, operation, error_type, str(min(code, 600))).inc()


def opened(name: str, kind: str) -> None:
    _FAIL_OPEN.labels(name, kind).inc()

"""What is counted of policies, under Kubernetes' names."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Histogram

from bamikube.kit.metrics import REGISTRY

_LABELS = ("policy", "policy_binding", "error_type", "enforcement_action")
_BUCKETS = (0.0000005, 0.001, 0.01, 0.1, 1.0)

_CHECKS = Counter(
    "apiserver_validating_admission_policy_check",  # the client library adds _total
    "Validation admission policy check total, labeled by policy and further identified by binding and enforcement action.",
    _LABELS,
    registry=REGISTRY,
)
_SECONDS = Histogram(
    "apiserver_validating_admission_policy_check_duration_seconds",
    "Validation admission latency for individual validation expressions in seconds, labeled by policy and further "
    "including binding and enforcement action taken.",
    _LABELS,
    buckets=_BUCKETS,
    registry=REGISTRY,
)
_MUTATIONS = Counter(
    "apiserver_mutating_admission_policy_check",
    "Mutation admission policy check total, labeled by policy and further identified by binding.",
    ("policy", "policy_binding", "error_type"),
    registry=REGISTRY,
)


def judged(policy: str, binding: str, actions: Iterable[str], found: bool, seconds: float) -> None:
    """A policy was evaluated; ``found``: not everything held."""
    action = next((each.lower() for each in ("Deny", "Warn", "Audit") if found and each in actions), "allow")
    labels = (policy, binding, "no_error", action)
    _CHECKS.labels(*labels).inc()
    _SECONDS.labels(*labels).observe(seconds)


def mutated(policy: str, binding: str, error_type: str) -> None:
    _MUTATIONS.labels(policy, binding, error_type).inc()

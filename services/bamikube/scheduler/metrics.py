"""The scheduler's metrics, under kube-scheduler's names."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from bamikube.kit.metrics import REGISTRY

ATTEMPTS = Counter(
    "scheduler_schedule_attempts",
    "Tries to schedule a pod, by result.",
    ["result", "profile"],
    registry=REGISTRY,
)
DECISION_SECONDS = Histogram(
    "scheduler_scheduling_algorithm_duration_seconds",
    "Time of one decision.",
    buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 1),
    registry=REGISTRY,
)
VICTIMS = Counter("scheduler_preemption_victims", "Pods that had to leave for others.", registry=REGISTRY)

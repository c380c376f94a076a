"""Figures of work queues, under client-go's names (``workqueue_*``), one series for each queue's name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from bamikube.kit.metrics import REGISTRY

_SECONDS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0)

_DEPTH = Gauge("workqueue_depth", "Current depth of workqueue", ["name"], registry=REGISTRY)
_ADDS = Counter("workqueue_adds", "Total number of adds handled by workqueue", ["name"], registry=REGISTRY)
_RETRIES = Counter(
    "workqueue_retries", "Total number of retries handled by workqueue", ["name"], registry=REGISTRY
)
_WAITED = Histogram(
    "workqueue_queue_duration_seconds",
    "How long in seconds an item stays in workqueue before being requested",
    ["name"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
_WORKED = Histogram(
    "workqueue_work_duration_seconds",
    "How long in seconds processing an item from workqueue takes.",
    ["name"],
    buckets=_SECONDS,
    registry=REGISTRY,
)


@dataclass(frozen=True, slots=True)
class Figures:
    """The series of one queue."""

    depth: Any
    adds: Any
    retries: Any
    waited: Any
    worked: Any


@lru_cache(maxsize=256)
def of(name: str) -> Figures:
    """The series of the queue called ``name``; queues of one name share them."""
    return Figures(*(metric.labels(name) for metric in (_DEPTH, _ADDS, _RETRIES, _WAITED, _WORKED)))

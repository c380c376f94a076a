"""The process's metrics, in the format Prometheus scrapes.

A room creates its metrics at import with ``registry=REGISTRY`` and Kubernetes' names; every service serves them
under ``/metrics``. Process metrics (CPU seconds, resident memory, open files) come for free. What is counted several
times in each request is made of :mod:`bamikube.kit.tallies`.
"""

from __future__ import annotations

import re

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE

disable_created_metrics()  # Kubernetes has no series that tell when a series began
REGISTRY = CollectorRegistry()
_WHOLE = re.compile(rb'\ble="([0-9]+)\.0"')
ProcessCollector(registry=REGISTRY)


def render() -> bytes:
    """All metrics of this process in text format 0.0.4; bounds of buckets as Go writes them, by which rules choose them."""
    return _WHOLE.sub(rb'le="\1"', generate_latest(REGISTRY))


__all__ = ["CONTENT_TYPE", "REGISTRY", "render"]

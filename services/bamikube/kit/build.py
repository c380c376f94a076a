"""Which version a service says it is: ``kubernetes_build_info``, by which dashboards see whether versions differ."""

from __future__ import annotations

from prometheus_client import Gauge

from bamikube.kit.metrics import REGISTRY

BUILD = Gauge(
    "kubernetes_build_info",
    "A metric with a constant '1' value labeled by major, minor, git version and platform.",
    ["major", "minor", "git_version", "platform"],
    registry=REGISTRY,
)

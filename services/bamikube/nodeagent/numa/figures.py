"""What the managers of processors, memory and topology count, under the kubelet's names."""

from __future__ import annotations

from prometheus_client import Gauge

from bamikube.kit.metrics import REGISTRY
from bamikube.kit.tallies import Counters


def _counter(name: str, text: str) -> Counters:
    return Counters(f"kubelet_{name}", text)


CPU_PINNING = _counter(
    "cpu_manager_pinning_requests", "The number of cpu core allocations which required pinning."
)
CPU_PINNING_ERRORS = _counter(
    "cpu_manager_pinning_errors", "The number of cpu core allocations which required pinning failed."
)
SHARED_CPUS = Gauge(
    "kubelet_cpu_manager_shared_pool_size_millicores",
    "The size of the shared CPU pool for non-guaranteed QoS pods, in millicores.",
    registry=REGISTRY,
)
OWN_CPUS = Gauge(
    "kubelet_cpu_manager_exclusive_cpu_allocation_count",
    "The total number of CPUs exclusively allocated to containers running on this node",
    registry=REGISTRY,
)

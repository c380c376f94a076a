"""What the managers of processors, memory and topology count, under the kubelet's names."""

from __future__ import annotations

from prometheus_client import Gauge

from bamikube.kit.metrics import REGISTRY
from bamikube.kit.tallies import Counters, Histograms


def _counter(name: str, text: str) -> Counters:
    made = Counters(f"kubelet_{name}", text)
    made.of()  # so that it is shown before anything was counted
    return made


CPU_PINNING = _counter(
    "cpu_manager_pinning_requests", "The number of cpu core allocations which required pinning."
)
CPU_PINNING_ERRORS = _counter(
    "cpu_manager_pinning_errors", "The number of cpu core allocations which required pinning failed."
)
MEMORY_PINNING = _counter(
    "memory_manager_pinning_requests", "The number of memory pages allocations which required pinning."
)
MEMORY_PINNING_ERRORS = _counter(
    "memory_manager_pinning_errors",
    "The number of memory pages allocations which required pinning that failed.",
)
ADMISSIONS = _counter(
    "topology_manager_admission_requests",
    "The number of admission requests where resources have to be aligned.",
)
ADMISSION_ERRORS = _counter(
    "topology_manager_admission_errors",
    "The number of admission request failures where resources could not be aligned.",
)
ADMISSION_TIME = Histograms(
    "kubelet_topology_manager_admission_duration_ms",
    "Duration in milliseconds to serve a pod admission request.",
    (),
    tuple(0.05 * 2**n for n in range(15)),
)
ALIGNED = Counters(
    "kubelet_container_aligned_compute_resources_count",
    "Cumulative number of aligned compute resources allocated to containers by alignment type.",
    ("scope", "boundary"),
    total=False,
)
ALIGNED_ERRORS = Counters(
    "kubelet_container_aligned_compute_resources_failure_count",
    "Cumulative number of failures to allocate aligned compute resources to containers by alignment type.",
    ("scope", "boundary"),
    total=False,
)
SHARED_CPUS = Gauge(
    "kubelet_cpu_manager_shared_pool_size_millicores",
    "The size of the shared CPU pool for non-guaranteed QoS pods, in millicores.",
    registry=REGISTRY,
)
OWN_CPUS_OF_NODES = Gauge(
    "kubelet_cpu_manager_allocation_per_numa",
    "Number of CPUs allocated per NUMA node",
    ("numa_node",),
    registry=REGISTRY,
)
OWN_CPUS = Gauge(
    "kubelet_cpu_manager_exclusive_cpu_allocation_count",
    "The total number of CPUs exclusively allocated to containers running on this node",
    registry=REGISTRY,
)

"""What the node agent counts of its own work, under the kubelet's names.

What happens is counted here as it happens; what merely is (pods that run, volumes and how full they are) is told by
:mod:`bamikube.nodeagent.stats.own` when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram

from bamikube.kit.metrics import REGISTRY
from bamikube.kit.tallies import Counters

COMMON = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OPERATION = tuple(0.005 * 2.5**n for n in range(14))
_START = (
    0.5,
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    20,
    30,
    45,
    60,
    120,
    180,
    240,
    300,
    360,
    480,
    600,
    900,
    1200,
    1800,
    2700,
    3600,
)


def _counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _histogram(
    name: str, text: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = COMMON
) -> Histogram:
    return Histogram(name, text, labels, buckets=buckets, registry=REGISTRY)


RUNTIME_OPERATIONS = _counter(
    "kubelet_runtime_operations",
    "Cumulative number of runtime operations by operation type.",
    ("operation_type",),
)
RUNTIME_ERRORS = _counter(
    "kubelet_runtime_operations_errors",
    "Cumulative number of runtime operation errors by operation type.",
    ("operation_type",),
)
RUNTIME_SECONDS = _histogram(
    "kubelet_runtime_operations_duration_seconds",
    "Duration in seconds of runtime operations. Broken down by operation type.",
    ("operation_type",),
    _OPERATION,
)
RELIST_SECONDS = _histogram(
    "kubelet_pleg_relist_duration_seconds", "Duration in seconds for relisting pods in PLEG."
)
RELIST_INTERVAL = _histogram(
    "kubelet_pleg_relist_interval_seconds",
    "Interval in seconds between relisting in PLEG.",
    buckets=(*COMMON, 15.0, 20.0, 30.0, 60.0),
)
POD_START = _histogram(
    "kubelet_pod_start_duration_seconds",
    "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
    buckets=_START,
)
POD_START_SLI = _histogram(
    "kubelet_pod_start_sli_duration_seconds",
    "Duration in seconds to start a pod, excluding time to pull images and run init containers, measured from pod creation "
    "timestamp to when all its containers are reported as started and observed via watch",
    buckets=_START,
)
POD_START_TOTAL = _histogram(
    "kubelet_pod_start_total_duration_seconds",
    "Duration in seconds to start a pod since creation, including time to pull images and run init containers, measured from "
    "pod creation timestamp to when all its containers are reported as started and observed via watch",
    buckets=_START,
)
WORKER_SECONDS = _histogram(
    "kubelet_pod_worker_duration_seconds",
    "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
    ("operation_type",),
)
WORKER_START = _histogram(
    "kubelet_pod_worker_start_duration_seconds",
    "Duration in seconds from kubelet seeing a pod to starting a worker.",
)
STARTED_PODS = _counter("kubelet_started_pods", "Cumulative number of pods started")
STARTED_PODS_ERRORS = _counter(
    "kubelet_started_pods_errors", "Cumulative number of errors when starting pods", ("message",)
)
STARTED_OWN_USERS = _counter(
    "kubelet_started_user_namespaced_pods", "Cumulative number of pods with user namespaces started"
)
STARTED_OWN_USERS_ERRORS = _counter(
    "kubelet_started_user_namespaced_pods_errors",
    "Cumulative number of errors when starting pods with user namespaces",
)
STARTED_CONTAINERS = _counter(
    "kubelet_started_containers", "Cumulative number of containers started", ("container_type",)
)
STARTED_CONTAINERS_ERRORS = _counter(
    "kubelet_started_containers_errors",
    "Cumulative number of errors when starting containers",
    ("container_type", "code"),
)
RESIZES_REQUESTED = _counter(
    "kubelet_container_requested_resizes",
    "Number of requested resizes, counted at the container level. Different resources on the same container are counted separately. "
    "The 'requirement' label refers to 'memory' or 'limits'; the 'operation' label can be one of 'add', 'remove', 'increase' or "
    "'decrease'.",
    ("resource", "requirement", "operation"),
)
RESIZES_INFEASIBLE = _counter(
    "kubelet_pod_infeasible_resizes", "Number of infeasible resizes for pods.", ("reason_detail",)
)
RESIZES_ACCEPTED = _counter(
    "kubelet_pod_deferred_accepted_resizes",
    "Cumulative number of resizes that were accepted after being deferred.",
    ("retry_trigger",),
)
RESIZE_MILLISECONDS = _histogram(
    "kubelet_pod_resize_duration_milliseconds",
    "Duration in milliseconds to actuate a pod resize",
    ("success",),
    tuple(10.0 * 2**n for n in range(15)),
)
SANDBOX_SECONDS = _histogram(
    "kubelet_run_podsandbox_duration_seconds",
    "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
    ("runtime_handler",),
)
SANDBOX_ERRORS = _counter(
    "kubelet_run_podsandbox_errors",
    "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
    ("runtime_handler",),
)
HTTP_REQUESTS = _counter(
    "kubelet_http_requests",
    "Number of the http requests received since the server started",
    ("long_running", "method", "path", "server_type"),
)
HTTP_SECONDS = _histogram(
    "kubelet_http_requests_duration_seconds",
    "Duration in seconds to serve http requests",
    ("long_running", "method", "path", "server_type"),
)
HTTP_INFLIGHT = Gauge(
    "kubelet_http_inflight_requests",
    "Number of the inflight http requests",
    ("long_running", "method", "path", "server_type"),
    registry=REGISTRY,
)
CGROUP_SECONDS = _histogram(
    "kubelet_cgroup_manager_duration_seconds",
    "Duration in seconds for cgroup manager operations. Broken down by method.",
    ("operation_type",),
)
PULL_SECONDS = _histogram(
    "kubelet_image_pull_duration_seconds",
    "Duration in seconds to pull an image.",
    ("image_size_in_bytes",),
    (1, 5, 10, 20, 30, 60, 180, 300, 600, 900, 1200, 1800, 2700, 3600),
)
IMAGES_REMOVED = _counter(
    "kubelet_image_garbage_collected",
    "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
    ("reason",),
)
EVICTIONS = Counters(
    "kubelet_evictions",
    "Cumulative number of pod evictions by eviction signal",
    ("eviction_signal",),
    total=False,
)
PREEMPTIONS = Counters(
    "kubelet_preemptions",
    "Cumulative number of pod preemptions by preemption resource",
    ("preemption_signal",),
    total=False,
)
REJECTIONS = Counters(
    "kubelet_admission_rejections",
    "Cumulative number pod admission rejections by the Kubelet.",
    ("reason",),
)
EVICTION_STATS_AGE = _histogram(
    "kubelet_eviction_stats_age_seconds",
    "Time between when stats are collected, and when pod is evicted based on those stats by eviction signal",
    ("eviction_signal",),
)
CONTAINERS_PER_POD = _histogram(
    "kubelet_containers_per_pod_count", "The number of containers per pod.", buckets=(1, 2, 4, 8, 16)
)
STATUS_SYNC_SECONDS = _histogram(
    "kubelet_pod_status_sync_duration_seconds",
    "Duration in seconds to sync a pod status update. Measures time from detection of a change to pod status until the API is "
    "successfully updated for that pod, even if multiple intevening changes to pod status occur.",
    buckets=(0.010, 0.050, 0.100, 0.500, 1, 5, 10, 20, 30, 45, 60),
)
PROVIDER_SECONDS = _histogram(
    "kubelet_credential_provider_plugin_duration",
    "Duration of execution in seconds for credential provider plugin",
    ("plugin_name",),
)
PROVIDER_ERRORS = _counter(
    "kubelet_credential_provider_plugin_errors",
    "Number of errors from credential provider plugin",
    ("plugin_name",),
)
PLUGIN_REGISTRATIONS = _counter(
    "kubelet_device_plugin_registration",
    "Cumulative number of device plugin registrations. Broken down by resource name.",
    ("resource_name",),
)
PLUGIN_SECONDS = _histogram(
    "kubelet_device_plugin_alloc_duration_seconds",
    "Duration in seconds to serve a device plugin Allocation request. Broken down by resource name.",
    ("resource_name",),
    COMMON,
)
ORPHANED_PODS = _counter(
    "kubelet_orphaned_runtime_pods",
    "Number of pods that have been detected in the container runtime without being already known to the pod worker. This "
    "typically indicates the kubelet was restarted while a pod was force deleted in the API or in the local configuration, "
    "which is unusual.",
)
CRI_LOSING_SUPPORT = Gauge(
    "kubelet_cri_losing_support",
    "the Kubernetes version that the currently running CRI implementation will lose support on if not upgraded.",
    ("version",),
    registry=REGISTRY,
)
SHUTDOWN_START = Gauge(
    "kubelet_graceful_shutdown_start_time_seconds",
    "Last graceful shutdown start time since unix epoch in seconds",
    registry=REGISTRY,
)
SHUTDOWN_END = Gauge(
    "kubelet_graceful_shutdown_end_time_seconds",
    "Last graceful shutdown end time since unix epoch in seconds",
    registry=REGISTRY,
)
STORAGE_SECONDS = _histogram(
    "storage_operation_duration_seconds",
    "Storage operation duration",
    ("volume_plugin", "operation_name", "status", "migrated"),
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600),
)


_MB = 1024 * 1024
_SIZES = ((10, "0-10MB"), (100, "10MB-100MB"), (500, "100MB-500MB"), (1024, "500MB-1GB"), (5 * 1024, "1GB-5GB"),
          (10 * 1024, "5GB-10GB"), (20 * 1024, "10GB-20GB"), (30 * 1024, "20GB-30GB"), (40 * 1024, "30GB-40GB"),
          (60 * 1024, "40GB-60GB"), (100 * 1024, "60GB-100GB"))  # fmt: skip


def image_size(size: int) -> str:
    """The word for an image's size among the labels of its pull. Pure."""
    return next((word for most, word in _SIZES if size <= most * _MB), "GT100GB")


_WORDS = {
    "ListPodSandbox": "list_podsandbox", "PodSandboxStatus": "podsandbox_status", "RunPodSandbox": "run_podsandbox",
    "StopPodSandbox": "stop_podsandbox", "RemovePodSandbox": "remove_podsandbox", "ListContainers": "list_containers",
    "UpdateContainerResources": "update_container",
}  # fmt: skip


@lru_cache(maxsize=64)
def _operation(request: str) -> str:
    """``CreateContainerRequest`` -> ``create_container``."""
    name = request.removesuffix("Request")
    return _WORDS.get(name) or "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


@contextmanager
def runtime_operation(request: str) -> Iterator[None]:
    """Count and time one call of the runtime, named by the message it sends."""
    kind = _operation(request)
    RUNTIME_OPERATIONS.labels(kind).inc()
    with RUNTIME_SECONDS.labels(kind).time():
        try:
            yield
        except BaseException:
            RUNTIME_ERRORS.labels(kind).inc()
            raise


@contextmanager
def storage_operation(plugin: str, name: str) -> Iterator[None]:
    """Time one step of a volume's life: ``volume_mount`` or ``volume_unmount``."""
    with STORAGE_SECONDS.time() as timer:
        try:
            yield
        except BaseException:
            timer.labels(plugin, name, "fail-unknown", "false")
            raise
        timer.labels(plugin, name, "success", "false")

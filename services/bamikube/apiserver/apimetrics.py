"""What the API server tells of itself, under Kubernetes' names and labels (those of v1.34's metrics reference).

What is cheap to count is counted as it happens, through series that are looked up once; what can be read off when
somebody asks (watchers, objects, requests under way, delivered events) is put together in :func:`refresh`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge
from prometheus_client.core import CounterMetricFamily

from bamikube.api import table
from bamikube.apiserver import switches
from bamikube.apiserver.requestfigures import COMPONENT, SECONDS
from bamikube.apiserver.version import version_info
from bamikube.kit.build import BUILD
from bamikube.kit.metrics import REGISTRY
from bamikube.kit.tallies import Histograms, Series
from bamikube.store.port import StoreError

if TYPE_CHECKING:
    from bamikube.apiserver.cache import Cache


INFLIGHT = Gauge(
    "apiserver_current_inflight_requests",
    "Number of requests the server works on at present, by kind.",
    ["request_kind"],
    registry=REGISTRY,
)
LONG_RUNNING = Gauge(
    "apiserver_longrunning_requests",
    "Number of running watches by verb, group, version, resource and scope.",
    ["verb", "group", "version", "resource", "subresource", "scope", "component"],
    registry=REGISTRY,
)
FEATURES = Gauge(
    "kubernetes_feature_enabled",
    "This metric records the data about the stage and enablement of a k8s feature.",
    ["name", "stage"],
    registry=REGISTRY,
)
STORE_DURATION = Histograms(
    "etcd_request_duration_seconds",
    "Etcd request latency in seconds for each operation and object type.",
    ["operation", "group", "resource"],
    SECONDS,
)
OBJECTS = Gauge(
    "apiserver_storage_objects", "Number of stored objects by resource.", ["resource"], registry=REGISTRY
)
STORE_SIZE = Gauge(
    "apiserver_storage_size_bytes",
    "Size of the storage database file physically allocated in bytes.",
    ["storage_cluster_id"],
    registry=REGISTRY,
)
STREAM_TRANSLATIONS = Counter(
    "apiserver_stream_translator_requests",
    "Total number of requests that were handled by the StreamTranslatorProxy, which processes streaming RemoteCommand/V5",
    ["code"],
    registry=REGISTRY,
)
STREAM_TUNNELS = Counter(
    "apiserver_stream_tunnel_requests",
    "Total number of requests that were handled by the StreamTunnelProxy, which processes streaming PortForward/V2",
    ["code"],
    registry=REGISTRY,
)


LOGS_BACKEND = Counter(
    "kube_apiserver_pod_logs_insecure_backend",
    "Total number of requests for pods/logs sliced by usage type: enforce_tls, skip_tls_allowed, skip_tls_denied",
    ["usage"],
    registry=REGISTRY,
)
LOGS_UNTRUSTED = Counter(
    "kube_apiserver_pod_logs_backend_tls_failure",
    "Total number of requests for pods/logs that failed due to kubelet server TLS verification",
    registry=REGISTRY,
)


_GROUPS = frozenset(row.group.encode() for row in table.TABLE if row.group and "." not in row.group)


@lru_cache(maxsize=1024)
def _store_series(operation: str, group: bytes, resource: bytes) -> Series:
    return STORE_DURATION.of(operation, group.decode("utf-8", "replace"), resource.decode("utf-8", "replace"))


def store_series(operation: str, key: bytes) -> Series:
    """The histogram of one kind of store request: about ``/registry/<plural>`` or ``/registry/<group>/<plural>``."""
    parts = key.split(b"/", 4)
    if len(parts) < 3 or parts[1] != b"registry":
        return _store_series(operation, b"", b"")
    first = parts[2]
    if len(parts) > 3 and (b"." in first or first in _GROUPS):
        return _store_series(operation, first, parts[3])
    return _store_series(operation, b"", first)


class _Delivered:
    """``apiserver_watch_events_total``: read off the cache when somebody asks."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, str], int] = {}

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "apiserver_watch_events",
            "Number of events sent in watch clients",
            labels=["group", "version", "resource"],
        )
        for labels, count in self.counts.items():
            family.add_metric(labels, count)
        yield family


_DELIVERED = _Delivered()
REGISTRY.register(_DELIVERED)


_VERSION = version_info()
BUILD.labels(*(_VERSION[name] for name in ("major", "minor", "gitVersion", "platform"))).set(1)


for _gate, _stage in switches.stages().items():
    FEATURES.labels(_gate, _stage).set(1)


SIZE_PATIENCE = (
    1.0  # seconds for the store to say how large it is; whoever collects figures is not to be kept waiting
)


async def measure(cache: Cache) -> None:
    """Ask the store how large it is. A size nobody can tell is left out."""
    try:
        async with asyncio.timeout(SIZE_PATIENCE):
            STORE_SIZE.labels("etcd-0").set(await cache.store_size())
    except (StoreError, TimeoutError):
        STORE_SIZE.clear()


def refresh(cache: Cache, under_way: Mapping[str, int]) -> None:
    """Bring up to date what is not counted as it happens. ``under_way`` are requests by kind."""
    for kind, count in under_way.items():
        INFLIGHT.labels(kind).set(count)
    LONG_RUNNING.clear()
    for slot in cache.slots():
        row = slot.resource
        OBJECTS.labels(f"{row.plural}.{row.group}" if row.group else row.plural).set(len(slot.items))
        _DELIVERED.counts[row.group, row.version, row.plural] = slot.delivered
        for namespace, groups in slot.groups.items():
            watching = sum(len(group.members) for group in groups.values())
            scope = "namespace" if namespace else "cluster"
            labels = ("WATCH", row.group, row.version, row.plural, "", scope, COMPONENT)
            LONG_RUNNING.labels(*labels).set(watching)

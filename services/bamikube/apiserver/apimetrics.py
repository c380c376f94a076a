"""What the API server counts, under Kubernetes' names."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from bamikube.kit.metrics import REGISTRY

_BUCKETS = (
    0.005,
    0.025,
    0.05,
    0.1,
    0.2,
    0.4,
    0.6,
    0.8,
    1.0,
    1.25,
    1.5,
    2.0,
    3.0,
    4.0,
    5.0,
    6.0,
    8.0,
    10.0,
    15.0,
    20.0,
    30.0,
    45.0,
    60.0,
)

REQUESTS = Counter(
    "apiserver_request",  # the client library adds _total
    "Counter of apiserver requests broken out for each verb, group, version, resource, scope and HTTP response code.",
    ["verb", "group", "version", "resource", "subresource", "scope", "code"],
    registry=REGISTRY,
)
DURATION = Histogram(
    "apiserver_request_duration_seconds",
    "Response latency distribution in seconds for each verb, group, version, resource, subresource and scope.",
    ["verb", "group", "version", "resource", "subresource", "scope"],
    buckets=_BUCKETS,
    registry=REGISTRY,
)
INFLIGHT = Gauge(
    "apiserver_current_inflight_requests",
    "Number of requests the server works on at present, by kind.",
    ["request_kind"],
    registry=REGISTRY,
)
WATCHERS = Gauge("apiserver_longrunning_requests", "Number of running watches.", registry=REGISTRY)
STORE_DURATION = Histogram(
    "etcd_request_duration_seconds",
    "Etcd request latency in seconds for each operation.",
    ["operation"],
    buckets=_BUCKETS,
    registry=REGISTRY,
)
OBJECTS = Gauge(
    "apiserver_storage_objects", "Number of stored objects by resource.", ["resource"], registry=REGISTRY
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


@lru_cache(maxsize=4096)
def request_series(
    verb: str, group: str, version: str, resource: str, subresource: str, scope: str, code: int
) -> tuple[Any, Any]:
    """The counter and the histogram of one kind of request; looking labels up costs more than counting."""
    counter = REQUESTS.labels(verb, group, version, resource, subresource, scope, str(code))
    return counter, DURATION.labels(verb, group, version, resource, subresource, scope)


@lru_cache(maxsize=64)
def store_series(operation: str) -> Any:
    """The histogram of one kind of store request."""
    return STORE_DURATION.labels(operation)

"""What the API server counts, under Kubernetes' names and labels (those of v1.34's metrics reference).

What is cheap to count is counted as it happens, through series that are looked up once; what can be read off when
somebody asks (watchers, objects, requests under way, delivered events) is put together in :func:`refresh`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily

from bamikube.api import table
from bamikube.apiserver.requestinfo import RequestInfo
from bamikube.apiserver.version import version_info
from bamikube.kit.http import Request, Response, Stream
from bamikube.kit.metrics import REGISTRY

if TYPE_CHECKING:
    from bamikube.apiserver.cache import Cache

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
    ["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code"],
    registry=REGISTRY,
)
DURATION = Histogram(
    "apiserver_request_duration_seconds",
    "Response latency distribution in seconds for each verb, group, version, resource, subresource and scope.",
    ["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"],
    buckets=_BUCKETS,
    registry=REGISTRY,
)
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
BUILD = Gauge(
    "kubernetes_build_info",
    "The version this server was built as; always 1.",
    ["major", "minor", "git_version", "platform"],
    registry=REGISTRY,
)
STORE_DURATION = Histogram(
    "etcd_request_duration_seconds",
    "Etcd request latency in seconds for each operation and object type.",
    ["operation", "group", "resource"],
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


COMPONENT = "apiserver"


@lru_cache(maxsize=4096)
def request_series(
    verb: str, group: str, version: str, resource: str, subresource: str, scope: str, code: int, dry_run: str
) -> tuple[Any, Any]:
    """The counter and the histogram of one kind of request; looking labels up costs more than counting."""
    labels = (verb, dry_run, group, version, resource, subresource, scope, COMPONENT)
    return REQUESTS.labels(*labels, str(code)), DURATION.labels(*labels)


_GROUPS = frozenset(row.group.encode() for row in table.TABLE if row.group and "." not in row.group)


@lru_cache(maxsize=1024)
def _store_series(operation: str, group: bytes, resource: bytes) -> Any:
    return STORE_DURATION.labels(
        operation, group.decode("utf-8", "replace"), resource.decode("utf-8", "replace")
    )


def store_series(operation: str, key: bytes) -> Any:
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


def count(
    request: Request,
    info: RequestInfo,
    answer: Response | Stream,
    seconds: float,
    is_served: Callable[[RequestInfo], bool],
) -> None:
    """Count an answered request; ``seconds`` is how long its answer took to begin (streams are not measured).

    ``is_served`` says whether there is such a resource: names that a stranger made up become no labels.
    """
    code = answer.status
    if info.is_resource and code != 404 and is_served(info):
        scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
        verb = _REPORTED.get(info.verb) or (request.method if request.method in _METHODS else "other")
        if info.subresource in _CONNECTS:
            verb = "CONNECT"
        elif verb == "PATCH" and request.headers.get("content-type", "").startswith(_APPLY):
            verb = "APPLY"
        labels = (verb, info.group, info.version, info.resource, info.subresource, scope)
    else:
        labels = (request.method if request.method in _METHODS else "other", "", "", "", "", "")
    dry_run = "All" if "dryRun" in request.raw_query and request.param("dryRun") == "All" else ""
    counter, histogram = request_series(*labels, code, dry_run)
    counter.inc()
    if isinstance(answer, Response):
        histogram.observe(seconds)


# How metrics call the verbs: by their HTTP method, where one method is one verb.
_REPORTED = {
    "get": "GET",
    "list": "LIST",
    "watch": "WATCH",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETECOLLECTION",
}
_CONNECTS = frozenset({"attach", "exec", "portforward", "proxy"})
_APPLY = "application/apply-patch"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

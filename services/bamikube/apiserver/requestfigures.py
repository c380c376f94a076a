"""What is counted of requests, under Kubernetes' names and labels (those of v1.34's metrics reference).

The series of one kind of request are looked up together and once (:func:`_kind`), since putting labels together costs more than
counting. A request's labels name what is served; paths and resources that a stranger made up become no labels, as each would be
kept for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from prometheus_client import Gauge

from bamikube.api.resources import Resource
from bamikube.apiserver.requestinfo import RequestInfo
from bamikube.kit.http import Request, Response, Stream
from bamikube.kit.metrics import REGISTRY
from bamikube.kit.tallies import Counters, Histograms, Series, Tally

COMPONENT = "apiserver"
SECONDS = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0),
    *(3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0),
)
_BYTES = tuple(1000.0 * 10**power for power in range(7))
_ABOUT = ("group", "version", "resource", "subresource", "scope")

_REQUESTS = Counters(
    "apiserver_request",
    "Counter of apiserver requests broken out for each verb, group, version, resource, scope and HTTP response code.",
    ("verb", "dry_run", *_ABOUT, "component", "code"),
)
_DURATION = Histograms(
    "apiserver_request_duration_seconds",
    "Response latency distribution in seconds for each verb, group, version, resource, subresource and scope.",
    ("verb", "dry_run", *_ABOUT, "component"),
    SECONDS,
)
_SLI = Histograms(
    "apiserver_request_sli_duration_seconds",
    "Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds.",
    ("verb", *_ABOUT, "component"),
    SECONDS,
)
_SIZES = Histograms(
    "apiserver_response_sizes",
    "Response size distribution in bytes for each group, version, verb, resource, subresource and scope.",
    ("verb", *_ABOUT, "component"),
    _BYTES,
)
_TERMINATIONS = Counters(
    "apiserver_request_terminations",
    "Number of requests which apiserver terminated in self-defense.",
    ("verb", *_ABOUT, "component", "code"),
)
_ABORTS = Counters(
    "apiserver_request_aborts",
    "Number of requests which were given up before their answer had begun, because the client went away.",
    ("verb", *_ABOUT),
)
_DEPRECATED = Gauge(
    "apiserver_requested_deprecated_apis",
    "Gauge of deprecated APIs that have been requested, broken out by API group, version, resource and subresource.",
    ["group", "version", "resource", "subresource", "removed_release"],
    registry=REGISTRY,
)

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

# The row a request is about.
Find = Callable[[str, str, str], Resource | None]
# (verb, group, version, resource, subresource, scope)
Labels = tuple[str, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class _Kind:
    """The series of one kind of request with one outcome; no ``size`` for what changes something."""

    requests: Tally
    took: Series
    sli: Series
    size: Series | None


@lru_cache(maxsize=4096)
def _kind(labels: Labels, code: int, dry_run: str) -> _Kind:
    verb, *about = labels
    return _Kind(
        _REQUESTS.of(verb, dry_run, *about, COMPONENT, str(code)),
        _DURATION.of(verb, dry_run, *about, COMPONENT),
        _SLI.of(*labels, COMPONENT),
        _SIZES.of(*labels, COMPONENT) if verb in ("GET", "LIST") else None,
    )


def count(
    request: Request,
    info: RequestInfo,
    answer: Response | Stream,
    seconds: float,
    find: Find,
    waited: float = 0.0,
) -> None:
    """Count an answered request. ``seconds`` is how long its answer took to begin (streams are not measured), ``waited`` how
    much of that others are to blame for."""
    labels = _labels(request, info, find if answer.status != 404 else _nothing)
    dry_run = "All" if "dryRun" in request.raw_query and request.param("dryRun") == "All" else ""
    kind = _kind(labels, answer.status, dry_run)
    kind.requests.value += 1
    if isinstance(answer, Response):
        kind.took.observe(seconds)
        kind.sli.observe(max(0.0, seconds - waited))
        if kind.size is not None:
            body = answer.body
            kind.size.observe(len(body) if isinstance(body, bytes) else sum(map(len, body)))


def terminated(request: Request, info: RequestInfo, find: Find, code: int) -> None:
    """The server has refused a request because there was too much to do (429), or ended it because it took too long (504)."""
    _TERMINATIONS.of(*_labels(request, info, find), COMPONENT, str(code)).inc()


def aborted(request: Request, info: RequestInfo, find: Find) -> None:
    """The client went away before there was an answer."""
    _ABORTS.of(*_labels(request, info, find)).inc()


def _nothing(group: str, version: str, plural: str) -> None:
    return None


def _labels(request: Request, info: RequestInfo, find: Find) -> Labels:
    method = request.method if request.method in _METHODS else "other"
    row = find(info.group, info.version, info.resource) if info.is_resource else None
    if row is None or (info.subresource and info.subresource not in row.subresources):
        return (method, "", "", "", "", "")
    if row.deprecation or (row.custom is not None and row.custom.deprecation):
        _DEPRECATED.labels(info.group, info.version, info.resource, info.subresource, "").set(1)
    scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
    verb = _REPORTED.get(info.verb) or method
    if info.subresource in _CONNECTS:
        verb = "CONNECT"
    elif verb == "PATCH" and request.headers.get("content-type", "").startswith(_APPLY):
        verb = "APPLY"
    return (verb, info.group, info.version, info.resource, info.subresource, scope)

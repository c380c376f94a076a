"""Defaults: what the API server fills in before an object is validated and stored.

One function per kind, registered by API version and kind; every function mutates the object and leaves alone what its
author said. What Kubernetes always writes is filled in last (:mod:`bamikube.api.schema.written`). Applying twice is the same as applying once (a test holds that for every kind). The values are those of
Kubernetes v1.34 (documented field by field in the API reference).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.defaults import cluster, network, storage, workloads
from bamikube.api.defaults.pod import pod
from bamikube.api.resources import Resource
from bamikube.api.schema.written import fill

Default = Callable[[dict[str, Any]], None]

_DEFAULTS: dict[tuple[str, str], Default] = {
    ("v1", "Pod"): pod,
    **cluster.DEFAULTS,
    **network.DEFAULTS,
    **storage.DEFAULTS,
    **workloads.DEFAULTS,
}


def apply(resource: Resource, obj: dict[str, Any]) -> None:
    """Fill in the defaults of ``obj`` in place. Expects the types to have been checked."""
    default = _DEFAULTS.get((resource.api_version, resource.kind))
    if resource.custom is not None:
        resource.custom.default(obj)
    elif default is not None:
        default(obj)
    if resource.definition:
        fill(resource.definition, obj)


def has(resource: Resource) -> bool:
    """Whether the kind has defaults."""
    return (resource.api_version, resource.kind) in _DEFAULTS

"""Validation: is this object, whose shape is right and whose defaults are in, allowed to be?

``validate_create`` and ``validate_update`` look at the metadata of every kind and at the rest of those kinds that have
rules; kinds without rules of their own are held to what their schema calls required. Findings are
:class:`~bamikube.api.errors.Cause` values, in the order of the fields; an empty list means valid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.resources import Resource
from bamikube.api.validation import cluster, config, metadata, network, rbac, storage, workloads
from bamikube.api.validation.pod import validate_pod, validate_pod_change
from bamikube.api.validation.structure import required_fields

Create = Callable[[dict[str, Any]], list[Cause]]
Update = Callable[[dict[str, Any], dict[str, Any]], list[Cause]]

_CREATE: dict[tuple[str, str], Create] = {
    ("", "pods"): validate_pod,
    **cluster.CREATE,
    **config.CREATE,
    **network.CREATE,
    **rbac.CREATE,
    **storage.CREATE,
    **workloads.CREATE,
}
_UPDATE: dict[tuple[str, str], Update] = {
    ("", "pods"): validate_pod_change,
    **cluster.UPDATE,
    **config.UPDATE,
    **network.UPDATE,
    **rbac.UPDATE,
    **storage.UPDATE,
    **workloads.UPDATE,
}


def validate_create(resource: Resource, obj: dict[str, Any]) -> list[Cause]:
    """What is wrong with a new object."""
    causes = metadata.validate(
        obj.get("metadata") or {}, namespaced=resource.namespaced, rule=metadata.name_rule(resource)
    )
    rule = _CREATE.get(resource.key)
    if rule is not None:
        return causes + rule(obj)
    return causes + required_fields(resource, obj)


def validate_update(resource: Resource, new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """What is wrong with ``new`` as the successor of ``old``."""
    causes = metadata.validate_change(new.get("metadata") or {}, old.get("metadata") or {})
    change = _UPDATE.get(resource.key)
    if change is not None:
        causes += change(new, old)
        if resource.key == ("", "pods"):
            return (
                causes  # a pod's own rules of change say which fields may differ; the rest was valid before
            )
    rule = _CREATE.get(resource.key)
    if rule is not None:
        return causes + rule(new)
    return causes + required_fields(resource, new)


def validate_status_update(resource: Resource, new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """What is wrong with ``new`` as an update of the status subresource."""
    causes = metadata.validate_change(new.get("metadata") or {}, old.get("metadata") or {})
    return causes + workloads.status_counts(resource, new)

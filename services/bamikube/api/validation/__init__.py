"""Validation: is this object, whose shape is right and whose defaults are in, allowed to be?

``validate_create`` and ``validate_update`` look at the metadata of every kind and at the rest of those kinds that have
rules; kinds without rules of their own are held to what their schema calls required. Findings are
:class:`~bamikube.api.errors.Cause` values, in the order of the fields; an empty list means valid.

A module of this package holds the rules of one kind, or of a few small kinds of one group, in up to four tables by
group and plural: ``CREATE`` (rules of the object itself, on create and update), ``ONLY_NEW`` (rules that older objects
may break), ``UPDATE`` (what may not change) and ``STATUS`` (rules of the status subresource).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.resources import Resource
from bamikube.api.validation import (
    admission_policies,
    apiservices,
    autoscaling,
    batch,
    certificates,
    cluster,
    config,
    csi,
    definitions,
    devices,
    events,
    flows,
    ingresses,
    limits,
    metadata,
    network,
    pod,
    policies,
    rbac,
    services,
    slices,
    storage,
    trust_bundles,
    webhooks,
    workloads,
)
from bamikube.api.validation.structure import required_fields

Rule = Callable[[dict[str, Any]], list[Cause]]
Change = Callable[[dict[str, Any], dict[str, Any]], list[Cause]]

_MODULES: tuple[ModuleType, ...] = (
    admission_policies,
    apiservices,
    autoscaling,
    batch,
    certificates,
    cluster,
    config,
    csi,
    definitions,
    devices,
    events,
    flows,
    ingresses,
    limits,
    network,
    pod,
    policies,
    rbac,
    services,
    slices,
    storage,
    trust_bundles,
    webhooks,
    workloads,
)
_CREATE: dict[tuple[str, str], Rule] = {}
_ONLY_NEW: dict[tuple[str, str], Rule] = {}
_UPDATE: dict[tuple[str, str], Change] = {}
_STATUS: dict[tuple[str, str], Change] = {}
for _module in _MODULES:
    _CREATE |= _module.CREATE
    _ONLY_NEW |= getattr(_module, "ONLY_NEW", {})
    _UPDATE |= getattr(_module, "UPDATE", {})
    _STATUS |= getattr(_module, "STATUS", {})


def validate_create(resource: Resource, obj: dict[str, Any]) -> list[Cause]:
    """What is wrong with a new object."""
    causes = metadata.validate(
        obj.get("metadata") or {}, namespaced=resource.namespaced, rule=metadata.name_rule(resource)
    )
    if resource.custom is not None:
        return causes + resource.custom.validate(obj)
    causes += metadata.finalizers_of_kind(resource, obj.get("metadata") or {})
    new = _ONLY_NEW.get(resource.key)
    if new is not None:
        causes += new(obj)
    rule = _CREATE.get(resource.key)
    if rule is not None:
        return causes + rule(obj)
    return causes + required_fields(resource, obj)


def validate_update(
    resource: Resource, new: dict[str, Any], old: dict[str, Any], kept: list[str] | None = None
) -> list[Cause]:
    """What is wrong with ``new`` as the successor of ``old``. ``kept`` is given warnings of what was wrong before, and may
    stay: of rules in CEL, as in Kubernetes."""
    causes = metadata.validate_change(new.get("metadata") or {}, old.get("metadata") or {})
    if resource.custom is not None:
        return causes + resource.custom.validate(new, old, kept)
    causes += metadata.finalizers_of_kind(resource, new.get("metadata") or {})
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


def validate_status_update(
    resource: Resource, new: dict[str, Any], old: dict[str, Any], kept: list[str] | None = None
) -> list[Cause]:
    """What is wrong with ``new`` as an update of the status subresource; ``kept`` as of :func:`validate_update`."""
    causes = metadata.validate_change(new.get("metadata") or {}, old.get("metadata") or {})
    if resource.custom is not None:
        return causes + resource.custom.validate(new, old, kept)
    rule = _STATUS.get(resource.key)
    return causes + rule(new, old) if rule is not None else causes


def has(resource: Resource) -> tuple[bool, bool, bool]:
    """Whether the kind has rules of its own, rules of change, and rules of its status."""
    return (
        resource.key in _CREATE or resource.key in _ONLY_NEW,
        resource.key in _UPDATE,
        resource.key in _STATUS,
    )

"""Tables: how ``kubectl get`` shows objects. The server decides on columns and cells, the client only prints.

``columns(resource)`` are the definitions, ``row(resource, obj, now)`` the cells of one object, and ``table`` puts
them together as a ``meta.k8s.io/v1`` Table. Columns of priority 1 are always sent; clients show them with ``-o wide``.
Kinds without a printer of their own have a name and an age.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bamikube.api.columns import age, cluster, network, pods, storage, workloads
from bamikube.api.columns.model import AGE, NAME, Printer, documented, name
from bamikube.api.resources import Resource


def _name_and_age(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), age.of(obj, now)]


_PLAIN = Printer((NAME, AGE), _name_and_age)
_PRINTERS: dict[tuple[str, str], Printer] = {
    **pods.PRINTERS,
    **workloads.PRINTERS,
    **network.PRINTERS,
    **cluster.PRINTERS,
    **storage.PRINTERS,
}


def _printer(resource: Resource) -> Printer:
    return (
        resource.custom.compiled.printer
        if resource.custom is not None
        else _PRINTERS.get(resource.key, _PLAIN)
    )


def columns(resource: Resource) -> list[dict[str, Any]]:
    """The column definitions of a resource."""
    return [documented(each) for each in _printer(resource).columns]


def row(resource: Resource, obj: dict[str, Any], now: float) -> list[Any]:
    """The cells of ``obj``; ``now`` is in seconds since the epoch."""
    return _printer(resource).cells(obj, now)


def has(resource: Resource) -> bool:
    """Whether the kind has a printer of its own."""
    return resource.key in _PRINTERS


def _conditions(resource: Resource, obj: dict[str, Any]) -> list[dict[str, Any]]:
    """What a client may want to know about the row itself: that a pod is over."""
    if resource.key != ("", "pods"):
        return []
    phase = (obj.get("status") or {}).get("phase")
    if phase == "Succeeded":
        message = "The pod has completed successfully."
    elif phase == "Failed":
        message = "The pod failed."
    else:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": message}]


def _attached(obj: dict[str, Any], include: str) -> dict[str, Any] | None:
    if include == "Object":
        return obj
    if include == "None":
        return None
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj.get("metadata") or {},
    }


def table(
    resource: Resource,
    objs: Iterable[dict[str, Any]],
    *,
    now: float,
    metadata: dict[str, Any] | None = None,
    include: str = "Metadata",
    headers: bool = True,
) -> dict[str, Any]:
    """The Table of ``objs``.

    ``include`` is the query parameter ``includeObject`` (None, Metadata, Object); without ``headers`` the column
    definitions are null, as in all but the first event of a watch.
    """
    rows = []
    order = _printer(resource).order
    for obj in objs if order is None else sorted(objs, key=order):
        entry: dict[str, Any] = {"cells": row(resource, obj, now)}
        conditions = _conditions(resource, obj)
        if conditions:
            entry["conditions"] = conditions
        attached = _attached(obj, include)
        if attached is not None:
            entry["object"] = attached
        rows.append(entry)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata or {},
        "columnDefinitions": columns(resource) if headers else None,
        "rows": rows,
    }

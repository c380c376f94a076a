"""The values field selectors look at: a flat map of texts per object.

Most are the field itself as text, ``""`` when absent. Some have a default (flags and numbers are never empty), and
two names of core/v1 events are not fields but words for one: ``source`` is the component, whichever way it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.resources import Resource

_EMPTY = {
    "spec.unschedulable": "false",
    "spec.hostNetwork": "false",
    "status.replicas": "0",
    "status.successful": "0",
}


def _dig(obj: dict[str, Any], path: str) -> str:
    return _plain(obj, path) or _EMPTY.get(path, "")


def _plain(obj: dict[str, Any], path: str) -> str:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _source(obj: dict[str, Any]) -> str:
    return str((obj.get("source") or {}).get("component") or obj.get("reportingComponent") or "")


def _succeeded(obj: dict[str, Any]) -> str:
    return str((obj.get("status") or {}).get("succeeded") or 0)


def _pod_ip(obj: dict[str, Any]) -> str:
    status = obj.get("status") or {}
    addresses = status.get("podIPs") or [{"ip": status.get("podIP")}]
    return str(addresses[0].get("ip") or "")


def _parent(obj: dict[str, Any]) -> str:
    ref = (obj.get("spec") or {}).get("parentRef") or {}
    return "/".join(str(ref[key]) for key in ("group", "resource", "namespace", "name") if ref.get(key))


_SPECIAL: dict[tuple[str, str, str], Callable[[dict[str, Any]], str]] = {
    ("", "events", "source"): _source,
    ("batch", "jobs", "status.successful"): _succeeded,
    ("", "pods", "status.podIP"): _pod_ip,
    ("networking.k8s.io", "ipaddresses", "spec.parentRef"): _parent,
}


def value(resource: Resource, obj: dict[str, Any], path: str) -> str:
    """The text a field selector compares ``path`` with."""
    if resource.custom is not None:
        return _plain(obj, path)
    special = _SPECIAL.get((*resource.key, path))
    return special(obj) if special is not None else _dig(obj, path)


def values(resource: Resource, obj: dict[str, Any]) -> dict[str, str]:
    """All selectable fields of ``obj``."""
    return {path: value(resource, obj, path) for path in resource.selectable_fields}

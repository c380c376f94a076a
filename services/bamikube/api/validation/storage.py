"""Rules of volumes, claims and storage classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1123_subdomain, is_qualified_name
from bamikube.api.quantity import Quantity
from bamikube.api.validation.csi import driver_name, parameters
from bamikube.api.validation.pod import node_selector_term
from bamikube.api.validation.rules import (
    duplicate,
    forbidden,
    immutable,
    invalid,
    label_selector,
    named,
    one_of,
    required,
)

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_RECLAIM = ("Delete", "Recycle", "Retain")
_NOT_SOURCES = {
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
}


def _modes(modes: list[str]) -> list[Cause]:
    causes: list[Cause] = []
    if not modes:
        causes.append(required("spec.accessModes", "at least 1 access mode is required"))
    for mode in modes:
        causes += one_of("spec.accessModes", mode, ACCESS_MODES)
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        detail = "may not use ReadWriteOncePod with other access modes"
        causes.append(forbidden("spec.accessModes", detail))
    return causes


def _amount(field: str, amount: Any) -> list[Cause]:
    if amount is None:
        return [required(field)]
    return (
        []
        if Quantity.parse(amount).sign() > 0
        else [invalid(field, str(amount), "must be greater than zero")]
    )


def _volume(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = _modes(spec.get("accessModes") or [])
    causes += _amount("spec.capacity[storage]", (spec.get("capacity") or {}).get("storage"))
    causes += one_of(
        "spec.persistentVolumeReclaimPolicy", spec.get("persistentVolumeReclaimPolicy"), _RECLAIM
    )
    causes += one_of("spec.volumeMode", spec.get("volumeMode"), ("Block", "Filesystem"))
    sources = sorted(set(spec) - _NOT_SOURCES)
    if not sources:
        causes.append(required("spec", "must specify a volume type"))
    causes += [forbidden(f"spec.{name}", "may not specify more than 1 volume type") for name in sources[1:]]
    affinity = spec.get("nodeAffinity")
    if spec.get("local") is not None and not (affinity or {}).get("required"):
        causes.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    if affinity is not None:
        causes += _node_affinity("spec.nodeAffinity", affinity)
    causes += named("spec.storageClassName", spec.get("storageClassName"), is_dns1123_subdomain, needed=False)
    path = (spec.get("hostPath") or {}).get("path") or ""
    if spec.get("hostPath") is not None:
        if not path:
            causes.append(required("spec.hostPath.path"))
        elif ".." in path.split("/"):
            causes.append(invalid("spec.hostPath.path", path, "must not contain '..'"))
        if path == "/" and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
            detail = "may not be 'recycle' for a hostPath mount of '/'"
            causes.append(forbidden("spec.persistentVolumeReclaimPolicy", detail))
    if spec.get("csi") is not None:
        causes += driver_name("spec.csi.driver", spec["csi"].get("driver"))
        if not spec["csi"].get("volumeHandle"):
            causes.append(required("spec.csi.volumeHandle"))
    if spec.get("nfs") is not None:
        causes += [required(f"spec.nfs.{name}") for name in ("server", "path") if not spec["nfs"].get(name)]
    return causes


def _node_affinity(field: str, affinity: dict[str, Any]) -> list[Cause]:
    needed = affinity.get("required")
    if needed is None:
        return [required(f"{field}.required", "must specify required node constraints")]
    terms = needed.get("nodeSelectorTerms") or []
    if not terms:
        return [required(f"{field}.required.nodeSelectorTerms", "must have at least one node selector term")]
    causes: list[Cause] = []
    for index, term in enumerate(terms):
        causes += node_selector_term(f"{field}.required.nodeSelectorTerms[{index}]", term)
    return causes


def _claim(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = _modes(spec.get("accessModes") or [])
    causes += label_selector("spec.selector", spec.get("selector"))
    causes += _amount(
        "spec.resources[storage]", ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    )
    causes += named("spec.storageClassName", spec.get("storageClassName"), is_dns1123_subdomain, needed=False)
    return causes + one_of("spec.volumeMode", spec.get("volumeMode"), ("Block", "Filesystem"))


def _volume_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    sources = (set(after) | set(before)) - _NOT_SOURCES
    if any(after.get(name) != before.get(name) for name in sources):
        detail = "spec.persistentvolumesource is immutable after creation"
        return [forbidden("spec.persistentvolumesource", detail)]
    causes = immutable("spec.volumeMode", after.get("volumeMode"), before.get("volumeMode"))
    now, was = after.get("nodeAffinity"), before.get("nodeAffinity")
    if was is not None and now != was:
        detail = "field is immutable, except for updating from beta label to GA"
        causes.append(invalid("spec.nodeAffinity", now, detail))
    return causes


def _claim_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = dict(new.get("spec") or {}), dict(old.get("spec") or {})
    asked = ((after.pop("resources", None) or {}).get("requests") or {}).get("storage")
    had = ((before.pop("resources", None) or {}).get("requests") or {}).get("storage")
    after.pop("volumeAttributesClassName", None)
    before.pop("volumeAttributesClassName", None)
    if not before.get("volumeName"):
        after.pop("volumeName", None)
        before.pop("volumeName", None)
    if before.get("storageClassName") is None:
        after.pop("storageClassName", None)
    if after != before:
        detail = (
            "spec is immutable after creation except resources.requests and "
            "volumeAttributesClassName for bound claims"
        )
        return [forbidden("spec", detail)]
    bound = (old.get("status") or {}).get("phase") == "Bound"
    if asked is not None and had is not None and asked != had:
        if not bound:
            return [
                forbidden(
                    "spec", "spec is immutable after creation except resources.requests for bound claims"
                )
            ]
        held = ((old.get("status") or {}).get("capacity") or {}).get("storage") or "0"
        if Quantity.parse(asked) < Quantity.parse(had) and Quantity.parse(asked) <= Quantity.parse(held):
            detail = "field can not be less than status.capacity"
            return [forbidden("spec.resources.requests.storage", detail)]
    return []


def _storage_class(obj: dict[str, Any]) -> list[Cause]:
    name = obj.get("provisioner")
    causes = named("provisioner", name.lower() if name else name, is_qualified_name)
    causes += parameters("parameters", obj.get("parameters") or {})
    causes += one_of("reclaimPolicy", obj.get("reclaimPolicy"), ("Delete", "Retain"))
    causes += one_of("volumeBindingMode", obj.get("volumeBindingMode"), ("Immediate", "WaitForFirstConsumer"))
    return causes + _topologies(obj.get("allowedTopologies") or [])


def _topologies(terms: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    for index, term in enumerate(terms):
        keys: set[str] = set()
        for place, each in enumerate(term.get("matchLabelExpressions") or ()):
            path = f"allowedTopologies[{index}].matchLabelExpressions[{place}]"
            key, values = each.get("key") or "", each.get("values") or []
            causes += [invalid(f"{path}.key", key, message) for message in is_qualified_name(key)]
            if not values:
                causes.append(required(f"{path}.values"))
            for position, value in enumerate(values):
                if value in values[:position]:
                    causes.append(duplicate(f"{path}.values[{position}]", value))
            if key in keys:
                causes.append(duplicate(f"{path}.key", key))
            keys.add(key)
        if term in terms[:index]:
            causes.append(duplicate(f"allowedTopologies[{index}].matchLabelExpressions", ""))
    return causes


def _storage_class_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    if (new.get("parameters") or {}) != (old.get("parameters") or {}):
        causes.append(forbidden("parameters", "updates to parameters are forbidden."))
    if new.get("provisioner") != old.get("provisioner"):
        causes.append(forbidden("provisioner", "updates to provisioner are forbidden."))
    if new.get("reclaimPolicy") != old.get("reclaimPolicy"):
        causes.append(forbidden("reclaimPolicy", "updates to reclaimPolicy are forbidden."))
    return causes + immutable("volumeBindingMode", new.get("volumeBindingMode"), old.get("volumeBindingMode"))


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("", "persistentvolumes"): _volume,
    ("", "persistentvolumeclaims"): _claim,
    ("storage.k8s.io", "storageclasses"): _storage_class,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("", "persistentvolumes"): _volume_change,
    ("", "persistentvolumeclaims"): _claim_change,
    ("storage.k8s.io", "storageclasses"): _storage_class_change,
}

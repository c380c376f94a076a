"""Rules of volumes, claims and storage classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.quantity import Quantity
from bamikube.api.validation.rules import forbidden, immutable, invalid, label_selector, one_of, required

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
    if spec.get("local") is not None and not (spec.get("nodeAffinity") or {}).get("required"):
        causes.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    return causes


def _claim(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = _modes(spec.get("accessModes") or [])
    causes += label_selector("spec.selector", spec.get("selector"))
    causes += _amount(
        "spec.resources[storage]", ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    )
    return causes + one_of("spec.volumeMode", spec.get("volumeMode"), ("Block", "Filesystem"))


def _volume_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    sources = (set(after) | set(before)) - _NOT_SOURCES
    if any(after.get(name) != before.get(name) for name in sources):
        detail = "spec.persistentvolumesource is immutable after creation"
        return [forbidden("spec.persistentvolumesource", detail)]
    return immutable("spec.volumeMode", after.get("volumeMode"), before.get("volumeMode"))


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
        if Quantity.parse(asked) < Quantity.parse(had):
            detail = "field can not be less than status.capacity"
            return [forbidden("spec.resources.requests.storage", detail)]
    return []


def _storage_class(obj: dict[str, Any]) -> list[Cause]:
    causes = [] if obj.get("provisioner") else [required("provisioner")]
    causes += one_of("reclaimPolicy", obj.get("reclaimPolicy"), ("Delete", "Retain"))
    return causes + one_of(
        "volumeBindingMode", obj.get("volumeBindingMode"), ("Immediate", "WaitForFirstConsumer")
    )


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

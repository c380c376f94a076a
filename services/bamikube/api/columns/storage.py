"""Rows of volumes, claims, classes, CSI objects and devices."""

from __future__ import annotations

from typing import Any

from bamikube.api.columns import age
from bamikube.api.columns.model import AGE, NAME, UNSET, Printer, column, name

_MODES = (
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
)
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def access_modes(modes: list[str] | None) -> str:
    """``RWO,ROX``."""
    return ",".join(short for mode, short in _MODES if mode in (modes or ()))


def _annotations(obj: dict[str, Any]) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}


def _phase(obj: dict[str, Any]) -> str:
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        return "Terminating"
    return (obj.get("status") or {}).get("phase") or ""


def _volume(obj: dict[str, Any], now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ref = spec.get("claimRef")
    return [
        name(obj),
        (spec.get("capacity") or {}).get("storage", ""),
        access_modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _phase(obj),
        f"{ref.get('namespace', '')}/{ref.get('name', '')}" if ref else "",
        _annotations(obj).get(_BETA_CLASS) or spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        status.get("reason", ""),
        age.of(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def _claim(obj: dict[str, Any], now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    bound = bool(spec.get("volumeName"))
    return [
        name(obj),
        _phase(obj),
        spec.get("volumeName") or "",
        (status.get("capacity") or {}).get("storage", "") if bound else "",
        access_modes(status.get("accessModes")) if bound else "",
        _annotations(obj).get(_BETA_CLASS) or spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        age.of(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def _storage_class(obj: dict[str, Any], now: float) -> list[Any]:
    default = " (default)" if _annotations(obj).get(_DEFAULT_CLASS) == "true" else ""
    return [
        name(obj) + default,
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age.of(obj, now),
    ]


def _csi_driver(obj: dict[str, Any], now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    tokens = ",".join(each.get("audience", "") for each in spec.get("tokenRequests") or ()) or UNSET
    return [
        name(obj),
        bool(spec.get("attachRequired", True)),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        tokens,
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or "<none>",
        age.of(obj, now),
    ]


def _csi_node(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), len((obj.get("spec") or {}).get("drivers") or ()), age.of(obj, now)]


def _capacity(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), obj.get("storageClassName", ""), obj.get("capacity") or UNSET]


def _attachment(obj: dict[str, Any], now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    volume = (spec.get("source") or {}).get("persistentVolumeName") or ""
    attached = bool((obj.get("status") or {}).get("attached"))
    return [name(obj), spec.get("attacher", ""), volume, spec.get("nodeName", ""), attached, age.of(obj, now)]


def _attributes_class(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), obj.get("driverName", ""), age.of(obj, now)]


def _resource_claim(obj: dict[str, Any], now: float) -> list[Any]:
    status = obj.get("status") or {}
    words = ["deleted"] if (obj.get("metadata") or {}).get("deletionTimestamp") else []
    if status.get("allocation") is None:
        words = words or ["pending"]
    else:
        words.append("allocated")
        if status.get("reservedFor"):
            words.append("reserved")
    return [name(obj), ",".join(words), age.of(obj, now)]


def _resource_slice(obj: dict[str, Any], now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    pool = (spec.get("pool") or {}).get("name", "")
    return [name(obj), spec.get("nodeName") or "", spec.get("driver", ""), pool, age.of(obj, now)]


_STORAGE = "storage.k8s.io"
_MODE = column("VolumeMode", wide=True, about="Filesystem or Block.")
_ACCESS = column("Access Modes", about="Who may mount it how.")
_CAPACITY = column("Capacity", about="Its size.")
_CLASS = column("StorageClass", about="Its class.")
_ATTRIBUTES = column("VolumeAttributesClass", about="The class of its changeable attributes.")
_STATUS = column("Status", about="Where in its life it is.")

PRINTERS = {
    ("", "persistentvolumes"): Printer(
        (
            NAME,
            _CAPACITY,
            _ACCESS,
            column("Reclaim Policy", about="What becomes of it when it is released."),
            _STATUS,
            column("Claim", about="Who claims it."),
            _CLASS,
            _ATTRIBUTES,
            column("Reason", about="Why it is in this state."),
            AGE,
            _MODE,
        ),
        _volume,
    ),
    ("", "persistentvolumeclaims"): Printer(
        (
            NAME,
            _STATUS,
            column("Volume", about="What it is bound to."),
            _CAPACITY,
            _ACCESS,
            _CLASS,
            _ATTRIBUTES,
            AGE,
            _MODE,
        ),
        _claim,
    ),
    (_STORAGE, "storageclasses"): Printer(
        (
            NAME,
            column("Provisioner", about="Who makes its volumes."),
            column("ReclaimPolicy", about="What becomes of released volumes."),
            column("VolumeBindingMode", about="When volumes are bound."),
            column("AllowVolumeExpansion", "boolean", about="Whether volumes may grow."),
            AGE,
        ),
        _storage_class,
    ),
    (_STORAGE, "csidrivers"): Printer(
        (
            NAME,
            column("AttachRequired", "boolean"),
            column("PodInfoOnMount", "boolean"),
            column("StorageCapacity", "boolean"),
            column("TokenRequests"),
            column("RequiresRepublish", "boolean"),
            column("Modes"),
            AGE,
        ),
        _csi_driver,
    ),
    (_STORAGE, "csinodes"): Printer((NAME, column("Drivers", "integer"), AGE), _csi_node),
    (_STORAGE, "csistoragecapacities"): Printer(
        (NAME, column("StorageClassName"), column("Capacity")), _capacity
    ),
    (_STORAGE, "volumeattachments"): Printer(
        (NAME, column("Attacher"), column("PV"), column("Node"), column("Attached", "boolean"), AGE),
        _attachment,
    ),
    (_STORAGE, "volumeattributesclasses"): Printer((NAME, column("DriverName"), AGE), _attributes_class),
    ("resource.k8s.io", "resourceclaims"): Printer((NAME, column("State"), AGE), _resource_claim),
    ("resource.k8s.io", "resourceslices"): Printer(
        (NAME, column("Node"), column("Driver"), column("Pool"), AGE), _resource_slice
    ),
}

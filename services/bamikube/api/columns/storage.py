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
_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_DEFAULT_ATTRIBUTES = ("volumeattributesclass.alpha.kubernetes.io/is-default-class",)


def access_modes(modes: list[str] | None) -> str:
    """``RWO,ROX``."""
    return ",".join(short for mode, short in _MODES if mode in (modes or ()))


def _annotations(obj: dict[str, Any]) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}


def _phase(obj: dict[str, Any]) -> str:
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        return "Terminating"
    return (obj.get("status") or {}).get("phase") or ""


def _named(obj: dict[str, Any], default: tuple[str, ...]) -> str:
    """The name of a class, and whether it is the default."""
    annotations = _annotations(obj)
    return name(obj) + (" (default)" if any(annotations.get(each) == "true" for each in default) else "")


def _class(obj: dict[str, Any], spec: dict[str, Any]) -> str:
    return str(_annotations(obj).get(_BETA_CLASS, spec.get("storageClassName") or ""))


def _or_unset(value: str | None) -> str:
    return UNSET if value is None else value


def _volume(obj: dict[str, Any], now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ref = spec.get("claimRef")
    return [
        name(obj),
        (spec.get("capacity") or {}).get("storage", "0"),
        access_modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _phase(obj),
        f"{ref.get('namespace', '')}/{ref.get('name', '')}" if ref else "",
        _class(obj, spec),
        _or_unset(spec.get("volumeAttributesClassName")),
        status.get("reason", ""),
        age.of(obj, now),
        _or_unset(spec.get("volumeMode")),
    ]


def _claim(obj: dict[str, Any], now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    bound = bool(spec.get("volumeName"))
    return [
        name(obj),
        _phase(obj),
        spec.get("volumeName") or "",
        (status.get("capacity") or {}).get("storage", "0") if bound else "",
        access_modes(status.get("accessModes")) if bound else "",
        _class(obj, spec),
        _or_unset(spec.get("volumeAttributesClassName")),
        age.of(obj, now),
        _or_unset(spec.get("volumeMode")),
    ]


def _storage_class(obj: dict[str, Any], now: float) -> list[Any]:
    return [
        _named(obj, _DEFAULT_CLASS),
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
    return [_named(obj, _DEFAULT_ATTRIBUTES), obj.get("driverName", ""), age.of(obj, now)]


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
_PV, _PVC = "core.v1.PersistentVolumeSpec", "core.v1.PersistentVolumeClaimSpec"
_PVC_STATUS = "core.v1.PersistentVolumeClaimStatus"
_CSI_DRIVER, _ATTACHMENT = "storage.v1.CSIDriverSpec", "storage.v1.VolumeAttachmentSpec"

PRINTERS = {
    ("", "persistentvolumes"): Printer(
        (
            NAME,
            column("Capacity", about=f"={_PV}.capacity"),
            column("Access Modes", about=f"={_PV}.accessModes"),
            column("Reclaim Policy", about=f"={_PV}.persistentVolumeReclaimPolicy"),
            column("Status", about="=core.v1.PersistentVolumeStatus.phase"),
            column("Claim", about=f"={_PV}.claimRef"),
            column("StorageClass", about="StorageClass of the pv"),
            column("VolumeAttributesClass", about="VolumeAttributesClass of the pv"),
            column("Reason", about="=core.v1.PersistentVolumeStatus.reason"),
            AGE,
            column("VolumeMode", wide=True, about=f"={_PV}.volumeMode"),
        ),
        _volume,
    ),
    ("", "persistentvolumeclaims"): Printer(
        (
            NAME,
            column("Status", about=f"={_PVC_STATUS}.phase"),
            column("Volume", about=f"={_PVC}.volumeName"),
            column("Capacity", about=f"={_PVC_STATUS}.capacity"),
            column("Access Modes", about=f"={_PVC_STATUS}.accessModes"),
            column("StorageClass", about="StorageClass of the pvc"),
            column("VolumeAttributesClass", about="VolumeAttributesClass of the pvc"),
            AGE,
            column("VolumeMode", wide=True, about=f"={_PVC}.volumeMode"),
        ),
        _claim,
    ),
    (_STORAGE, "storageclasses"): Printer(
        (
            NAME,
            column("Provisioner", about="=storage.v1.StorageClass.provisioner"),
            column("ReclaimPolicy", about="=storage.v1.StorageClass.reclaimPolicy"),
            column("VolumeBindingMode", about="=storage.v1.StorageClass.volumeBindingMode"),
            column("AllowVolumeExpansion", about="=storage.v1.StorageClass.allowVolumeExpansion"),
            AGE,
        ),
        _storage_class,
    ),
    (_STORAGE, "csidrivers"): Printer(
        (
            NAME,
            column("AttachRequired", "boolean", about=f"={_CSI_DRIVER}.attachRequired"),
            column("PodInfoOnMount", "boolean", about=f"={_CSI_DRIVER}.podInfoOnMount"),
            column("StorageCapacity", "boolean", about=f"={_CSI_DRIVER}.storageCapacity"),
            column("TokenRequests", about=f"={_CSI_DRIVER}.tokenRequests"),
            column("RequiresRepublish", "boolean", about=f"={_CSI_DRIVER}.requiresRepublish"),
            column("Modes", about=f"={_CSI_DRIVER}.volumeLifecycleModes"),
            AGE,
        ),
        _csi_driver,
    ),
    (_STORAGE, "csinodes"): Printer(
        (
            NAME,
            column(
                "Drivers",
                "integer",
                about="Drivers indicates the number of CSI drivers registered on the node",
            ),
            AGE,
        ),
        _csi_node,
    ),
    (_STORAGE, "csistoragecapacities"): Printer(
        (
            NAME,
            column("StorageClassName", about="=storage.v1.CSIStorageCapacity.storageClassName"),
            column("Capacity", about="=storage.v1.CSIStorageCapacity.capacity"),
        ),
        _capacity,
    ),
    (_STORAGE, "volumeattachments"): Printer(
        (
            NAME,
            column("Attacher", form="name", about=f"={_ATTACHMENT}.attacher"),
            column("PV", about="=storage.v1.VolumeAttachmentSource.persistentVolumeName"),
            column("Node", about=f"={_ATTACHMENT}.nodeName"),
            column("Attached", "boolean", about="=storage.v1.VolumeAttachmentStatus.attached"),
            AGE,
        ),
        _attachment,
    ),
    (_STORAGE, "volumeattributesclasses"): Printer(
        (NAME, column("DriverName", about="=storage.v1.VolumeAttributesClass.driverName"), AGE),
        _attributes_class,
    ),
    ("resource.k8s.io", "resourceclaims"): Printer(
        (
            NAME,
            column("State", about="A summary of the current state (allocated, pending, reserved, etc.)."),
            AGE,
        ),
        _resource_claim,
    ),
    ("resource.k8s.io", "resourceslices"): Printer(
        (
            NAME,
            column("Node", about="=resource.v1.ResourceSliceSpec.nodeName"),
            column("Driver", about="=resource.v1.ResourceSliceSpec.driver"),
            column("Pool", about="=resource.v1.ResourcePool.name"),
            AGE,
        ),
        _resource_slice,
    ),
}

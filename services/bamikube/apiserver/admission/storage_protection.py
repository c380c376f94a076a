"""StorageObjectInUseProtection and PersistentVolumeClaimResize: what is in use stays, and grows only where it can.

A new claim, volume or class of volume attributes gets a finalizer, so that deleting it waits until nobody uses it; the
controllers ``pvc-``, ``pv-`` and ``vac-protection-controller`` take it off. A bound claim may ask for more only if its
storage class says that its volumes can be expanded.

Source: Kubernetes' "Persistent Volumes", storage object in use protection and expanding claims.
"""

from __future__ import annotations

from typing import Any

from bamikube.api import errors
from bamikube.api.quantity import ZERO, Quantity
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.default_classes import STORAGE_ANNOTATION, STORAGE_CLASSES
from bamikube.apiserver.registry.reader import Reader

Object = dict[str, Any]

CLAIMS = ("", "persistentvolumeclaims")
VOLUMES = ("", "persistentvolumes")
ATTRIBUTES = ("storage.k8s.io", "volumeattributesclasses")
FINALIZERS = {
    CLAIMS: "kubernetes.io/pvc-protection",
    VOLUMES: "kubernetes.io/pv-protection",
    ATTRIBUTES: "kubernetes.io/vac-protection",
}


class StorageObjectInUseProtection(Plugin):
    name = "StorageObjectInUseProtection"
    kinds = frozenset(FINALIZERS)
    operations = frozenset({"CREATE"})

    async def mutate(self, ctx: AdmissionContext) -> None:
        if ctx.subresource or ctx.object is None:
            return
        finalizer = FINALIZERS[ctx.resource.key]
        held = ctx.object["metadata"].get("finalizers") or []
        if finalizer not in held:
            ctx.object["metadata"]["finalizers"] = [*held, finalizer]


class PersistentVolumeClaimResize(Plugin):
    name = "PersistentVolumeClaimResize"
    kinds = frozenset({CLAIMS})
    operations = frozenset({"UPDATE"})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def validate(self, ctx: AdmissionContext) -> None:
        if ctx.subresource or ctx.object is None or ctx.old is None or _size(ctx.object) <= _size(ctx.old):
            return
        if (ctx.old.get("status") or {}).get("phase") != "Bound":
            raise errors.forbidden(CLAIMS[1], ctx.name, "Only bound persistent volume claims can be expanded")
        name = class_of(ctx.object)
        found = self._reader.get(STORAGE_CLASSES, "", name) if name == class_of(ctx.old) and name else None
        if found is None or not found.get("allowVolumeExpansion"):
            raise errors.forbidden(
                CLAIMS[1],
                ctx.name,
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc "
                "must support resize",
            )


def class_of(claim: Object) -> str:
    """The name of a claim's storage class; "" for none."""
    annotated = (claim["metadata"].get("annotations") or {}).get(STORAGE_ANNOTATION)
    return str(
        annotated if annotated is not None else (claim.get("spec") or {}).get("storageClassName") or ""
    )


def _size(claim: Object) -> Quantity:
    asked = (((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}).get("storage")
    return ZERO if asked is None else Quantity.parse(asked)

"""DefaultStorageClass and DefaultIngressClass: who names no class gets the one marked as the default.

The newest default counts when there are several; with equal ages, the first by name. Saying "none" is possible:
``storageClassName: ""``.

Source: Kubernetes' "Storage Classes" and "Ingress", default class; the admission controller reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.registry.reader import Reader

Object = dict[str, Any]

STORAGE_CLASSES = ("storage.k8s.io", "storageclasses")
INGRESS_CLASSES = ("networking.k8s.io", "ingressclasses")
DEFAULT_STORAGE = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
DEFAULT_INGRESS = ("ingressclass.kubernetes.io/is-default-class",)
STORAGE_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
INGRESS_ANNOTATION = "kubernetes.io/ingress.class"


def default_of(classes: Iterable[Object], marks: tuple[str, ...]) -> str:
    """The name of the default class; "" when there is none."""
    marked = [
        one
        for one in classes
        if any((one["metadata"].get("annotations") or {}).get(mark) == "true" for mark in marks)
    ]
    marked.sort(key=lambda one: str(one["metadata"]["name"]))
    # The sort is stable: of equal ages the first by name stays in front.
    marked.sort(key=lambda one: str(one["metadata"].get("creationTimestamp") or ""), reverse=True)
    return str(marked[0]["metadata"]["name"]) if marked else ""


class DefaultStorageClass(Plugin):
    name = "DefaultStorageClass"
    kinds = frozenset({("", "persistentvolumeclaims")})
    operations = frozenset({"CREATE"})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def mutate(self, ctx: AdmissionContext) -> None:
        if ctx.object is None or ctx.subresource:
            return
        spec = ctx.object.setdefault("spec", {})
        annotated = STORAGE_ANNOTATION in (ctx.object["metadata"].get("annotations") or {})
        if spec.get("storageClassName") is not None or annotated:
            return
        if name := default_of(self._reader.list(STORAGE_CLASSES), DEFAULT_STORAGE):
            spec["storageClassName"] = name


class DefaultIngressClass(Plugin):
    name = "DefaultIngressClass"
    kinds = frozenset({("networking.k8s.io", "ingresses")})
    operations = frozenset({"CREATE"})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def mutate(self, ctx: AdmissionContext) -> None:
        if ctx.object is None or ctx.subresource:
            return
        spec = ctx.object.setdefault("spec", {})
        annotated = INGRESS_ANNOTATION in (ctx.object["metadata"].get("annotations") or {})
        if spec.get("ingressClassName") is not None or annotated:
            return
        if name := default_of(self._reader.list(INGRESS_CLASSES), DEFAULT_INGRESS):
            spec["ingressClassName"] = name

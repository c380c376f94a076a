"""AlwaysPullImages: an image on a node is no key to it; every start asks the registry again. Off by default.

Source: Kubernetes' admission controller reference, AlwaysPullImages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bamikube.api import errors
from bamikube.api.errors import Cause
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext

Object = dict[str, Any]
_FIELDS = ("initContainers", "containers", "ephemeralContainers")


class AlwaysPullImages(Plugin):
    name = "AlwaysPullImages"
    kinds = frozenset({("", "pods")})
    operations = frozenset({"CREATE", "UPDATE"})

    async def mutate(self, ctx: AdmissionContext) -> None:
        if _looks(ctx):
            for _, puller in _pullers(ctx.object or {}):
                puller[_policy_of(puller)] = "Always"

    async def validate(self, ctx: AdmissionContext) -> None:
        if not _looks(ctx):
            return
        causes = [
            Cause(
                "FieldValueNotSupported",
                f'Unsupported value: "{puller.get(_policy_of(puller), "")}": supported values: "Always"',
                f"{path}.{_policy_of(puller)}",
            )
            for path, puller in _pullers(ctx.object or {})
            if puller.get(_policy_of(puller)) != "Always"
        ]
        if causes:
            raise errors.invalid("Pod", ctx.name, causes)


def _looks(ctx: AdmissionContext) -> bool:
    """New images only: a pod that has its images already is not looked at again."""
    if ctx.object is None or ctx.subresource not in ("", "ephemeralcontainers"):
        return False
    if ctx.operation == "CREATE":
        return True
    return not _images(ctx.object) <= _images(ctx.old or {})


def _images(pod: Object) -> set[str]:
    return {str(puller.get("image") or puller.get("reference") or "") for _, puller in _pullers(pod)}


def _pullers(pod: Object) -> Iterator[tuple[str, Object]]:
    """Containers and image volumes, each with its path."""
    spec = pod.get("spec") or {}
    for field in _FIELDS:
        for index, container in enumerate(spec.get(field) or ()):
            yield f"spec.{field}[{index}]", container
    for index, volume in enumerate(spec.get("volumes") or ()):
        if volume.get("image") is not None:
            yield f"spec.volumes[{index}].image", volume["image"]


def _policy_of(puller: Object) -> str:
    return "pullPolicy" if "reference" in puller else "imagePullPolicy"

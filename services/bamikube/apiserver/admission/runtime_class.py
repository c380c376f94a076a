"""RuntimeClass: a pod that names a runtime class takes on what that class costs and where it can run.

The class's overhead becomes the pod's, its node selector and tolerations are merged into the pod's. A pod whose class
does not exist, or that claims another overhead than its class has, is refused.

Source: Kubernetes' "Runtime Class" and "Pod Overhead".
"""

from __future__ import annotations

from typing import Any

from bamikube.api import errors
from bamikube.api.errors import ApiError
from bamikube.api.podresources import amounts
from bamikube.api.predicates.tolerations import merged
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.registry.reader import Reader

Object = dict[str, Any]

CLASSES = ("node.k8s.io", "runtimeclasses")


class RuntimeClass(Plugin):
    name = "RuntimeClass"
    kinds = frozenset({("", "pods")})
    operations = frozenset({"CREATE"})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def mutate(self, ctx: AdmissionContext) -> None:
        spec = _spec(ctx)
        if spec is None or not spec.get("runtimeClassName"):
            return
        found = await self._class(ctx, spec["runtimeClassName"])
        fixed = _overhead(found)
        if fixed is not None:
            if spec.get("overhead") is not None and amounts(spec["overhead"]) != amounts(fixed):
                raise _refused(
                    ctx, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
                )
            spec["overhead"] = dict(fixed)
        if (scheduling := found.get("scheduling")) is not None:
            _place(ctx, spec, scheduling)

    async def validate(self, ctx: AdmissionContext) -> None:
        spec = _spec(ctx)
        if spec is None:
            return
        name = spec.get("runtimeClassName")
        fixed = _overhead(await self._class(ctx, name)) if name else None
        if fixed is None:
            if spec.get("overhead") is not None:
                raise _refused(
                    ctx, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                )
        elif amounts(spec.get("overhead")) != amounts(fixed):
            raise _refused(ctx, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")

    async def _class(self, ctx: AdmissionContext, name: str) -> Object:
        found = self._reader.get(CLASSES, "", name)
        if found is None:
            # Perhaps another API server has just made it and our cache is about to hear.
            await self._reader.consistent()
            found = self._reader.get(CLASSES, "", name)
        if found is None:
            raise _refused(ctx, f'pod rejected: RuntimeClass "{name}" not found')
        return found


def _spec(ctx: AdmissionContext) -> Object | None:
    if ctx.subresource or ctx.object is None:
        return None
    spec: Object = ctx.object.setdefault("spec", {})
    return spec


def _overhead(runtime_class: Object) -> Object | None:
    overhead = runtime_class.get("overhead")
    return None if overhead is None else overhead.get("podFixed") or {}


def _place(ctx: AdmissionContext, spec: Object, scheduling: Object) -> None:
    selector = dict(spec.get("nodeSelector") or {})
    for key, value in sorted((scheduling.get("nodeSelector") or {}).items()):
        if selector.get(key, value) != value:
            raise _refused(
                ctx,
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                f"pod.spec.nodeSelector[{key}] = {selector[key]}",
            )
        selector[key] = value
    if selector:
        spec["nodeSelector"] = selector
    if tolerations := merged(spec.get("tolerations") or (), scheduling.get("tolerations") or ()):
        spec["tolerations"] = tolerations


def _refused(ctx: AdmissionContext, why: str) -> ApiError:
    return errors.forbidden("pods", ctx.name, why)

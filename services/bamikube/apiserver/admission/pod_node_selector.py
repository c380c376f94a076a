"""PodNodeSelector: the pods of a namespace go to the namespace's nodes. Off by default.

The annotation ``scheduler.alpha.kubernetes.io/node-selector`` of a namespace (``env=test,disk=ssd``) is merged into
every new pod's node selector; a pod that contradicts it is refused.

Source: Kubernetes' admission controller reference, PodNodeSelector.
"""

from __future__ import annotations

from bamikube.api import errors
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.registry.reader import Reader

ANNOTATION = "scheduler.alpha.kubernetes.io/node-selector"
NAMESPACES = ("", "namespaces")


class PodNodeSelector(Plugin):
    name = "PodNodeSelector"
    kinds = frozenset({("", "pods")})
    operations = frozenset({"CREATE"})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def mutate(self, ctx: AdmissionContext) -> None:
        wanted = self._wanted(ctx)
        if wanted and ctx.object is not None:
            self._judge(ctx, wanted)
            spec = ctx.object.setdefault("spec", {})
            spec["nodeSelector"] = wanted | (spec.get("nodeSelector") or {})

    async def validate(self, ctx: AdmissionContext) -> None:
        self._judge(ctx, self._wanted(ctx))

    def _wanted(self, ctx: AdmissionContext) -> dict[str, str]:
        if ctx.subresource:
            return {}
        namespace = self._reader.get(NAMESPACES, "", ctx.namespace) or {"metadata": {}}
        text = (namespace["metadata"].get("annotations") or {}).get(ANNOTATION) or ""
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        if any(not equals for _, equals, _ in pairs):
            raise errors.forbidden(
                "pods",
                ctx.name,
                f"namespace {ctx.namespace}: the annotation {ANNOTATION} is no list of key=value",
            )
        return {key.strip(): value.strip() for key, _, value in pairs}

    @staticmethod
    def _judge(ctx: AdmissionContext, wanted: dict[str, str]) -> None:
        held = ((ctx.object or {}).get("spec") or {}).get("nodeSelector") or {}
        if any(held.get(key, value) != value for key, value in wanted.items()):
            raise errors.forbidden(
                "pods",
                ctx.name,
                "pod node label selector conflicts with its namespace node label selector",
            )

"""ExtendedResourceToleration: who asks for a special device may go where only such pods are wanted. Off by default.

Nodes with, say, GPUs are tainted with the name of the resource; a pod that asks for it gets the toleration.

Source: Kubernetes' admission controller reference, ExtendedResourceToleration.
"""

from __future__ import annotations

from typing import Any

from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext


class ExtendedResourceToleration(Plugin):
    name = "ExtendedResourceToleration"
    kinds = frozenset({("", "pods")})
    operations = frozenset({"CREATE", "UPDATE"})

    async def mutate(self, ctx: AdmissionContext) -> None:
        if ctx.subresource or ctx.object is None:
            return
        spec = ctx.object.setdefault("spec", {})
        wanted = {
            name
            for field in ("containers", "initContainers")
            for container in spec.get(field) or ()
            for name in (container.get("resources") or {}).get("requests") or ()
            if is_extended(name)
        }
        tolerations: list[dict[str, Any]] = list(spec.get("tolerations") or ())
        for name in sorted(wanted):
            toleration = {"key": name, "operator": "Exists", "effect": "NoSchedule"}
            if toleration not in tolerations:
                tolerations.append(toleration)
        if tolerations:
            spec["tolerations"] = tolerations


def is_extended(name: str) -> bool:
    """A resource of somebody else: qualified, and not by Kubernetes."""
    return "/" in name and "kubernetes.io/" not in name and not name.startswith("requests.")

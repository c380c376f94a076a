"""LimitPodHardAntiAffinityTopology: a pod may demand a node for itself, not a whole zone. Off by default.

Source: Kubernetes' admission controller reference, LimitPodHardAntiAffinityTopology.
"""

from __future__ import annotations

from bamikube.api import errors
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext

HOSTNAME = "kubernetes.io/hostname"


class LimitPodHardAntiAffinityTopology(Plugin):
    name = "LimitPodHardAntiAffinityTopology"
    kinds = frozenset({("", "pods")})
    operations = frozenset({"CREATE", "UPDATE"})

    async def validate(self, ctx: AdmissionContext) -> None:
        if ctx.subresource or ctx.object is None:
            return
        affinity = (ctx.object.get("spec") or {}).get("affinity") or {}
        terms = (affinity.get("podAntiAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
        for term in terms or ():
            if (key := term.get("topologyKey")) != HOSTNAME:
                raise errors.forbidden(
                    "pods",
                    ctx.name,
                    f"affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key "
                    f"{HOSTNAME} is allowed",
                )

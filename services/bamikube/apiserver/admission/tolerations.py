"""DefaultTolerationSeconds: a pod that says nothing about dead nodes stays five minutes on one.

Source: Kubernetes' admission controller reference, DefaultTolerationSeconds.
"""

from __future__ import annotations

from typing import Any

from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
SECONDS = 300


class DefaultTolerationSeconds(Plugin):
    name = "DefaultTolerationSeconds"
    kinds = frozenset({("", "pods")})
    operations = frozenset({"CREATE", "UPDATE"})

    async def mutate(self, ctx: AdmissionContext) -> None:
        if not ctx.concerns("", "pods") or ctx.object is None or ctx.operation not in ("CREATE", "UPDATE"):
            return
        spec = ctx.object.setdefault("spec", {})
        tolerations: list[dict[str, Any]] = spec.get("tolerations") or []
        missing = [key for key in (NOT_READY, UNREACHABLE) if not _tolerated(tolerations, key)]
        if missing:
            spec["tolerations"] = [
                *tolerations,
                *(
                    {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}
                    for key in missing
                ),
            ]


def _tolerated(tolerations: list[dict[str, Any]], key: str) -> bool:
    return any(
        toleration.get("key") in (key, None, "") and toleration.get("effect") in ("NoExecute", None, "")
        for toleration in tolerations
    )

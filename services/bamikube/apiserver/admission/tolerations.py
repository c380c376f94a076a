"""DefaultTolerationSeconds: a pod that says nothing about dead nodes stays five minutes on one, or as long as
``--default-not-ready-toleration-seconds`` and ``--default-unreachable-toleration-seconds`` say.

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

    def __init__(self, not_ready: int = SECONDS, unreachable: int = SECONDS) -> None:
        self._seconds = {NOT_READY: not_ready, UNREACHABLE: unreachable}

    async def mutate(self, ctx: AdmissionContext) -> None:
        if not ctx.concerns("", "pods") or ctx.object is None or ctx.operation not in ("CREATE", "UPDATE"):
            return
        spec = ctx.object.setdefault("spec", {})
        tolerations: list[dict[str, Any]] = spec.get("tolerations") or []
        missing = [key for key in self._seconds if not _tolerated(tolerations, key)]
        if missing:
            spec["tolerations"] = [
                *tolerations,
                *(
                    {
                        "key": key,
                        "operator": "Exists",
                        "effect": "NoExecute",
                        "tolerationSeconds": self._seconds[key],
                    }
                    for key in missing
                ),
            ]


def _tolerated(tolerations: list[dict[str, Any]], key: str) -> bool:
    return any(
        toleration.get("key") in (key, None, "") and toleration.get("effect") in ("NoExecute", None, "")
        for toleration in tolerations
    )

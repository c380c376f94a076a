"""TaintNodesByCondition: a new node is not ready until somebody has seen that it is.

Without the taint, pods could be placed on a node in the moment between its registration and its first report.
"""

from __future__ import annotations

from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.tolerations import NOT_READY


class TaintNodesByCondition(Plugin):
    name = "TaintNodesByCondition"
    kinds = frozenset({("", "nodes")})
    operations = frozenset({"CREATE"})

    async def mutate(self, ctx: AdmissionContext) -> None:
        if ctx.operation != "CREATE" or not ctx.concerns("", "nodes") or ctx.object is None:
            return
        spec = ctx.object.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(taint.get("key") == NOT_READY and taint.get("effect") == "NoSchedule" for taint in taints):
            spec["taints"] = [*taints, {"key": NOT_READY, "effect": "NoSchedule"}]

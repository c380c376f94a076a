"""Priority: the name of a priority class becomes a number, once, when the pod is created.

Source: Kubernetes' "Pod Priority and Preemption" and the admission controller reference, Priority.
"""

from __future__ import annotations

from typing import Any

from bamikube.api import errors
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.registry.reader import Reader

CLASSES = ("scheduling.k8s.io", "priorityclasses")
SYSTEM_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


class Priority(Plugin):
    name = "Priority"
    kinds = frozenset({("", "pods"), CLASSES})
    operations = frozenset({"CREATE", "UPDATE"})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def mutate(self, ctx: AdmissionContext) -> None:
        if not ctx.concerns("", "pods") or ctx.object is None:
            return
        spec = ctx.object.setdefault("spec", {})
        if ctx.operation == "UPDATE":
            # What was resolved at creation stays, unless the client says something else (which validation refuses).
            before = (ctx.old or {}).get("spec") or {}
            for field in ("priority", "preemptionPolicy"):
                if field not in spec and field in before:
                    spec[field] = before[field]
            return
        if ctx.operation == "CREATE":
            await self._resolve(ctx, spec)

    async def _resolve(self, ctx: AdmissionContext, spec: dict[str, Any]) -> None:
        name = spec.get("priorityClassName") or ""
        policy = "PreemptLowerPriority"
        value = 0
        if name:
            found = self._reader.get(CLASSES, "", name)
            if found is None and await self._reader.consistent():  # another API server may have just made it
                found = self._reader.get(CLASSES, "", name)
            if found is None and name not in SYSTEM_CLASSES:
                raise errors.forbidden("pods", ctx.name, f"no PriorityClass with name {name} was found")
            value = int((found or {}).get("value", SYSTEM_CLASSES.get(name, 0)))
            policy = (found or {}).get("preemptionPolicy") or policy
        elif (default := self._default()) is not None:
            spec["priorityClassName"] = default["metadata"]["name"]
            value = int(default.get("value", 0))
            policy = default.get("preemptionPolicy") or policy
        if spec.get("priority") is not None and spec["priority"] != value:
            raise errors.forbidden(
                "pods",
                ctx.name,
                f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
                f"priority admission controller computed {value} from the given PriorityClass name",
            )
        if spec.get("preemptionPolicy") and spec["preemptionPolicy"] != policy:
            raise errors.forbidden(
                "pods",
                ctx.name,
                f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; "
                f"priority admission controller computed {policy} from the given PriorityClass name",
            )
        spec["priority"] = value
        spec["preemptionPolicy"] = policy

    def _default(self) -> dict[str, Any] | None:
        """The global default; should there be several, the lowest, as the least harm."""
        defaults = [one for one in self._reader.list(CLASSES) if one.get("globalDefault")]
        return min(defaults, key=lambda one: int(one.get("value", 0))) if defaults else None

    async def validate(self, ctx: AdmissionContext) -> None:
        if not ctx.concerns(*CLASSES) or ctx.object is None or ctx.operation not in ("CREATE", "UPDATE"):
            return
        name = ctx.object["metadata"].get("name", "")
        if ctx.object.get("globalDefault"):
            for other in self._reader.list(CLASSES):
                if other.get("globalDefault") and other["metadata"]["name"] != name:
                    raise errors.forbidden(
                        "priorityclasses",
                        name,
                        f"PriorityClass {other['metadata']['name']} is already marked as default. "
                        "Only one default can exist",
                        CLASSES[0],
                    )

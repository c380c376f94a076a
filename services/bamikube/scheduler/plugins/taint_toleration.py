"""TaintToleration: taints keep pods away that do not tolerate them; PreferNoSchedule only lowers the score."""

from __future__ import annotations

from collections.abc import Callable

from bamikube.api.predicates.tolerations import tolerates, untolerated
from bamikube.scheduler.model import NodeInfo, PodInfo
from bamikube.scheduler.verdict import UNRESOLVABLE, Verdict

NAME = "TaintToleration"
WEIGHT = 3


def judge(pod: PodInfo) -> Callable[[NodeInfo], Verdict | None]:
    tolerations = pod.spec["tolerations"] or []

    def verdict(node: NodeInfo) -> Verdict | None:
        taint = untolerated(node.taints, tolerations, ("NoSchedule", "NoExecute")) if node.taints else None
        if taint is None:
            return None
        shown = f"{{{taint.get('key', '')}: {taint.get('value') or ''}}}"
        return Verdict(UNRESOLVABLE, NAME, f"node(s) had untolerated taint {shown}")

    return verdict


def dislikes(pod: PodInfo) -> Callable[[NodeInfo], int]:
    """How many PreferNoSchedule taints of a node the pod does not tolerate."""
    held = [t for t in pod.spec["tolerations"] or [] if t.get("effect") in (None, "", "PreferNoSchedule")]
    return lambda node: sum(
        taint.get("effect") == "PreferNoSchedule" and not any(tolerates(t, taint) for t in held)
        for taint in node.taints
    )

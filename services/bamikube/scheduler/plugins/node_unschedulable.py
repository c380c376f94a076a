"""NodeUnschedulable: cordoned nodes take no new pods, unless the pod tolerates the cordon's taint."""

from __future__ import annotations

from collections.abc import Callable

from bamikube.api.predicates.tolerations import tolerates
from bamikube.scheduler.model import NodeInfo, PodInfo
from bamikube.scheduler.verdict import UNRESOLVABLE, Verdict

NAME = "NodeUnschedulable"
_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_NO = Verdict(UNRESOLVABLE, NAME, "node(s) were unschedulable")


def judge(pod: PodInfo) -> Callable[[NodeInfo], Verdict | None]:
    tolerated = any(tolerates(toleration, _TAINT) for toleration in pod.spec["tolerations"] or [])
    return lambda node: _NO if node.unschedulable and not tolerated else None

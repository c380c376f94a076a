"""NodeAffinity: nodeSelector and required node affinity decide, preferred node affinity scores."""

from __future__ import annotations

from collections.abc import Callable

from bamikube.api.predicates import affinity
from bamikube.scheduler.model import NodeInfo, PodInfo
from bamikube.scheduler.verdict import UNRESOLVABLE, Verdict

NAME = "NodeAffinity"
WEIGHT = 2
_NO = Verdict(UNRESOLVABLE, NAME, "node(s) didn't match Pod's node affinity/selector")


def _spec(pod: PodInfo) -> dict[str, object]:
    return {key: pod.spec[key] for key in ("nodeSelector", "affinity") if pod.spec[key]}


def judge(pod: PodInfo) -> Callable[[NodeInfo], Verdict | None]:
    accepts = affinity.required(_spec(pod))
    return lambda node: None if accepts(node.labels, node.name) else _NO


def likes(pod: PodInfo) -> Callable[[NodeInfo], int]:
    """The sum of the weights of the preferred terms a node fulfils."""
    terms = affinity.preferred(_spec(pod))
    return lambda node: sum(weight for weight, test in terms if test(node.labels, node.name))

"""Who makes room for a critical pod that the node has no room for. Pure.

As few pods as possible go, and of the guaranteed ones as few as can be, then of the burstable, then of the best-effort ones: first is
asked which guaranteed pods are needed even if all others went, then which burstable ones beside those, then the rest. Among pods of a
class the one goes that comes nearest to what is lacking (each resource counts alike, by the square of the part left over),
of two alike the smaller.

Worked example: 500m of cpu are lacking; burstable pods request 300m, 600m and 900m. The last two cover it all (distance 0), 600m is
the smaller: it goes alone.

Source: "Guaranteed Scheduling For Critical Add-On Pods".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bamikube.api.predicates import fits
from bamikube.api.predicates.general import Failure, Insufficient
from bamikube.api.qos import qos_class
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import Rejection

REASON = "Preempting"
MESSAGE = "Preempted in order to admit critical pod"
REJECTION = Rejection(
    REASON, MESSAGE, disrupted=True, why="Pod was preempted by Kubelet to accommodate a critical pod."
)

Lacking = Mapping[str, int]


class NoRoom(Exception):
    """Nobody could make enough room."""


def lacking(failures: Sequence[Failure]) -> dict[str, int]:
    """What is too little, by resource."""
    return {f.resource: f.lacking for f in failures if isinstance(f, Insufficient)}


def victims(pod: JSON, others: Iterable[JSON], needs: Lacking) -> list[JSON]:
    """The pods that are to go. Raises NoRoom."""
    classes: dict[str, list[JSON]] = {"BestEffort": [], "Burstable": [], "Guaranteed": []}
    for other in others:
        if preemptable(pod, other):
            classes[qos_class(other["spec"])].append(other)
    effort, burstable, guaranteed = classes.values()
    if rest := _after(needs, [*effort, *burstable, *guaranteed]):
        raise NoRoom(_told(rest))
    costly = _nearest(guaranteed, _after(needs, [*effort, *burstable]))
    middle = _nearest(burstable, _after(needs, [*effort, *costly]))
    cheap = _nearest(effort, _after(needs, [*middle, *costly]))
    return [*cheap, *middle, *costly]


def preemptable(pod: JSON, other: JSON) -> bool:
    """Whether ``other`` may have to go for ``pod``."""
    if facts.critical(pod) and not facts.critical(other):
        return True
    mine, its = pod["spec"].get("priority"), other["spec"].get("priority")
    return mine is not None and its is not None and int(mine) > int(its)


def _request(pod: JSON, resource: str) -> int:
    return 1 if resource == "pods" else fits.requests(pod).get(resource, 0)


def _after(needs: Lacking, gone: Sequence[JSON]) -> dict[str, int]:
    """What is still lacking once ``gone`` have gone."""
    left = {name: number - sum(_request(pod, name) for pod in gone) for name, number in needs.items()}
    return {name: number for name, number in left.items() if number > 0}


def _distance(pod: JSON, needs: Lacking) -> float:
    parts = ((number - _request(pod, name)) / number for name, number in needs.items())
    return sum(part * part for part in parts if part > 0)


def _nearest(pods: list[JSON], needs: dict[str, int]) -> list[JSON]:
    left, chosen = list(pods), []
    while needs:
        if not left:
            raise NoRoom(_told(needs))

        def order(pod: JSON, needs: dict[str, int] = needs) -> tuple[float, int, int]:
            return _distance(pod, needs), _request(pod, "memory"), _request(pod, "cpu")

        best = min(left, key=order)
        left.remove(best)
        chosen.append(best)
        needs = _after(needs, [best])
    return chosen


def _told(needs: Lacking) -> str:
    pieces = "".join(f"(res: {name}, q: {number}), " for name, number in needs.items())
    return f"no set of running pods found to reclaim resources: [{pieces}]"

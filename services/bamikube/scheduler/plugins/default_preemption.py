"""DefaultPreemption: when a pod fits nowhere, which less important pods would have to leave, and where.

For every node that removing pods could help: take all pods of lower priority away, see that the pod fits, then give back
as many as possible, the protected (by a disruption budget without allowance) and most important ones first. Of the
nodes found the one wins whose victims hurt least: fewest broken budgets, then the lowest highest priority, then the
lowest sum, then the fewest, then the youngest.

The columns are changed while trying and are as before afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

from bamikube.api.selectors import LabelSelector
from bamikube.scheduler.columns import Columns
from bamikube.scheduler.model import PodInfo
from bamikube.scheduler.plan import filters
from bamikube.scheduler.static import StaticAnswer
from bamikube.scheduler.verdict import UNRESOLVABLE, Decision, summary

NAME = "DefaultPreemption"
TRIED = 100  # nodes simulated at most; kube-scheduler's minimum


@dataclass(frozen=True, slots=True)
class Budget:
    """A PodDisruptionBudget: how many of the pods it chooses may go."""

    namespace: str
    selector: LabelSelector
    allowed: int


@dataclass(frozen=True, slots=True)
class Preemption:
    """Who leaves which node; or, without a node, why nobody does."""

    node: str
    victims: tuple[PodInfo, ...]
    message: str
    keeps_nomination: bool = False


def _violating(victims: list[PodInfo], budgets: list[Budget]) -> set[str]:
    """Keys of those whose removal would break a budget, when they go in this order."""
    left = [budget.allowed for budget in budgets]
    found = set()
    for pod in victims:
        for number, budget in enumerate(budgets):
            if pod.labels and budget.namespace == pod.namespace and budget.selector.matches(pod.labels):
                left[number] -= 1
                if left[number] < 0:
                    found.add(pod.key)
    return found


def _victims(
    pod: PodInfo, row: int, columns: Columns, static: StaticAnswer, budgets: list[Budget]
) -> tuple[list[PodInfo], int] | None:
    """The fewest pods that must leave ``row``, and how many budgets break; None when nothing helps."""
    lower = [other for other in columns.pods[row].values() if other.priority < pod.priority]
    if not lower:
        return None
    lower.sort(key=lambda other: (-other.priority, other.started or other.created, other.key))
    for other in lower:
        columns.remove(other.key)
    absent = dict.fromkeys(other.key for other in lower)
    try:
        if not filters(pod, columns, static)[0][row]:
            return None
        breaking = _violating(lower, budgets)
        for other in sorted(lower, key=lambda other: other.key not in breaking):
            columns.place(other)
            if filters(pod, columns, static)[0][row]:
                del absent[other.key]
            else:
                columns.remove(other.key)
        gone = [other for other in lower if other.key in absent]
        return gone, sum(other.key in breaking for other in gone)
    finally:
        for other in lower:
            if other.key in absent:
                columns.place(other)


def preempt(
    pod: PodInfo, columns: Columns, static: StaticAnswer, decision: Decision, budgets: list[Budget]
) -> Preemption:
    """Make room for ``pod``, for which ``decision`` found none."""
    if pod.never_preempts:
        return Preemption("", (), "not eligible due to preemptionPolicy=Never.")
    if pod.nominated and (row := columns.rows.get(pod.nominated)) is not None:
        leaving = columns.pods[row].values()
        if any(other.terminating and other.priority < pod.priority for other in leaving):
            text = "not eligible due to a terminating pod on the nominated node."
            return Preemption("", (), text, keeps_nomination=True)
    reasons = []
    candidates = []
    for node, verdicts in decision.verdicts.items():
        if any(verdict.code == UNRESOLVABLE for verdict in verdicts):
            reasons.append("Preemption is not helpful for scheduling")
        else:
            reasons.append("No preemption victims found for incoming pod")
            candidates.append(node)
    best: tuple[tuple[float, ...], str, list[PodInfo]] | None = None
    tried = 0
    for node in candidates:
        found = _victims(pod, columns.rows[node], columns, static, budgets)
        if found is None or not found[0]:
            continue
        victims, broken = found
        highest = victims[0].priority
        youngest = min(v.started or v.created for v in victims if v.priority == highest)
        cost = (broken, highest, sum(v.priority + 2**31 for v in victims), len(victims), -youngest)
        if best is None or cost < best[0]:
            best = (cost, node, victims)
        tried += 1
        if tried >= max(TRIED, len(candidates) // 10):
            break
    if best is None:
        return Preemption("", (), summary(decision.nodes, reasons))
    return Preemption(best[1], tuple(best[2]), "")

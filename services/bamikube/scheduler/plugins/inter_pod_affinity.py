"""InterPodAffinity: near these pods, away from those - and away from pods that want to be away from this one.

All three questions are sums by domain: of pods that a term of ours chooses (tallies), and of pods that carry a term
which chooses us (carriers). The first pod of a group that wants to be near itself may go anywhere.
"""

from __future__ import annotations

from bamikube.scheduler.arrays import Array, np
from bamikube.scheduler.columns import Columns
from bamikube.scheduler.model import PodInfo, Term
from bamikube.scheduler.verdict import UNRESOLVABLE, UNSCHEDULABLE, Rejections, Verdict

NAME = "InterPodAffinity"
WEIGHT = 2
_CAUSES = (
    (Verdict(UNRESOLVABLE, NAME, "node(s) didn't match pod affinity rules"),),
    (Verdict(UNSCHEDULABLE, NAME, "node(s) didn't match pod anti-affinity rules"),),
    (Verdict(UNSCHEDULABLE, NAME, "node(s) didn't satisfy existing pods anti-affinity rules"),),
)


def _near(columns: Columns, terms: tuple[Term, ...]) -> Array:
    """Pods by row that all the terms choose."""
    chosen = tuple((t.selector, t.namespaces, t.namespace_selector) for t in terms)
    namespaces = columns.namespaces
    return columns.tally(("affinity", chosen), lambda pod: all(t.matches(pod, namespaces) for t in terms))


def filter(pod: PodInfo, columns: Columns) -> Rejections | None:
    against = columns.carried_against(pod, "anti") if columns.carriers else []
    if not (pod.affinity or pod.anti_affinity or against):
        return None
    codes = np.zeros(columns.size, np.int64)
    for _, term, counts in against:
        topology = columns.topology(term.topology)
        codes[topology.spread(topology.sums(counts)) > 0] = 3
    for term in pod.anti_affinity:
        topology = columns.topology(term.topology)
        codes[topology.spread(topology.sums(_near(columns, (term,)))) > 0] = 2
    if pod.affinity:
        counts = _near(columns, pod.affinity)
        seen = any(columns.topology(t.topology).sums(counts).any() for t in pod.affinity)
        alone = not seen and all(term.matches(pod, columns.namespaces) for term in pod.affinity)
        for term in pod.affinity:
            topology = columns.topology(term.topology)
            fine = topology.ids >= 0 if alone else topology.spread(topology.sums(counts)) > 0
            codes[~fine] = 1
    return Rejections(codes, _CAUSES)


def score(pod: PodInfo, columns: Columns, rows: Array) -> Array | None:
    """0 to 100 from the weights of all terms, ours and those of pods that would like (or dislike) our company."""
    if not (pod.preferred or columns.carriers):
        return None
    sums = [(weight, term, _near(columns, (term,))) for weight, term in pod.preferred]
    if columns.carriers:
        sums += columns.carried_against(pod, "soft") + columns.carried_against(pod, "hard")
    if not sums:
        return None
    raw = np.zeros(len(rows), np.int64)
    for weight, term, counts in sums:
        topology = columns.topology(term.topology)
        raw += weight * topology.spread(topology.sums(counts))[rows]
    low, high = int(raw.min()), int(raw.max())
    return (raw - low) * 100 // (high - low) if high > low else None

"""PodTopologySpread: like pods evenly over zones, nodes or whatever a node label names.

Hard constraints: after the pod is placed, its domain may have at most ``maxSkew`` more matching pods than the emptiest
domain. With zones a=3, b=1 and maxSkew 1 the pod must go to b; with maxSkew 3 it may go to a (4-1=3).
Soft constraints, and for pods of a controller without any the defaults (host and zone), only score.
"""

from __future__ import annotations

import math

from bamikube.scheduler.arrays import Array, np
from bamikube.scheduler.columns import Columns
from bamikube.scheduler.model import HOSTNAME, ZONE, PodInfo, Spread
from bamikube.scheduler.static import StaticAnswer
from bamikube.scheduler.verdict import UNRESOLVABLE, UNSCHEDULABLE, Rejections, Verdict

NAME = "PodTopologySpread"
WEIGHT = 2
_TEXT = "node(s) didn't match pod topology spread constraints"
_SKEWED = Verdict(UNSCHEDULABLE, NAME, _TEXT)
_NO_LABEL = Verdict(UNRESOLVABLE, NAME, f"{_TEXT} (missing required label)")


def _tally(pod: PodInfo, columns: Columns, constraint: Spread) -> Array:
    namespace, selector = pod.namespace, constraint.selector
    return columns.tally(
        ("spread", namespace, selector),
        lambda other: other.namespace == namespace and not other.kind[2] and selector.matches(other.labels),
    )


def _eligible(columns: Columns, static: StaticAnswer, constraint: Spread, labelled: Array) -> Array:
    eligible = labelled & columns.live
    if constraint.honor_affinity:
        eligible = eligible & static.accepted
    return eligible & static.tolerated if constraint.honor_taints else eligible


def _labelled(columns: Columns, constraints: tuple[Spread, ...]) -> Array:
    labelled = np.ones(columns.size, np.bool_)
    for constraint in constraints:
        labelled &= columns.topology(constraint.topology).ids >= 0
    return labelled


def filter(pod: PodInfo, columns: Columns, static: StaticAnswer) -> Rejections | None:
    if not pod.hard_spread:
        return None
    labelled = _labelled(columns, pod.hard_spread)
    codes = np.zeros(columns.size, np.int64)
    for constraint in pod.hard_spread:
        topology = columns.topology(constraint.topology)
        eligible = _eligible(columns, static, constraint, labelled)
        sums = topology.sums(_tally(pod, columns, constraint), eligible)
        present = np.unique(topology.ids[eligible])
        least = int(sums[present].min()) if len(present) >= max(1, constraint.min_domains) else 0
        mine = int(constraint.selector.matches(pod.labels))
        codes[topology.spread(sums) + mine - least > constraint.max_skew] = 1
    codes[~labelled] = 2
    return Rejections(codes, ((_SKEWED,), (_NO_LABEL,)))


def score(pod: PodInfo, columns: Columns, rows: Array, static: StaticAnswer) -> Array | None:
    """0 to 100; domains with fewer matching pods score higher, smaller domains count for more."""
    raw = np.zeros(len(rows), np.float64)
    ignored = np.zeros(len(rows), np.bool_)
    if pod.soft_spread:
        labelled = _labelled(columns, pod.soft_spread)
        ignored = ~labelled[rows]
        for constraint in pod.soft_spread:
            topology = columns.topology(constraint.topology)
            counts = _tally(pod, columns, constraint)
            eligible = _eligible(columns, static, constraint, labelled)
            _add(
                raw,
                columns,
                rows[~ignored],
                rows,
                constraint.topology,
                topology.sums(counts, eligible),
                constraint.max_skew,
            )
    elif pod.owner and (held := columns.owned.get(pod.owner)):
        counts = np.zeros(columns.size, np.int64)
        counts[list(held)] = list(held.values())
        # Without labels a node is its own host, and the zones of a cluster without zones say nothing.
        raw += counts[rows] * math.log(len(rows) + 2)
        zones = columns.topology(ZONE)
        if zones.values:
            _add(raw, columns, rows, rows, ZONE, zones.sums(counts, columns.live), 3)
    else:
        return None
    counted = raw[~ignored]
    if not len(counted):
        return None
    low, high = counted.min(), counted.max()
    scaled = np.full(len(rows), 100.0) if high == 0 else 100 * (high + low - raw) / high
    return np.where(ignored, 0, scaled).astype(np.int64)


def _add(
    raw: Array, columns: Columns, counted: Array, rows: Array, key: str, sums: Array, max_skew: int
) -> None:
    topology = columns.topology(key)
    size = len(counted) if key == HOSTNAME else len(np.unique(topology.ids[counted]))
    raw += topology.spread(sums)[rows] * math.log(size + 2) + (max_skew - 1)

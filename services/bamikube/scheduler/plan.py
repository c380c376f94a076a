"""The decision: a pod and the columns in, a node (or the reasons against every node) out. Changes nothing.

Filters run in kube-scheduler's order and each looks at all nodes at once; the nodes that pass are scored, the highest
sum wins, and among equals the dice decide.
"""

from __future__ import annotations

from bamikube.kit.chance import Chance
from bamikube.scheduler.arrays import Array, np
from bamikube.scheduler.columns import Columns
from bamikube.scheduler.model import PodInfo
from bamikube.scheduler.plugins import (
    image_locality,
    inter_pod_affinity,
    node_affinity,
    node_ports,
    node_resources_balanced_allocation,
    node_resources_fit,
    pod_topology_spread,
    taint_toleration,
)
from bamikube.scheduler.static import StaticAnswer, StaticAnswers
from bamikube.scheduler.verdict import Decision, Rejections


def filters(pod: PodInfo, columns: Columns, static: StaticAnswer) -> tuple[Array, tuple[Rejections, ...]]:
    """Which rows pass, and what each plugin rejected among those that were still open."""
    open_rows = columns.live & (static.codes == 0)
    given = [static.rejections]
    for rejection in (
        node_ports.filter(pod, columns, open_rows),
        node_resources_fit.filter(pod, columns, open_rows),
        pod_topology_spread.filter(pod, columns, static),
        inter_pod_affinity.filter(pod, columns),
    ):
        if rejection is not None:
            given.append(rejection)
            open_rows = open_rows & (rejection.codes == 0)
    return open_rows, tuple(given)


def _least_is_best(raw: Array) -> Array | None:
    most = int(raw.max())
    return 100 - raw * 100 // most if most else None


def _most_is_best(raw: Array) -> Array | None:
    most = int(raw.max())
    return raw * 100 // most if most else None


def scores(pod: PodInfo, columns: Columns, rows: Array, static: StaticAnswer) -> list[tuple[str, Array]]:
    """The weighted score every plugin gives each of ``rows``; plugins without an opinion are left out."""
    given = (
        (taint_toleration.NAME, taint_toleration.WEIGHT, _least_is_best(static.disliked[rows])),
        (node_affinity.NAME, node_affinity.WEIGHT, _most_is_best(static.liked[rows])),
        (node_resources_fit.NAME, node_resources_fit.WEIGHT, node_resources_fit.score(pod, columns, rows)),
        (
            pod_topology_spread.NAME,
            pod_topology_spread.WEIGHT,
            pod_topology_spread.score(pod, columns, rows, static),
        ),
        (inter_pod_affinity.NAME, inter_pod_affinity.WEIGHT, inter_pod_affinity.score(pod, columns, rows)),
        (
            node_resources_balanced_allocation.NAME,
            node_resources_balanced_allocation.WEIGHT,
            node_resources_balanced_allocation.score(pod, columns, rows),
        ),
        (image_locality.NAME, image_locality.WEIGHT, image_locality.score(pod, columns, rows)),
    )
    return [(name, weight * raw) for name, weight, raw in given if raw is not None]


def plan(pod: PodInfo, columns: Columns, answers: StaticAnswers, chance: Chance) -> Decision:
    """Where ``pod`` goes."""
    static = answers.of(pod, columns)
    open_rows, rejections = filters(pod, columns, static)
    names, live = columns.row_names(), columns.live.copy()
    rows = open_rows.nonzero()[0]
    if not len(rows):
        return Decision("", names, live, rejections, ())
    # A pod that made room for itself takes that room when it is there.
    if pod.nominated and (row := columns.rows.get(pod.nominated)) is not None and open_rows[row]:
        return Decision(pod.nominated, names, live, rejections, ())
    given = scores(pod, columns, rows, static)
    total = np.sum([score for _, score in given], axis=0)
    best = rows[total == total.max()]
    row = int(best[chance.randrange(0, len(best))]) if len(best) > 1 else int(best[0])
    by_row = []
    for name, score in given:
        full = np.zeros(columns.size, np.int64)
        full[rows] = score
        by_row.append((name, full))
    return Decision(names[row], names, live, rejections, tuple(by_row))

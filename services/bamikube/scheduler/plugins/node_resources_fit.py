"""NodeResourcesFit: what a pod asks for must be free. Scores nodes by how much would be left (least allocated)."""

from __future__ import annotations

from bamikube.scheduler.arrays import Array, np
from bamikube.scheduler.columns import PODS, Columns
from bamikube.scheduler.model import PodInfo
from bamikube.scheduler.verdict import UNRESOLVABLE, UNSCHEDULABLE, Rejections, Verdict

NAME = "NodeResourcesFit"
WEIGHT = 1


def reserved(pod: PodInfo, columns: Columns) -> list[tuple[int, PodInfo]]:
    """Pods that have made room for themselves by preemption and must find it: row and pod."""
    return [
        (columns.rows[other.nominated], other)
        for key, other in columns.nominated.items()
        if key != pod.key and other.priority >= pod.priority and other.nominated in columns.rows
    ]


def filter(pod: PodInfo, columns: Columns, open_rows: Array) -> Rejections | None:
    wanted = {column: n for name, n in pod.requests.items() if n and (column := columns.resource(name)) >= 0}
    wanted[PODS] = 1
    names = {column: name for name, column in columns.resources.items()}
    others = reserved(pod, columns)
    bits = np.zeros(columns.size, np.int64)
    never = np.zeros(columns.size, np.bool_)
    order = sorted(wanted, key=lambda column: (column != PODS, column))
    for bit, column in enumerate(order):
        used = columns.used[column]
        if others:
            used = used.copy()
            for row, other in others:
                used[row] += 1 if column == PODS else other.requests.get(names[column], 0)
        allot = columns.allot[column]
        short = used + wanted[column] > allot
        bits |= short.astype(np.int64) << bit
        never |= short & (wanted[column] > allot) & (column != PODS)
    if not bits.any():
        return None
    # Each combination of shortages, resolvable or not, is one cause.
    kinds, codes = np.unique(np.where(bits > 0, bits * 2 + never, 0), return_inverse=True)
    causes = []
    for kind in kinds.tolist():
        code = UNRESOLVABLE if kind & 1 else UNSCHEDULABLE
        causes.append(
            tuple(
                Verdict(code, NAME, "Too many pods" if column == PODS else f"Insufficient {names[column]}")
                for bit, column in enumerate(order)
                if kind >> (bit + 1) & 1
            )
        )
    if kinds[0] == 0:
        return Rejections(codes.astype(np.int64), tuple(causes[1:]))
    return Rejections(codes.astype(np.int64) + 1, tuple(causes))


def score(pod: PodInfo, columns: Columns, rows: Array) -> Array:
    """0 (full) to 100 (empty), the mean of CPU and memory; pods that ask for nothing count as 100m and 200 MiB."""
    total = np.zeros(len(rows), np.int64)
    weight = np.zeros(len(rows), np.int64)
    for column in (0, 1):
        allot = columns.allot[column][rows]
        left = allot - columns.nonzero[column][rows] - pod.nonzero[column]
        known = allot > 0
        total += np.where(known & (left > 0), left * 100 // np.maximum(allot, 1), 0)
        weight += known
    return total // np.maximum(weight, 1)

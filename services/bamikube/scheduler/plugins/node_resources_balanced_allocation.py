"""NodeResourcesBalancedAllocation: rather nodes whose CPU and memory would be used to the same degree."""

from __future__ import annotations

from bamikube.scheduler.arrays import Array, np
from bamikube.scheduler.columns import Columns
from bamikube.scheduler.model import PodInfo

NAME = "NodeResourcesBalancedAllocation"
WEIGHT = 1


def score(pod: PodInfo, columns: Columns, rows: Array) -> Array:
    """100 when both fractions are equal, 50 when one is all and the other nothing (the deviation of two is half)."""
    fractions = []
    for column, name in ((0, "cpu"), (1, "memory")):
        allot = np.maximum(columns.allot[column][rows], 1)
        used = columns.used[column][rows] + pod.requests.get(name, 0)
        fractions.append(np.minimum(used / allot, 1.0))
    return ((1 - np.abs(fractions[0] - fractions[1]) / 2) * 100).astype(np.int64)

"""What a plugin says about a node, and what a decision says to the person who asks why.

The texts are kube-scheduler's: people and tools search for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bamikube.scheduler.arrays import Array

if TYPE_CHECKING:
    from bamikube.scheduler.columns import Columns

UNSCHEDULABLE = "Unschedulable"
UNRESOLVABLE = "UnschedulableAndUnresolvable"  # removing pods from the node would not help


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a plugin rejects a node."""

    code: str
    plugin: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rejections:
    """One plugin's answer for all rows: 0 passes, ``k`` is rejected for ``causes[k - 1]`` (all of them)."""

    codes: Array
    causes: tuple[tuple[Verdict, ...], ...]


@dataclass(frozen=True)
class Decision:
    """Where a pod goes, and why not elsewhere. ``node`` is empty when it fits nowhere."""

    node: str
    names: tuple[str, ...]  # of the rows, as they were
    live: Array
    rejections: tuple[Rejections, ...]
    scores: tuple[tuple[str, Array], ...]  # plugin, weighted score by row

    @cached_property
    def verdicts(self) -> dict[str, tuple[Verdict, ...]]:
        """The first rejecting plugin's verdicts of every rejected node."""
        found: dict[str, tuple[Verdict, ...]] = {}
        for rejection in self.rejections:
            for row in rejection.codes.nonzero()[0].tolist():
                if self.live[row]:
                    found.setdefault(self.names[row], rejection.causes[int(rejection.codes[row]) - 1])
        return found

    @property
    def nodes(self) -> int:
        return int(self.live.sum())

    def message(self, preemption: str = "") -> str:
        """kube-scheduler's sentence about a pod that fits nowhere."""
        if not self.nodes:
            return "no nodes available to schedule pods"
        reasons = (verdict.reason for causes in self.verdicts.values() for verdict in causes)
        return summary(self.nodes, reasons) + (f" preemption: {preemption}" if preemption else "")

    def explain(self, node: str, columns: Columns) -> dict[str, int]:
        """The weighted score each plugin gave ``node``."""
        row = columns.rows[node]
        return {plugin: int(score[row]) for plugin, score in self.scores}


def summary(nodes: int, reasons: Iterable[str]) -> str:
    """``0/3 nodes are available: 1 this, 2 that.``: counted, and sorted as strings."""
    parts = sorted(f"{count} {reason}" for reason, count in Counter(reasons).items())
    return f"0/{nodes} nodes are available" + (f": {', '.join(parts)}." if parts else "")

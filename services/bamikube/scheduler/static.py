"""What depends on the pod's spec and the node alone: asked once per kind of pod, then only about nodes that changed.

Two thousand replicas of one template share one answer; a node that gets a label costs one row of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from bamikube.scheduler.arrays import Array, np
from bamikube.scheduler.columns import Columns
from bamikube.scheduler.model import NodeInfo, PodInfo
from bamikube.scheduler.plugins import node_affinity, node_name, node_unschedulable, taint_toleration
from bamikube.scheduler.verdict import Rejections, Verdict

# In kube-scheduler's order: the first that rejects a node is the one that is named.
PLUGINS = (node_unschedulable, node_name, taint_toleration, node_affinity)
REMEMBERED = 512


class StaticAnswer:
    """The answer for one kind of pod, row by row, and how many node changes it has seen."""

    def __init__(self, pod: PodInfo, columns: Columns) -> None:
        self._judges: list[Callable[[NodeInfo], Verdict | None]] = [p.judge(pod) for p in PLUGINS]
        self._dislikes, self._likes = taint_toleration.dislikes(pod), node_affinity.likes(pod)
        self._causes: dict[Verdict, int] = {}
        self.codes: Array = np.zeros(0, np.int64)
        self.accepted: Array = np.zeros(0, np.bool_)  # NodeAffinity alone says yes
        self.tolerated: Array = np.zeros(0, np.bool_)  # TaintToleration alone says yes
        self.disliked: Array = np.zeros(0, np.int64)
        self.liked: Array = np.zeros(0, np.int64)
        self._resize(columns.size)
        for row in range(len(columns.nodes)):
            self._look(row, columns)
        self._seen = len(columns.node_changes)

    def _resize(self, size: int) -> None:
        more = size - len(self.codes)
        if more:
            self.codes, self.disliked, self.liked = (
                np.pad(a, (0, more)) for a in (self.codes, self.disliked, self.liked)
            )
            self.accepted, self.tolerated = (np.pad(a, (0, more)) for a in (self.accepted, self.tolerated))

    def follow(self, columns: Columns) -> None:
        """Look again at the rows that changed since."""
        changes = columns.node_changes
        if self._seen == len(changes):
            return
        self._resize(columns.size)
        # Decisions keep the arrays they were made from: change copies.
        self.codes, self.disliked, self.liked = self.codes.copy(), self.disliked.copy(), self.liked.copy()
        self.accepted, self.tolerated = self.accepted.copy(), self.tolerated.copy()
        for row in set(changes[self._seen :]):
            self._look(row, columns)
        self._seen = len(changes)

    def _look(self, row: int, columns: Columns) -> None:
        node = columns.nodes[row]
        if node is None:
            self.codes[row] = 0
            self.accepted[row] = self.tolerated[row] = False
            return
        verdicts = [judge(node) for judge in self._judges]
        first = next((verdict for verdict in verdicts if verdict is not None), None)
        self.codes[row] = 0 if first is None else self._causes.setdefault(first, len(self._causes) + 1)
        self.tolerated[row], self.accepted[row] = verdicts[2] is None, verdicts[3] is None
        self.disliked[row], self.liked[row] = self._dislikes(node), self._likes(node)

    @property
    def rejections(self) -> Rejections:
        return Rejections(self.codes, tuple((verdict,) for verdict in self._causes))


class StaticAnswers:
    """The answers by kind of pod; the least recently used go first."""

    def __init__(self) -> None:
        self._answers: OrderedDict[bytes, StaticAnswer] = OrderedDict()

    def of(self, pod: PodInfo, columns: Columns) -> StaticAnswer:
        answer = self._answers.get(pod.signature)
        if answer is None:
            answer = self._answers[pod.signature] = StaticAnswer(pod, columns)
            if len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        else:
            self._answers.move_to_end(pod.signature)
            answer.follow(columns)
        return answer

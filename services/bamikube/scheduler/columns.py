"""The cluster as columns of numbers: one row a node, one array a fact.

A question about all nodes ("where is 500m of cpu left?") is one operation on arrays, and a bind changes one row of
each. Three kinds of facts are kept up to date by every pod that comes or goes:

* resources: what each row allots and what its pods have asked for;
* tallies: how many pods on each row a *selector* chooses (spread, affinity). A tally is made when first asked for and
  followed from then on;
* carriers: how many pods on each row carry an affinity *term* of their own, because a pod that wants to be alone also
  rejects whoever comes later (symmetry).

A question by domain (zone, rack) sums an array over the ids of a topology column:

    zone ids  [0, 0, 1, -1]   tally [2, 1, 0, 5]   ->  per zone [3, 0], back on the rows [3, 3, 0, 0]

Rows of nodes that are gone (or were never seen, though pods name them) are not ``live`` and never chosen.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from bamikube.scheduler.arrays import Array, np
from bamikube.scheduler.model import NodeInfo, PodInfo, Term

CPU, MEMORY, STORAGE, PODS = 0, 1, 2, 3

# Followed at most; the least recently used is dropped, and counted anew when it is asked for again.
TALLIES = 512


class Tally:
    """How many pods on each row ``wants`` says yes to."""

    __slots__ = ("counts", "wants")

    def __init__(self, size: int, wants: Callable[[PodInfo], bool]) -> None:
        self.counts: Array = np.zeros(size, np.int64)
        self.wants = wants


class Topology:
    """The values of one node label as small numbers; -1 where a node has none."""

    __slots__ = ("ids", "values")

    def __init__(self, size: int) -> None:
        self.ids: Array = np.full(size, -1, np.int64)
        self.values: dict[str, int] = {}

    def put(self, row: int, value: str | None) -> None:
        self.ids[row] = -1 if value is None else self.values.setdefault(value, len(self.values))

    def sums(self, counts: Array, among: Array | None = None) -> Array:
        """The sum of ``counts`` over each domain; only rows of ``among`` give."""
        chosen = self.ids >= 0 if among is None else (self.ids >= 0) & among
        return np.bincount(self.ids[chosen], counts[chosen], len(self.values)).astype(np.int64)

    def spread(self, by_domain: Array) -> Array:
        """``by_domain`` back on the rows; 0 where a node has no domain."""
        if not len(by_domain):
            return np.zeros(len(self.ids), np.int64)
        return np.where(self.ids >= 0, by_domain[self.ids], 0)


class Columns:
    """Everything a decision reads. Changed by whoever hears about nodes and pods, row by row."""

    def __init__(self, size: int = 64) -> None:
        self.rows: dict[str, int] = {}
        self.names: list[str] = []
        self.nodes: list[NodeInfo | None] = []
        self.pods: list[dict[str, PodInfo]] = []
        self.resources: dict[str, int] = {
            "cpu": CPU,
            "memory": MEMORY,
            "ephemeral-storage": STORAGE,
            "pods": PODS,
        }
        self.live: Array = np.zeros(size, np.bool_)
        self.allot: Array = np.zeros((4, size), np.int64)
        self.used: Array = np.zeros((4, size), np.int64)
        self.nonzero: Array = np.zeros((2, size), np.int64)
        self.namespaces: dict[str, dict[str, str]] = {}
        self.carriers: dict[tuple[str, int, Term], Array] = {}
        self.ports: dict[int, dict[int, int]] = {}  # port number -> row -> pods with it
        self.owned: dict[str, dict[int, int]] = {}  # owner uid -> row -> pods of it
        self.nominated: dict[str, PodInfo] = {}  # pods that wait for their victims to leave
        self.images: dict[str, dict[int, int]] = {}  # image -> row -> bytes
        self.node_changes: list[int] = []  # rows, in order: what a cached verdict must look at again
        self._carried: dict[tuple[str, int, Term], int] = {}
        self._placed: dict[str, tuple[int, PodInfo]] = {}
        self._topologies: dict[str, Topology] = {}
        self._tallies: OrderedDict[Hashable, Tally] = OrderedDict()
        self._counted: dict[Any, tuple[Tally, ...]] = {}  # kind of pod -> tallies that count it
        self._free: list[int] = []
        self._names: tuple[str, ...] | None = None

    # -- nodes ---------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return len(self.live)

    def row_names(self) -> tuple[str, ...]:
        """The rows' names, as a value that stays as it is."""
        if self._names is None:
            self._names = tuple(self.names)
        return self._names

    def _row(self, name: str) -> int:
        row = self.rows.get(name)
        if row is not None:
            return row
        self._names = None
        if self._free:
            row = self._free.pop()
            self.names[row] = name
        else:
            row = len(self.names)
            self.names.append(name)
            self.nodes.append(None)
            self.pods.append({})
            if row >= self.size:
                self._grow()
        self.rows[name] = row
        return row

    def _grow(self) -> None:
        more = self.size
        wide = ((0, 0), (0, more))
        self.live = np.pad(self.live, (0, more))
        self.allot, self.used, self.nonzero = (np.pad(a, wide) for a in (self.allot, self.used, self.nonzero))
        for tally in self._tallies.values():
            tally.counts = np.pad(tally.counts, (0, more))
        for term in self.carriers:
            self.carriers[term] = np.pad(self.carriers[term], (0, more))
        for topology in self._topologies.values():
            topology.ids = np.pad(topology.ids, (0, more), constant_values=-1)

    def resource(self, name: str) -> int:
        """The column of a resource; made when it is new."""
        column = self.resources.get(name)
        if column is None:
            column = self.resources[name] = len(self.resources)
            self.allot, self.used = (np.pad(a, ((0, 1), (0, 0))) for a in (self.allot, self.used))
        return column

    def put_node(self, node: NodeInfo) -> bool:
        """Add or change a node. False when nothing a decision reads has changed."""
        row = self._row(node.name)
        old = self.nodes[row]
        if old == node:
            return False
        if old is not None:
            self._forget_images(row, old)
        self.nodes[row] = node
        self.live[row] = True
        self.allot[:, row] = 0
        for name, number in node.allocatable.items():
            column = self.resource(name)
            self.allot[column, row] = number
        for image, size in node.images.items():
            self.images.setdefault(image, {})[row] = size
        for key, topology in self._topologies.items():
            topology.put(row, node.labels.get(key))
        self.node_changes.append(row)
        return True

    def remove_node(self, name: str) -> None:
        row = self.rows.get(name)
        if row is None or self.nodes[row] is None:
            return
        node = self.nodes[row]
        assert node is not None
        self._forget_images(row, node)
        self.nodes[row] = None
        self.live[row] = False
        self.allot[:, row] = 0
        for topology in self._topologies.values():
            topology.put(row, None)
        self.node_changes.append(row)
        self._recycle(row)

    def _forget_images(self, row: int, node: NodeInfo) -> None:
        for image in node.images:
            held = self.images.get(image)
            if held is not None:
                held.pop(row, None)
                if not held:
                    del self.images[image]

    def _recycle(self, row: int) -> None:
        if self.nodes[row] is None and not self.pods[row]:
            self.rows.pop(self.names[row], None)
            self.names[row] = ""
            self._names = None
            self._free.append(row)

    def topology(self, key: str) -> Topology:
        """The column of a node label."""
        found = self._topologies.get(key)
        if found is None:
            found = self._topologies[key] = Topology(self.size)
            for row, node in enumerate(self.nodes):
                if node is not None:
                    found.put(row, node.labels.get(key))
        return found

    # -- pods ----------------------------------------------------------------------------------------------------

    def placed(self, key: str) -> PodInfo | None:
        """The pod as it is counted, or None."""
        held = self._placed.get(key)
        return held[1] if held else None

    def place(self, pod: PodInfo) -> None:
        """Count a pod on its node, instead of what was counted for it before."""
        self.remove(pod.key)
        row = self._row(pod.node)
        self._placed[pod.key] = (row, pod)
        self.pods[row][pod.key] = pod
        self._count(row, pod, 1)

    def remove(self, key: str) -> PodInfo | None:
        """Count a pod no longer; the pod, or None when it was not counted."""
        held = self._placed.pop(key, None)
        if held is None:
            return None
        row, pod = held
        del self.pods[row][key]
        self._count(row, pod, -1)
        self._recycle(row)
        return pod

    def _count(self, row: int, pod: PodInfo, sign: int) -> None:
        for name, number in pod.requests.items():
            column = self.resource(name)
            self.used[column, row] += sign * number
        self.used[PODS, row] += sign
        self.nonzero[0, row] += sign * pod.nonzero[0]
        self.nonzero[1, row] += sign * pod.nonzero[1]
        for tally in self._tallies_of(pod):
            tally.counts[row] += sign
        for port in pod.ports:
            self._bump(self.ports, port[2], row, sign)
        if pod.owner and not pod.terminating:
            self._bump(self.owned, pod.owner, row, sign)
        for term in pod.anti_affinity:
            self._carry(("anti", 0, term), row, sign)
        for term in pod.affinity:
            self._carry(("hard", 1, term), row, sign)
        for weight, term in pod.preferred:
            self._carry(("soft", weight, term), row, sign)

    @staticmethod
    def _bump(book: dict[Any, dict[int, int]], key: Any, row: int, sign: int) -> None:
        rows = book.setdefault(key, {})
        rows[row] = rows.get(row, 0) + sign
        if not rows[row]:
            del rows[row]
            if not rows:
                del book[key]

    def _carry(self, carried: tuple[str, int, Term], row: int, sign: int) -> None:
        counts = self.carriers.get(carried)
        if counts is None:
            counts = self.carriers[carried] = np.zeros(self.size, np.int64)
        counts[row] += sign
        total = self._carried[carried] = self._carried.get(carried, 0) + sign
        if not total:
            del self.carriers[carried], self._carried[carried]

    def carried_against(self, pod: PodInfo, role: str) -> list[tuple[int, Term, Array]]:
        """Terms of ``role`` (anti, hard, soft) that pods carry and that choose ``pod``: weight, term, pods by row."""
        return [
            (weight, term, counts)
            for (kind, weight, term), counts in self.carriers.items()
            if kind == role and term.matches(pod, self.namespaces)
        ]

    # -- tallies -------------------------------------------------------------------------------------------------

    def tally(self, key: Hashable, wants: Callable[[PodInfo], bool]) -> Array:
        """Pods by row that ``wants`` chooses. ``wants`` may read namespace, labels and ``terminating`` only."""
        found = self._tallies.get(key)
        if found is not None:
            self._tallies.move_to_end(key)
            return found.counts
        found = self._tallies[key] = Tally(self.size, wants)
        verdicts: dict[Any, bool] = {}
        for row, pods in enumerate(self.pods):
            for pod in pods.values():
                verdict = verdicts.get(pod.kind)
                if verdict is None:
                    verdict = verdicts[pod.kind] = wants(pod)
                found.counts[row] += verdict
        if len(self._tallies) > TALLIES:
            self._tallies.popitem(last=False)
        self._counted.clear()
        return found.counts

    def _tallies_of(self, pod: PodInfo) -> tuple[Tally, ...]:
        if not self._tallies:
            return ()
        found = self._counted.get(pod.kind)
        if found is None:
            found = tuple(tally for tally in self._tallies.values() if tally.wants(pod))
            if len(self._counted) > 4096:
                self._counted.clear()
            self._counted[pod.kind] = found
        return found

    def put_namespace(self, name: str, labels: dict[str, str] | None) -> None:
        """Labels of a namespace, or None when it is gone. Tallies may have asked for the old ones: count anew."""
        old = self.namespaces.pop(name, None)
        if labels is not None:
            self.namespaces[name] = labels
        if old != labels:
            self._tallies.clear()
            self._counted.clear()

"""The topology manager's decision: of the hints of all managers, which NUMA nodes a container is to have everything of. Pure.

Every way to take one hint of each resource is merged: the nodes that all of them have. The merged hint is preferred if all are, and
all name the same nodes. The best one wins: a preferred one before one that is not, then the narrower (or, with
``prefer-closest-numa-nodes``, the one whose nodes are closer together). Where none is preferred, one that is as wide as the resource
that needs most nodes comes before others: it is where that resource is wholly near.

Policies: ``best-effort`` takes what there is, ``restricted`` only what is preferred, ``single-numa-node`` only what is preferred and of one
node.

Worked example: two nodes; processors could be of {0}, {1} or both, a device of {1}: the container has its processors of 1.

Source: "Control Topology Management Policies on a node".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bamikube.nodeagent.cpus.policy import truth
from bamikube.nodeagent.numa.hints import Hint, Hints, Nodes, narrower
from bamikube.nodeagent.numa.nodes import NumaNodes

REASON = "TopologyAffinityError"
MESSAGE = "Resources cannot be allocated with Topology locality"
FLAG, POLICY_FLAG = "--topology-manager-policy-options", "--topology-manager-policy"
NONE, BEST_EFFORT, RESTRICTED, SINGLE = "none", "best-effort", "restricted", "single-numa-node"
CLOSEST, MOST = "prefer-closest-numa-nodes", "max-allowable-numa-nodes"
MOST_NODES = 8  # beyond, the sets of nodes are too many to try


@dataclass(frozen=True, slots=True)
class TopologyOptions:
    closest: bool = False
    most: int = MOST_NODES


def options(given: Mapping[str, str]) -> TopologyOptions:
    """Raises ValueError for an option that is not known, or whose value is none."""
    closest, most = False, MOST_NODES
    for name, text in given.items():
        if name == CLOSEST:
            try:
                closest = truth(name, text)
            except ValueError as error:
                raise ValueError(f"{FLAG}: {error}") from error
        elif name == MOST:
            if not text.lstrip("+-").isdigit():
                raise ValueError(
                    f'{FLAG}: unable to convert policy option to integer "{name}": strconv.Atoi: parsing "{text}": invalid syntax'
                )
            most = int(text)
            if most < MOST_NODES:
                raise ValueError(f"{FLAG}: the minimum value of {MOST} should not be less than {MOST_NODES}")
        else:
            raise ValueError(
                f'{FLAG}: unknown Topology Manager Policy option: "{name}"; there are {CLOSEST} and {MOST}'
            )
    return TopologyOptions(closest, most)


@dataclass(frozen=True, slots=True)
class Topology:
    """``policy`` for every container on its own, or, with ``whole_pods``, for all containers of a pod together."""

    policy: str
    nodes: NumaNodes
    whole_pods: bool = False
    closest: bool = False

    @property
    def everywhere(self) -> Nodes:
        return frozenset(node.number for node in self.nodes)

    def decide(self, hints: Sequence[Hints]) -> tuple[Hint, bool]:
        """The best hint of those of all managers, and whether the container may begin with it."""
        ways = _ways(hints)
        single = self.policy == SINGLE
        if single:
            ways = [
                [h for h in way if h.preferred and (h.nodes is None or len(h.nodes) == 1)] for way in ways
            ]
        found = self._best(ways)
        if single and found.nodes == self.everywhere:
            found = Hint(None, found.preferred)  # it asks for nothing that is of a node
        return found, self.policy in (NONE, BEST_EFFORT) or found.preferred

    def _best(self, ways: Sequence[Sequence[Hint]]) -> Hint:
        widths = ([len(hint.nodes) for hint in way if hint.nodes is not None] for way in ways)
        widest = max((min(some) for some in widths if some), default=0)
        found: Hint | None = None
        for merged in _merged(ways):
            one = Hint(self.everywhere if merged.nodes is None else merged.nodes, merged.preferred)
            if one.nodes and (found is None or self._better(one, found, widest)):
                found = one
        return found or Hint(self.everywhere, False)

    def _better(self, one: Hint, other: Hint, widest: int) -> bool:
        if one.preferred != other.preferred:
            return one.preferred
        mine, its = one.nodes or Nodes(), other.nodes or Nodes()
        if one.preferred or len(its) > widest:
            return self._nearer(mine, its)
        # Up to there, the wider the better.
        if len(mine) != len(its):
            return len(its) < len(mine) <= widest
        return self._nearer(mine, its)

    def _nearer(self, one: Nodes, other: Nodes) -> bool:
        if len(one) == len(other) and self.closest:
            mine, its = self._distance(one), self._distance(other)
            if mine != its:
                return mine < its
        return narrower(one, other)

    def _distance(self, some: Nodes) -> float:
        """How far the nodes are from each other, on average."""
        far = [node.distance(other) for node in self.nodes if node.number in some for other in some]
        return sum(far) / max(1, len(far))


def _ways(hints: Iterable[Hints]) -> list[list[Hint]]:
    """One list of hints for each resource of each manager."""
    found: list[list[Hint]] = []
    for given in hints:
        for one in given.values() or (None,):
            found.append([Hint(None, True)] if one is None else one or [Hint(None, False)])
    return found


def _merged(ways: Iterable[Sequence[Hint]]) -> Iterable[Hint]:
    """What can come of one hint of each way. Equal results go on as one: eight nodes and three resources would be 16 million."""
    found = {Hint(None, True): None}
    for way in ways:
        found = dict.fromkeys(merge(one, other) for one in found for other in way)
    return found


def merge(one: Hint, other: Hint) -> Hint:
    """What is of the nodes that both name."""
    preferred = one.preferred and other.preferred
    if one.nodes is None or other.nodes is None:
        return Hint(other.nodes if one.nodes is None else one.nodes, preferred)
    return Hint(one.nodes & other.nodes, preferred and one.nodes == other.nodes)


def topology(
    policy: str, scope: str, given: Mapping[str, str], nodes: Callable[[], NumaNodes]
) -> Topology | None:
    """None for policy ``none``. Raises ValueError."""
    chosen = options(given)
    if policy == NONE:
        return None
    found = nodes()
    if len(found) > chosen.most:
        raise ValueError(
            f"{POLICY_FLAG}: unsupported on machines with more than {chosen.most} NUMA Nodes; "
            f"{FLAG} {MOST}={len(found)} allows them"
        )
    return Topology(policy, found, scope == "pod", chosen.closest)

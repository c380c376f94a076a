"""Processors spread evenly over as few NUMA nodes as can hold them (``distribute-cpus-across-numa``). Pure.

Work that runs in step is as slow as its slowest part, so equal parts on every node beat a full node and a scrap. Among the sets of
nodes the one is taken that leaves the nodes of the machine most equally free. What cannot be divided goes, group by group (a
processor, or a core with ``full-pcpus-only``), to those nodes of the set where it leaves the least difference.

Worked example: two nodes of eight processors, ten wanted: five of each, where packing would take all of one and two of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from itertools import combinations
from statistics import pstdev

from bamikube.nodeagent.cpus.choice import Machine, take


def spread(
    known: Machine, free: Set[int], wanted: int, group: int = 1, by_cache: bool = False
) -> frozenset[int]:
    """``wanted`` of the ``free`` processors, which have to be as many, in groups of ``group``; packed where no even division fits."""
    if wanted <= 0 or wanted % group:
        return take(known, free, wanted, by_cache)
    by_node: dict[int, set[int]] = {}
    for one in known:
        if one.number in free:
            by_node.setdefault(one.node, set()).add(one.number)
    room = {node: len(numbers) for node, numbers in by_node.items()}
    parts = _parts(room, wanted, group)
    if parts is None:
        return take(known, free, wanted, by_cache)
    return frozenset().union(*(take(known, by_node[node], part, by_cache) for node, part in parts.items()))


def _parts(room: Mapping[int, int], wanted: int, group: int) -> dict[int, int] | None:
    """How many of each node, over the fewest nodes that can hold them in even parts."""
    for count in range(1, len(room) + 1):
        even = wanted // count // group * group
        if not even:
            break
        found = []
        for nodes in combinations(sorted(room), count):
            if sum(room[node] for node in nodes) < wanted or any(room[node] < even for node in nodes):
                continue
            scattered = (wanted - even * count) // group
            able = [node for node in nodes if room[node] >= even + group]
            for more in combinations(able, scattered):
                parts = {node: even + (group if node in more else 0) for node in nodes}
                found.append((_difference(room, parts), nodes, more, parts))
        if found:
            return min(found, key=lambda each: each[:3])[3]
    return None


def _difference(room: Mapping[int, int], parts: Mapping[int, int]) -> float:
    """How unequally free the nodes are afterwards."""
    return pstdev(room[node] - parts.get(node, 0) for node in room)

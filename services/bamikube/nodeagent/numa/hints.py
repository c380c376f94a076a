"""Hints: which NUMA nodes a container could have its processors, memory or devices of. Pure.

A manager that could serve a container from several sets of nodes gives a hint for each; those that take no more nodes than the machine
would need for it when nobody else were there are *preferred*. A resource without hints (``None``) may come from anywhere; one
with an empty list cannot be had.

Source: "Control Topology Management Policies on a node".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

Nodes = frozenset[int]


@dataclass(frozen=True, slots=True)
class Hint:
    """``nodes``: None for any."""

    nodes: Nodes | None
    preferred: bool


Hints = Mapping[str, list[Hint] | None]  # by resource


def sets(nodes: Iterable[int]) -> Iterator[Nodes]:
    """All sets of nodes, the small ones first, among those the ones with the lowest numbers."""
    known = sorted(nodes)
    for count in range(1, len(known) + 1):
        yield from map(frozenset, combinations(known, count))


def narrower(one: Nodes, other: Nodes) -> bool:
    """Fewer nodes; or as many, of lower numbers (as masks of bits compare)."""
    if len(one) != len(other):
        return len(one) < len(other)
    return sum(1 << node for node in one) < sum(1 << node for node in other)


def best(hints: Iterable[Hint]) -> Hint | None:
    """The narrowest of the preferred ones; of all if none is preferred."""
    found: Hint | None = None
    for hint in hints:
        if (
            found is None
            or (hint.preferred and not found.preferred)
            or (hint.preferred == found.preferred and narrower(hint.nodes or Nodes(), found.nodes or Nodes()))
        ):
            found = hint
    return found

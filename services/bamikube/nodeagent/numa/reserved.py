"""``--reserved-memory``: which part of what is reserved of the node's memory is of which NUMA node. Pure.

The parts of a kind of memory have to come to what ``--kube-reserved``, ``--system-reserved`` and the hard eviction threshold keep from pods:
otherwise the node would promise more, or less, than its nodes together can hold.

Source: "Control Memory Management Policies on a Node".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bamikube.api.quantity import Quantity, QuantityError
from bamikube.nodeagent.numa.memory import MEMORY
from bamikube.nodeagent.numa.nodes import NumaNodes

FLAG = "--reserved-memory"
Reserved = dict[int, dict[str, Quantity]]


def parse(given: Iterable[str]) -> Reserved:
    """``0:memory=1Gi``, ``hugepages-2Mi=2Gi``, ``1:memory=1Gi``: a part without a node is of the one before. Raises ValueError."""
    found: Reserved = {}
    node: int | None = None
    for part in (piece.strip() for text in given for piece in text.replace(";", ",").split(",")):
        first, colon, rest = part.rpartition(":")
        if colon and not first.isdigit():
            raise ValueError(f"{FLAG}: failed to convert the NUMA node ID, exp: 0, got {first}")
        node = int(first) if colon else node
        name, equals, text = rest.partition("=")
        if node is None or not equals:
            raise ValueError(
                f"{FLAG}: the reservation has incorrect format, expected numaNodeID:type=quantity[,type=quantity...], got {part}"
            )
        amount = _amount(node, name, text)
        if name in found.setdefault(node, {}):
            raise ValueError(
                f'{FLAG}: the reserved memory has a duplicate value for NUMA node {node} and resource "{name}"'
            )
        found[node][name] = amount
    return found


def _amount(node: int, name: str, text: str) -> Quantity:
    if name != MEMORY and not name.startswith("hugepages-"):
        raise ValueError(
            f'{FLAG}: the limit type "{name}" for NUMA node {node} is not supported, only [memory hugepages-<size>] is accepted'
        )
    try:
        amount = Quantity.parse(text)
    except QuantityError as error:
        raise ValueError(f'{FLAG}: failed to parse the quantity, exp: "{name}=1Gi", got {text}') from error
    if amount.sign() <= 0:
        raise ValueError(
            f'{FLAG}: reserved memory may not be zero for NUMA node {node} and resource "{name}"'
        )
    return amount


def of_nodes(nodes: NumaNodes, reserved: Reserved, kept: Mapping[str, Quantity]) -> dict[int, dict[str, int]]:
    """Bytes of each node. ``kept`` is what the node as a whole keeps from pods. Raises ValueError."""
    there = {node.number for node in nodes}
    sums: dict[str, Quantity] = {}
    for node, amounts in reserved.items():
        if node not in there:
            raise ValueError(
                f"{FLAG}: the reserved memory configuration references a NUMA node {node} that does not exist on this machine"
            )
        for name, amount in amounts.items():
            sums[name] = sums[name].add(amount) if name in sums else amount
    for name in (*sums, *(name for name in kept if name == MEMORY and name not in sums)):
        has, wanted = sums.get(name, Quantity(0)), kept.get(name, Quantity(0))
        if has.value() != wanted.value():
            raise ValueError(
                f'{FLAG}: the total amount "{has}" of type "{name}" is not equal to the value "{wanted}" determined by Node '
                "Allocatable feature: --kube-reserved, --system-reserved and the hard eviction threshold of memory.available"
            )
    found = {
        node: {name: amount.value() for name, amount in amounts.items()} for node, amounts in reserved.items()
    }
    for one in nodes:
        room = {MEMORY: one.memory} | dict(one.huge_pages)
        for name, size in found.get(one.number, {}).items():
            if size > room.get(name, 0):
                raise ValueError(
                    f"{FLAG}: NUMA node {one.number} has {room.get(name, 0)} bytes of {name}, which is less than the reserved {size}"
                )
    if not any(amounts.get(MEMORY) for amounts in found.values()):
        raise ValueError("[memorymanager] you should specify the system reserved memory")
    return found

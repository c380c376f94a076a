"""The NUMA nodes of this machine: how much memory is near to which processors, and how far they are from each other."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from bamikube.api.quantity import BINARY, Quantity
from bamikube.nodeagent.node import facts

FOLDER = Path("/sys/devices/system/node")
PLACE = 10  # the distance of a node to itself


@dataclass(frozen=True, slots=True)
class NumaNode:
    """``memory`` in bytes; ``huge_pages``: bytes by resource (``hugepages-2Mi``); ``distances`` by the number of the other node."""

    number: int
    memory: int
    huge_pages: tuple[tuple[str, int], ...] = ()
    distances: tuple[tuple[int, int], ...] = ()

    def distance(self, other: int) -> int:
        return dict(self.distances).get(other, PLACE)


NumaNodes = tuple[NumaNode, ...]


def nodes(folder: Path = FOLDER) -> NumaNodes:
    """As the kernel tells of them; a kernel without NUMA has one node with all memory."""
    paths = sorted(folder.glob("node[0-9]*"), key=_number)
    if not paths:
        machine = facts.huge_pages(Path("/sys/kernel/mm/hugepages"))
        return (NumaNode(0, facts.meminfo()["MemTotal"], _named(machine)),)
    order = [_number(path) for path in paths]
    found = []
    for path in paths:
        far: list[str] = []
        with contextlib.suppress(OSError):
            far = (path / "distance").read_text().split()
        pages = _named(facts.huge_pages(path / "hugepages"))
        # A kernel lists the distances of the nodes that are on, in their order.
        distances = tuple(zip(order, map(int, far), strict=False))
        found.append(NumaNode(_number(path), _memory(path / "meminfo"), pages, distances))
    return tuple(found)


def _number(path: Path) -> int:
    return int(path.name.removeprefix("node"))


def _named(pages: tuple[tuple[int, int], ...]) -> tuple[tuple[str, int], ...]:
    return tuple((f"hugepages-{Quantity.of(size, BINARY)}", size * count) for size, count in pages)


def _memory(path: Path) -> int:
    """``Node 0 MemTotal:  8349472 kB`` in bytes."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if "MemTotal:" in words:
                return int(words[-2]) * 1024
    return 0

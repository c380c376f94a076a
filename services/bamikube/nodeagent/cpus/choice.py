"""Which processors a container gets for itself. Pure but for :func:`machine`, which reads the kernel's files.

Those that share the most with each other: whole sockets and NUMA nodes first (the larger of the two before the smaller), then, if that
is wanted, whole last-level caches, then whole cores, then single threads. Cores and threads are looked for where least is
free, so that large pieces stay whole; among equals the lowest numbers.

Worked example: two sockets of two cores with two threads, socket 0 with one core gone: who wants two processors gets the core
that is left there, who wants four gets all of socket 1.

Source: "Control CPU Management Policies on the Node".
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from pathlib import Path

SYSTEM = Path("/sys/devices/system")


@dataclass(frozen=True, slots=True)
class Processor:
    """A hardware thread, the core it is of (numbered within its socket), the socket, the NUMA node that is nearest, and the
    last-level cache (numbered over the machine)."""

    number: int
    core: int
    socket: int
    node: int = 0
    cache: int = 0


Machine = tuple[Processor, ...]
Key = Callable[[Processor], tuple[int, ...]]


def machine(folder: Path = SYSTEM / "cpu") -> Machine:
    """The processors of this machine that are switched on."""

    def number(path: Path, name: str, otherwise: int) -> int:
        with contextlib.suppress(OSError, ValueError):
            return max(0, int((path / name).read_text()))
        return otherwise

    found = []
    for path in sorted(folder.glob("cpu[0-9]*")):
        if not (path / "topology/core_id").exists():
            continue
        nodes = [int(entry.name.removeprefix("node")) for entry in path.glob("node[0-9]*")]
        socket = number(path, "topology/physical_package_id", 0)
        found.append(
            Processor(
                int(path.name.removeprefix("cpu")),
                number(path, "topology/core_id", 0),
                socket,
                min(nodes, default=0),
                number(path, "cache/index3/id", socket),
            )
        )
    return tuple(found)


def threads(known: Machine) -> int:
    """How many threads a core has."""
    return len(known) // max(1, len({core_of(one) for one in known}))


def socket_of(one: Processor) -> tuple[int, ...]:
    return (one.socket,)


def node_of(one: Processor) -> tuple[int, ...]:
    return (one.node,)


def core_of(one: Processor) -> tuple[int, ...]:
    return one.socket, one.core


def cache_of(one: Processor) -> tuple[int, ...]:
    return one.node, one.cache


def numbers(known: Iterable[Processor]) -> frozenset[int]:
    return frozenset(one.number for one in known)


def siblings(known: Machine, some: Set[int]) -> frozenset[int]:
    """``some`` and all threads of their cores."""
    cores = {core_of(one) for one in known if one.number in some}
    return numbers(one for one in known if core_of(one) in cores)


def take(known: Machine, free: Set[int], wanted: int, by_cache: bool = False) -> frozenset[int]:
    """``wanted`` of the ``free`` processors; there have to be as many."""
    if wanted <= 0:
        return frozenset()
    picking = _Picking(known, set(free), wanted)
    for key in picking.large():
        picking.whole(key)
    if by_cache:
        picking.whole(cache_of)
        picking.within_a_cache()
    picking.whole(core_of)
    picking.threads()
    return frozenset(picking.taken)


class _Picking:
    """One choice under way: what is ``left``, what is ``taken``, and how many are ``wanted`` still."""

    def __init__(self, known: Machine, left: set[int], wanted: int) -> None:
        self._known, self.left, self.wanted = known, left, wanted
        self.taken: set[int] = set()

    def large(self) -> tuple[Key, Key]:
        """Sockets and NUMA nodes, the larger ones first."""
        sockets, nodes = len(set(map(socket_of, self._known))), len(set(map(node_of, self._known)))
        return (node_of, socket_of) if sockets >= nodes else (socket_of, node_of)

    def _ranked(self) -> list[Processor]:
        """What is left, from where least is left."""
        left = [one for one in self._known if one.number in self.left]
        keys = (*self.large(), core_of)
        counts = [Counter(map(key, left)) for key in keys]

        def rank(one: Processor) -> tuple[object, ...]:
            each = ((count[key(one)], key(one)) for key, count in zip(keys, counts, strict=True))
            return (*(part for pair in each for part in pair), one.number)

        return sorted(left, key=rank)

    def whole(self, key: Key) -> None:
        """Groups of which all is left, as long as so many are wanted."""
        groups: dict[tuple[int, ...], set[int]] = {}
        for one in self._known:
            groups.setdefault(key(one), set()).add(one.number)
        for group in dict.fromkeys(map(key, self._ranked())):
            if groups[group] <= self.left and len(groups[group]) <= self.wanted:
                self._take(groups[group])

    def within_a_cache(self) -> None:
        """All that is wanted still behind one cache, if it has so much."""
        left = [one for one in self._known if one.number in self.left]
        caches: dict[tuple[int, ...], set[int]] = {}
        for one in left:
            caches.setdefault(cache_of(one), set()).add(one.number)
        for _, members in sorted(caches.items(), key=lambda item: (len(item[1]), item[0])):
            if 0 < self.wanted <= len(members):
                inner = take(tuple(one for one in self._known if one.number in members), members, self.wanted)
                self._take(set(inner))

    def threads(self) -> None:
        self._take({one.number for one in self._ranked()[: self.wanted]})

    def _take(self, some: set[int]) -> None:
        self.taken |= some
        self.left -= some
        self.wanted -= len(some)


def listed(given: Iterable[int]) -> str:
    """``0-3,8``, as the kernel writes them."""
    parts: list[list[int]] = []
    for number in sorted(given):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)

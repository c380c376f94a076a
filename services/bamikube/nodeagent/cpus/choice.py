"""Which processors a container gets for itself. Pure.

Those that share the most with each other: whole sockets first, then whole cores, then single threads of the sockets and cores that
are used most already; among equals the lowest numbers.

Source: "Control CPU Management Policies on the Node".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Processor:
    """A hardware thread, the core it is of (numbered within its socket), and the socket."""

    number: int
    core: int
    socket: int


Machine = tuple[Processor, ...]


def machine(folder: Path = Path("/sys/devices/system/cpu")) -> Machine:
    """The processors of this machine that are switched on."""

    def number(path: Path, name: str) -> int:
        return int((path / "topology" / name).read_text())

    return tuple(
        Processor(
            int(path.name.removeprefix("cpu")), number(path, "core_id"), number(path, "physical_package_id")
        )
        for path in sorted(folder.glob("cpu[0-9]*"))
        if (path / "topology/core_id").exists()
    )


def threads(known: Machine) -> int:
    """How many threads a core has."""
    return len(known) // max(1, len({(one.socket, one.core) for one in known}))


def take(known: Machine, free: Set[int], wanted: int) -> frozenset[int]:
    """``wanted`` of the ``free`` processors; there have to be as many."""
    left, taken = set(free), set[int]()
    for key in (_socket, _core):
        for members in sorted(_groups(known, key), key=min):
            if members <= left and len(members) <= wanted - len(taken):
                taken |= members
                left -= members
    place = {one.number: one for one in known}

    def fullest(number: int) -> tuple[int, int, int]:
        one = place[number]
        beside = [place[other] for other in left]
        return (
            sum(_socket(other) == _socket(one) for other in beside),
            sum(_core(other) == _core(one) for other in beside),
            number,
        )

    while len(taken) < wanted:
        chosen = min(left, key=fullest)
        taken.add(chosen)
        left.discard(chosen)
    return frozenset(taken)


def _socket(one: Processor) -> tuple[int, ...]:
    return (one.socket,)


def _core(one: Processor) -> tuple[int, ...]:
    return one.socket, one.core


def _groups(known: Machine, key: Callable[[Processor], tuple[int, ...]]) -> list[set[int]]:
    found: dict[tuple[int, ...], set[int]] = {}
    for one in known:
        found.setdefault(key(one), set()).add(one.number)
    return list(found.values())


def listed(numbers: Iterable[int]) -> str:
    """``0-3,8``, as the kernel writes them."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)

"""Which ids of the machine each pod has for itself. Pure.

The machine's ids are cut into ranges of one length; a pod with users of its own gets a range that no other pod has, so what breaks
out of it is nobody, to the machine and to every other pod::

    0 ......... 65535   65536 ..... 131071   131072 .... 196607   ...   4294901760 .. 4294967295
    the machine's own   the first to give    the second                 never given

The first range is the machine's own. The last one ends with 4294967295, which means "no id" to the kernel, and which it maps for
nobody. A range that was given back rests until all others had their turn, so files that a pod has left behind do not soon belong
to the next one.
"""

from __future__ import annotations

from bamikube.nodeagent.runtime.port import IdMap

UNIT = 65536  # the shortest range, of whose multiples all others are
IDS = 2**32  # that there are


class NoRange(Exception):
    """A range cannot be had, or not be kept; in the kubelet's words."""


def check(first: int, size: int, length: int, most: int) -> None:
    """Whether ``size`` ids from ``first`` do for ``most`` pods with ``length`` each. Raises ValueError."""
    if length % UNIT:
        raise ValueError(f"kubelet user namespace length {length} is not a multiple of {UNIT}")
    if first % length:
        raise ValueError(f"kubelet user assigned ID {first} is not a multiple of {length}")
    if first < length:
        raise ValueError(f"kubelet user assigned ID {first} must be greater or equal to {length}")
    if size % length:
        raise ValueError(f"kubelet user assigned IDs length {size} is not a multiple of {length}")
    if _usable(first, size, length) < most:
        raise ValueError(f"kubelet user assigned IDs are not enough to support {most} pods")


def _usable(first: int, size: int, length: int) -> int:
    return size // length - (first + size >= IDS)


class Ranges:
    """Who has which range; ``first``, ``size`` and ``length`` have been checked."""

    def __init__(self, first: int = UNIT, size: int = IDS - UNIT, length: int = UNIT) -> None:
        self._first, self._length = first, length
        self._count = _usable(first, size, length)
        self._held: dict[str, IdMap] = {}  # by the uids of pods
        self._kept: dict[str, IdMap] = {}  # no pod can use them, but others must not have them either
        self._slots: dict[int, set[str]] = {}  # ranges that are somebody's, by their numbers
        self._next = 0

    def take(self, uid: str) -> IdMap:
        """Give a pod a range; the one it has, if it has one. Raises NoRange when all are given."""
        if uid in self._held:
            return self._held[uid]
        if len(self._slots) >= self._count:
            raise NoRange("could not find an empty slot to allocate a user namespace")
        slot = self._next
        while slot in self._slots:
            slot = (slot + 1) % self._count
        found = IdMap(self._first + slot * self._length, self._length)
        self._hold(uid, found, slot)
        return found

    def record(self, uid: str, found: IdMap) -> None:
        """A pod was given this before. Raises NoRange where that is no range of ours, or another pod's."""
        if self._held.get(uid) == found:
            return
        slot, rest = divmod(found.first - self._first, self._length)
        if found.length != self._length:
            raise NoRange(f"wrong user namespace length {found.length}")
        if rest:
            raise NoRange(f"wrong user namespace offset specified {found.first}")
        if uid in self._held:
            raise NoRange(f'different user namespace range already used by pod "{uid}"')
        if not 0 <= slot < self._count:
            raise NoRange(f"id {found.first} is out of range")
        if self._slots.get(slot, {uid}) != {uid}:
            raise NoRange(f'range picked for pod "{uid}" already taken')
        self._hold(uid, found, slot)

    def keep(self, uid: str, found: IdMap) -> None:
        """A pod was given what we would not have given: nobody else gets any of it."""
        if self._kept.get(uid) == found:
            return
        self._kept[uid] = found
        low = max(0, (found.first - self._first) // self._length)
        high = min(self._count, -((self._first - found.first - found.length) // self._length))
        for slot in range(low, high):
            self._slots.setdefault(slot, set()).add(uid)

    def _hold(self, uid: str, found: IdMap, slot: int) -> None:
        self._held[uid] = found
        self._slots.setdefault(slot, set()).add(uid)
        self._next = (slot + 1) % self._count

    def release(self, uid: str) -> None:
        """A pod is gone; what it had may be another's."""
        held, kept = self._held.pop(uid, None), self._kept.pop(uid, None)
        if kept is not None:
            self._slots = {slot: rest for slot, owners in self._slots.items() if (rest := owners - {uid})}
        elif held is not None:
            slot = (held.first - self._first) // self._length
            self._slots[slot].discard(uid)
            if not self._slots[slot]:
                del self._slots[slot]

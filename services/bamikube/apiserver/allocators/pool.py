"""A range of numbers from which services get theirs: cluster addresses or node ports.

What is taken is recorded in the store, one small key for each number, written and deleted in the same transaction as
the service that holds it. The guard "this key does not exist" is what makes double allocation impossible; the view
kept here only makes it unlikely that a guard fails. So an allocation is a throw of the dice and a dictionary look-up,
however full the range is or how many API servers there are.

The range has two bands. Numbers chosen by the server come from the upper one as long as it has room, so that those a
person picks by hand, from the lower one, are seldom taken already.

Worked example: node ports 30000-32767. ``static_band(2768)`` is 86, so free choices come from 30086-32767 first.

Source: KEP-3070 (reserve service IP ranges), KEP-3668 (reserve node port ranges).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from bamikube.kit.world import World

# Seconds for which a number picked here is not picked again: until then its service is in the cache or was refused.
RESERVATION = 10.0
_THROWS = 16


class Exhausted(Exception):
    """Nothing in the range is free."""


class Pool:
    """Numbers ``0 .. size-1`` of a range; ``text`` makes a number what it is called in objects and keys."""

    def __init__(
        self,
        prefix: str,
        size: int,
        band: int,
        world: World,
        text: Callable[[int], str],
        number: Callable[[str], int | None],
    ) -> None:
        self.prefix = prefix
        self.size = size
        self._band = band
        self._world = world
        self._text = text
        self._number = number
        self._taken: dict[int, str] = {}  # number -> the service that holds it, as the cache knows
        self._reserved: OrderedDict[int, float] = OrderedDict()  # number -> until when, oldest first

    def key(self, value: str) -> bytes:
        """The record's key in the store."""
        return f"{self.prefix}{value}".encode()

    def contains(self, value: str) -> bool:
        return self._number(value) is not None

    def take(self, value: str, holder: str) -> None:
        """The cache has seen that ``holder`` has ``value``."""
        number = self._number(value)
        if number is not None:
            self._taken[number] = holder
            self._reserved.pop(number, None)

    def release(self, value: str, holder: str) -> None:
        """The cache has seen that ``holder`` no longer has it."""
        number = self._number(value)
        if number is not None and self._taken.get(number) == holder:
            del self._taken[number]

    def holder(self, value: str) -> str:
        """Who has ``value`` as far as the cache knows, or ""."""
        number = self._number(value)
        return self._taken.get(number, "") if number is not None else ""

    def pick(self) -> str:
        """A number that is free as far as is known here, reserved for a moment. Raises Exhausted."""
        self._forget_old()
        for low, high in ((self._band, self.size), (0, self._band)):
            number = self._pick(low, high)
            if number is not None:
                self._reserved[number] = self._world.clock.monotonic() + RESERVATION
                return self._text(number)
        raise Exhausted

    def _pick(self, low: int, high: int) -> int | None:
        if low >= high:
            return None
        for _ in range(_THROWS):
            number = self._world.chance.randrange(low, high)
            if self._free(number):
                return number
        # The band is nearly full: look at every number, from a random one on.
        start = self._world.chance.randrange(low, high)
        for number in (*range(start, high), *range(low, start)):
            if self._free(number):
                return number
        return None

    def _free(self, number: int) -> bool:
        return number not in self._taken and number not in self._reserved

    def _forget_old(self) -> None:
        now = self._world.clock.monotonic()
        while self._reserved:
            number, until = next(iter(self._reserved.items()))
            if until > now:
                return
            del self._reserved[number]


def static_band(size: int, step: int, low: int, high: int) -> int:
    """How many numbers at the start of a range are left for hand-picked values: ``size/step`` within limits."""
    return 0 if size < low else min(max(low, size // step), high)

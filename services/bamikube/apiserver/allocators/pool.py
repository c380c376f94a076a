"""What services are given numbers out of: a ledger of what is taken, and a choice among the rest.

What is taken is recorded in the store, one key for each number, written and deleted in the same transaction as the
service that holds it. The guard "this key does not exist" is what makes double allocation impossible; the view kept
here only makes it unlikely that a guard fails. So an allocation is a throw of the dice and a look-up, however
full a range is or how many API servers there are.

A range has two bands. Numbers chosen by the server come from the upper one as long as it has room, so that those a
person picks by hand, from the lower one, are seldom taken already.

Worked example: node ports 30000-32767. ``static_band(2768, 32, 16, 128)`` is 86, so free choices come from 30086-32767
first.

Source: KEP-3070 (reserve service IP ranges), KEP-3668 (reserve node port ranges).
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable

from bamikube.api.errors import Cause
from bamikube.kit.chance import Chance
from bamikube.kit.clock import Clock

# Seconds for which a number picked here is not picked again: until then its service is in the cache or was refused.
RESERVATION = 10.0
_THROWS = 16


class Exhausted(Exception):
    """Nothing is free."""


class Refused(Exception):
    """What a service asks for cannot be had."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.message)
        self.cause = cause


class Ledger:
    """Which numbers are taken as far as the cache knows, and which were picked here a moment ago."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._taken: set[int] = set()
        self._reserved: OrderedDict[int, float] = OrderedDict()  # number -> until when, oldest first

    def take(self, number: int) -> None:
        """The cache has seen that somebody has it."""
        self._taken.add(number)
        self._reserved.pop(number, None)

    def release(self, number: int) -> None:
        """The cache has seen that nobody has it any more."""
        self._taken.discard(number)

    def reserve(self, number: int) -> None:
        """Not to be picked again for a moment."""
        self._reserved[number] = self._clock.monotonic() + RESERVATION

    def is_free(self, number: int) -> bool:
        return number not in self._taken and number not in self._reserved

    def count(self, low: int, high: int) -> int:
        """How many of [low, high) are taken."""
        return sum(low <= number < high for number in self._taken)

    def forget_old(self) -> None:
        """Drop the reservations whose time has run out."""
        now = self._clock.monotonic()
        while self._reserved:
            number, until = next(iter(self._reserved.items()))
            if until > now:
                return
            del self._reserved[number]


def choose(low: int, high: int, is_free: Callable[[int], bool], chance: Chance) -> int | None:
    """A free number in [low, high), None when there is none."""
    if low >= high:
        return None
    for _ in range(_THROWS):
        number = chance.randrange(low, high)
        if is_free(number):
            return number
    # It is nearly full: look at every number, from a random one on.
    start = chance.randrange(low, high)
    for number in itertools.chain(range(start, high), range(low, start)):
        if is_free(number):
            return number
    return None


def static_band(size: int, step: int, low: int, high: int) -> int:
    """How many numbers at the start of a range are left for hand-picked values: ``size/step`` within limits."""
    return 0 if size <= low else min(max(low, size // step), high)

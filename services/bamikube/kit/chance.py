"""Chance, as a value that is handed in: the only dice in the house.

A :class:`Chance` made from a seed throws the same sequence every time, which is what lets the simulation replay
a history; one made without a seed is seeded by the operating system.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

# Kubernetes' alphabet for generated names: no vowels, so no words; no look-alikes.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class Chance:
    """Dice, identifiers and name suffixes."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)

    def random(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def randrange(self, low: int, high: int) -> int:
        """An integer in [low, high)."""
        return self._random.randrange(low, high)

    def choice(self, options: Sequence[T]) -> T:
        return self._random.choice(options)

    def shuffle(self, items: list[T]) -> None:
        self._random.shuffle(items)

    def uuid(self) -> str:
        """A version 4 UUID in its usual text form."""
        # As uuid.UUID(int=..., version=4) writes it, in a third of the time: every answer carries one.
        bits = self._random.getrandbits(128)
        digits = "%032x" % (bits & ~(0xF << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62)
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def suffix(self, length: int = 5) -> str:
        """The random tail of a generated name."""
        return "".join(self._random.choices(_ALPHABET, k=length))

"""The world a component lives in: its clock and its dice, handed in together."""

from __future__ import annotations

from dataclasses import dataclass, field

from bamikube.kit.chance import Chance
from bamikube.kit.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True)
class World:
    """Everything a component may not take from the operating system by itself."""

    clock: Clock = field(default_factory=SystemClock)
    chance: Chance = field(default_factory=Chance)

"""Waiting longer each time: the one place where retry delays are computed."""

from __future__ import annotations

from bamikube.kit.chance import Chance


class Backoff:
    """Delays in seconds: ``base``, ``base*factor`` ... up to ``cap``, each stretched by up to ``jitter`` of itself."""

    def __init__(
        self, base: float, cap: float, factor: float = 2.0, jitter: float = 0.0, chance: Chance | None = None
    ) -> None:
        self._base = base
        self._cap = cap
        self._factor = factor
        self._jitter = jitter
        self._chance = chance
        self._next = base

    def next(self) -> float:
        """The delay to wait now; the following one is longer."""
        delay = self._next
        self._next = min(self._cap, self._next * self._factor)
        if self._jitter and self._chance is not None:
            delay *= 1 + self._chance.random() * self._jitter
        return delay

    def reset(self) -> None:
        """Start again at ``base``: what was tried has worked."""
        self._next = self._base

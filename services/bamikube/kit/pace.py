"""How often something may be done: a bucket of tokens that fills steadily.

With ``rate`` 5 and ``burst`` 10 ten things may be done at once, and five more with every second. A rate of 0 bounds nothing.
"""

from __future__ import annotations

from bamikube.kit.clock import Clock


class Pace:
    """``rate`` tokens a second, ``burst`` at most. It is full at first."""

    def __init__(self, clock: Clock, rate: float, burst: int) -> None:
        self._clock, self._rate, self._burst = clock, rate, float(max(1, burst))
        self._tokens, self._filled = self._burst, clock.monotonic()

    def take(self) -> bool:
        """Take a token, if there is one; without one nothing changes."""
        if not self._rate:
            return True
        self._fill()
        if self._tokens < 1.0 - 1e-9:
            return False
        self._tokens -= 1.0
        return True

    async def wait(self) -> None:
        """Take a token, as soon as there is one."""
        while not self.take():
            await self._clock.sleep((1.0 - self._tokens) / self._rate)

    def _fill(self) -> None:
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now

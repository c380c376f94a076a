"""What the node's status tells of the container runtime, looked at beside it: a runtime that hangs holds nothing up.

One look is under way at a time. Whoever wants to know waits for it a moment and then goes by what was seen last. Only
when nothing has been seen for half a minute the runtime counts as down, so that one that is begun anew, or is
busy for a while, does not turn the node NotReady.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.nodeagent.runtime.port import Condition, Health, Image, Runtime, RuntimeFailure

log = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds without an answer after which the runtime is down
SOON = 2.0  # seconds that somebody who asks waits for a look
NEVER = "container runtime status check may not have completed yet"


class RuntimeLook:
    """``told`` is called when a look ends for which nobody waits any more."""

    def __init__(self, runtime: Runtime, world: World, told: Callable[[], None]) -> None:
        self._runtime, self._world, self._told = runtime, world, told
        self._tasks = Tasks("look at the runtime")
        self._looking: asyncio.Task[None] | None = None
        self._late = False  # somebody has stopped waiting for the look that is under way
        self._seen: float | None = None  # when it answered last
        self._health = Health()
        self.version = ""
        self.images: Sequence[Image] = ()
        self.unsure = True  # the last look did not succeed, or takes long

    @property
    def conditions(self) -> Sequence[Condition] | None:
        """What it says of itself; None when it is down."""
        late = self._seen is not None and self._world.clock.monotonic() - self._seen >= PATIENCE
        return None if late else self._health.conditions

    @property
    def health(self) -> Health:
        """What it said of itself last."""
        return self._health

    @property
    def faults(self) -> tuple[str, ...]:
        """What is in the way while it has not been seen at all."""
        return (NEVER,) if self._seen is None else ()

    async def look(self) -> None:
        """Look, and wait for it a moment."""
        if self._looking is None or self._looking.done():
            self._looking = self._tasks.spawn(self._look(), "look")
        await asyncio.wait({self._looking}, timeout=SOON)
        if not self._looking.done():
            self.unsure = self._late = True

    async def _look(self) -> None:
        runtime = self._runtime
        try:
            health = await runtime.health()
            self.version = await runtime.version()
            self.images = await runtime.list_images()
            self._health, self._seen = health, self._world.clock.monotonic()
            self.unsure = False
        except RuntimeFailure as failure:
            self.unsure = True
            log.warning("the container runtime does not answer: %s", failure)
        finally:
            if self._late:
                self._late = False
                self._told()

    async def close(self) -> None:
        await self._tasks.close()

"""A queue of keys, each worked on by one worker at a time.

The rules are those of client-go's workqueue, because controllers are written against them:

* a key that is added twice before it is taken is worked on once;
* a key that is added while it is being worked on is queued again when ``done`` is called, never handed to a second
  worker meanwhile;
* a failing key comes back after ``base * 2^failures`` seconds, at most ``cap``, until ``forget`` is called.

Example: ``add("a"); add("a")`` hands out ``a`` once. While a worker holds ``a``, ``add("a")`` only marks it dirty;
``done("a")`` then puts it back at the end of the queue.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from bamikube.kit import queuemetrics
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World

log = logging.getLogger(__name__)

# A shorter delay than this, in seconds, is rounding: the key would be due before what it waits for, and again, and again.
SHORTEST = 0.001


class WorkQueue:
    """Keys waiting for work. Delays are in seconds."""

    def __init__(
        self, world: World, *, base: float = 0.005, cap: float = 1000.0, name: str = "queue"
    ) -> None:
        self.name = name
        self._clock = world.clock
        self._base = base
        self._cap = cap
        self._order: deque[str] = deque()
        self._dirty: set[str] = set()  # wanted, whether queued or being worked on
        self._active: set[str] = set()  # held by a worker
        self._failures: dict[str, int] = {}
        self._later: list[tuple[float, int, str]] = []  # heap of (due, tie-break, key)
        self._due: dict[str, float] = {}  # the earliest due time of a delayed key
        self._ties = 0
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._figures = queuemetrics.of(name)
        self._since: dict[str, float] = {}  # when a waiting key was added, when an active one was taken

    def __len__(self) -> int:
        return len(self._order)

    def add(self, key: str) -> None:
        if self._closed or key in self._dirty:
            return
        self._dirty.add(key)
        self._figures.adds.inc()
        if key not in self._active:
            self._queue(key)

    def _queue(self, key: str) -> None:
        self._order.append(key)
        self._since[key] = self._clock.monotonic()
        self._figures.depth.set(len(self._order))
        self._wake()

    def add_after(self, key: str, seconds: float) -> None:
        """Add later. Of several pending delays of one key the earliest counts."""
        if self._closed:
            return
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + max(seconds, SHORTEST)
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        self._ties += 1
        heapq.heappush(self._later, (due, self._ties, key))
        self._arm()

    def add_rate_limited(self, key: str) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._figures.retries.inc()
        self.add_after(key, min(self._cap, self._base * 2 ** min(failures, 60)))

    def forget(self, key: str) -> None:
        self._failures.pop(key, None)

    def failures(self, key: str) -> int:
        return self._failures.get(key, 0)

    async def get(self) -> str:
        """The next key; it is held until ``done``. Raises CancelledError when the queue is closed."""
        while not self._order:
            if self._closed:
                raise asyncio.CancelledError
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                # A wake-up that came with the cancellation belongs to somebody else.
                if waiter.done() and not waiter.cancelled() and self._order:
                    self._wake()
                raise
        key = self._order.popleft()
        self._dirty.discard(key)
        self._active.add(key)
        now = self._clock.monotonic()
        self._figures.depth.set(len(self._order))
        self._figures.waited.observe(now - self._since.get(key, now))
        self._since[key] = now
        return key

    def done(self, key: str) -> None:
        self._active.discard(key)
        taken = self._since.pop(key, None)
        if taken is not None:
            self._figures.worked.observe(self._clock.monotonic() - taken)
        if key in self._dirty and not self._closed:
            self._queue(key)

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._later:
            delay = max(0.0, self._later[0][0] - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._release)

    def _release(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._later and self._later[0][0] <= now + 1e-9:
            due, _, key = heapq.heappop(self._later)
            # An earlier due time has replaced this entry when the two differ.
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        self._arm()


async def work(
    queue: WorkQueue, sync: Callable[[str], Awaitable[float | None]], *, workers: int, tasks: Tasks
) -> None:
    """Run ``workers`` workers over ``queue`` until cancelled.

    ``sync`` returns None when the key needs nothing more, or the seconds after which to look at it again. When it
    raises, the failure is logged and the key comes back with back-off.
    """

    async def worker() -> None:
        while True:
            key = await queue.get()
            try:
                again = await sync(key)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                retries = queue.failures(key)
                # The first conflicts of a busy object are everyday life; what persists is worth a line.
                level = logging.DEBUG if retries < 3 else logging.WARNING
                log.log(
                    level,
                    "%s: %s failed (attempt %d): %s",
                    queue.name,
                    key,
                    retries + 1,
                    error or repr(error),
                    exc_info=retries == 3 and not hasattr(error, "reason"),
                )
                queue.add_rate_limited(key)
            else:
                queue.forget(key)
                if again is not None:
                    queue.add_after(key, again)
            finally:
                queue.done(key)

    spawned = [tasks.spawn(worker(), f"{queue.name}-{number}") for number in range(workers)]
    try:
        await asyncio.gather(*spawned)
    finally:
        for task in spawned:
            task.cancel()

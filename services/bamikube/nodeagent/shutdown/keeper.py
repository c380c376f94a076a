"""Holds a shutdown of the machine up until the pods have ended, lowest priority first.

Without logind on the machine there is nothing to hold it up with: that is said once, and pods end with the machine.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Protocol

from bamikube.kit.clock import parse_rfc3339, rfc3339
from bamikube.kit.world import World
from bamikube.nodeagent import figures
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import Memory, Rejection, RuntimeState
from bamikube.nodeagent.shutdown.plan import Period, groups, rejection

log = logging.getLogger(__name__)

RECONNECT = 1.0  # seconds until the login manager is asked again
POLL = 0.1
STATE = "graceful_node_shutdown_state"
NEVER = "0001-01-01T00:00:00Z"


class Inhibitor(Protocol):
    """What can hold a shutdown up. All raise OSError."""

    async def delay(self) -> float: ...

    async def lengthen(self, seconds: float) -> None: ...

    async def hold(self) -> None: ...

    def release(self) -> None: ...

    def events(self) -> AsyncIterator[bool]: ...

    async def close(self) -> None: ...


class Ending(Protocol):
    """A pod that is to end: its worker."""

    pod: JSON
    status: JSON
    state: RuntimeState
    memory: Memory

    def put_out(self, why: Rejection) -> None: ...


class ShutdownKeeper:
    """``connect`` finds the inhibitor, ``tell`` writes an event of the node, ``changed`` has its status written at once.

    ``state``: a folder where it is noted when a shutdown began and ended, so that the figures say it after the reboot.
    """

    def __init__(
        self,
        world: World,
        periods: tuple[Period, ...],
        connect: Callable[[], Awaitable[Inhibitor]],
        workers: Callable[[], Iterable[Ending]],
        tell: Callable[[str, str, str], None],
        changed: Callable[[], None],
        state: Path,
    ) -> None:
        self._world, self._periods, self._connect = world, periods, connect
        self._workers, self._tell, self._changed, self._state = workers, tell, changed, state / STATE
        self.under_way = False

    async def run(self) -> None:
        """Watch for ever; ends at once where nobody waits, or nothing can be held up."""
        if not self._periods:
            return
        self._recall()
        connected = False
        while True:
            try:
                inhibitor = await self._connect()
                try:
                    await self._prepare(inhibitor)
                    if not connected:
                        log.info("a shutdown of the machine waits for the pods, up to %d s", self._most())
                    connected = True
                    async for coming in inhibitor.events():
                        await self._turn(inhibitor, coming)
                finally:
                    await inhibitor.close()
                log.warning("the connection to the login manager ended: watching for shutdowns anew")
            except OSError as error:
                if not connected:
                    log.warning(
                        "graceful node shutdown is off: %s; it needs systemd-logind on the system's D-Bus",
                        error,
                    )
                    return
                log.warning("cannot watch for a shutdown of the machine: %s", error)
            await self._world.clock.sleep(RECONNECT)

    def _most(self) -> int:
        return sum(period.seconds for period in self._periods)

    async def _prepare(self, inhibitor: Inhibitor) -> None:
        if self._most() > await inhibitor.delay():
            await inhibitor.lengthen(self._most())
        await inhibitor.hold()

    async def _turn(self, inhibitor: Inhibitor, coming: bool) -> None:
        word = "event" if coming else "cancellation"
        log.warning("the login manager tells of a shutdown %s", word)
        self._tell("Normal", "NodeShutdown", f"Shutdown manager detected shutdown {word}")
        self.under_way = coming
        self._changed()
        if not coming:
            await inhibitor.hold()
            return
        try:
            await self.end_pods()
        finally:
            inhibitor.release()

    async def end_pods(self) -> None:
        """End all pods, group by group, each within its time."""
        clock = self._world.clock
        began = clock.now()
        self._note(began, None)
        running = {
            facts.uid(w.pod): w
            for w in self._workers()
            if w.state.running() and not facts.terminal({"status": w.status})
        }
        for group in groups(self._periods, (w.pod for w in running.values())):
            workers = [running[facts.uid(pod)] for pod in group.pods]
            for worker in workers:
                worker.put_out(rejection(worker.pod, group.seconds))
            until = clock.monotonic() + group.seconds
            while any(worker.state.running() for worker in workers) and clock.monotonic() < until:
                await clock.sleep(POLL)
            left = [facts.full_name(w.pod) for w in workers if w.state.running()]
            if left:
                log.warning("pods did not end within %d s: %s", group.seconds, ", ".join(left))
        self._note(began, clock.now())

    # -- when it was ---------------------------------------------------------------------------------------------

    def _note(self, began: float, ended: float | None) -> None:
        figures.SHUTDOWN_START.set(began)
        figures.SHUTDOWN_END.set(ended or 0)
        times = {"startTime": rfc3339(began), "endTime": rfc3339(ended) if ended else NEVER}
        try:
            self._state.write_text(json.dumps(times))
        except OSError as error:
            log.warning("cannot note the shutdown in %s: %s", self._state, error.strerror)

    def _recall(self) -> None:
        try:
            known = json.loads(self._state.read_text())
            figures.SHUTDOWN_START.set(parse_rfc3339(known["startTime"]))
            figures.SHUTDOWN_END.set(0 if known["endTime"] == NEVER else parse_rfc3339(known["endTime"]))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("cannot read %s: %s", self._state, error)

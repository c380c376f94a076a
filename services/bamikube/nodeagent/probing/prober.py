"""The probes of one running container, each a small loop.

A startup probe goes first and holds the others back until it succeeds. Verdicts go into the container's
:class:`ProbeState`; the worker is woken only when one changes. Thresholds count consecutive results.
"""

from __future__ import annotations

from collections.abc import Callable

from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import ProbeState
from bamikube.nodeagent.probing.checks import MESSAGE_LIMIT, Checks

KINDS = ("startup", "liveness", "readiness")


def recalled(status: JSON, container_id: str) -> ProbeState:
    """What an earlier node agent found out about a container, as the API tells it; nothing about one it does not know.

    A node agent that starts anew goes on from there: its pods stay ready until a probe fails.
    """
    for field in ("containerStatuses", "initContainerStatuses"):
        for item in status.get(field) or ():
            if str(item.get("containerID") or "").rpartition("//")[2] == container_id:
                return ProbeState(started=item.get("started") or None, ready=item.get("ready") or None)
    return ProbeState()


class Prober:
    """Runs until ``stop``. ``tell`` is called when a verdict changed, ``event`` with a message on each failure."""

    def __init__(
        self,
        world: World,
        checks: Checks,
        spec: JSON,
        container_id: str,
        started_at: float,
        address: Callable[[], str],
        state: ProbeState,
        tell: Callable[[], None],
        event: Callable[[str], None],
    ) -> None:
        self._world, self._checks, self._spec, self._id = world, checks, spec, container_id
        self._started_at, self._address, self.state = started_at, address, state
        self._tell, self._event = tell, event
        self._tasks = Tasks(f"probes/{spec['name']}")

    @staticmethod
    def wanted(spec: JSON) -> bool:
        return any(spec.get(f"{kind}Probe") for kind in KINDS)

    def start(self) -> None:
        if self._spec.get("startupProbe") and not self.state.started:
            self._tasks.spawn(self._loop("startup"), "startup")
        else:
            self._follow()

    def _follow(self) -> None:
        for kind in ("liveness", "readiness"):
            if self._spec.get(f"{kind}Probe"):
                self._tasks.spawn(self._loop(kind), kind)

    async def stop(self) -> None:
        await self._tasks.close()

    async def _loop(self, kind: str) -> None:
        probe = self._spec[f"{kind}Probe"]
        period = float(probe.get("periodSeconds") or 10)
        timeout = float(probe.get("timeoutSeconds") or 1)
        needed = {
            True: int(probe.get("successThreshold") or 1),
            False: int(probe.get("failureThreshold") or 3),
        }
        clock = self._world.clock
        first = self._started_at + float(probe.get("initialDelaySeconds") or 0) - clock.now()
        await clock.sleep(first)
        last, count = None, 0
        while True:
            try:
                result = await self._checks.run(probe, self._spec, self._id, self._address(), timeout)
                ok, output = result.ok, result.output
            except ValueError as error:
                ok, output = False, str(error)
            count = count + 1 if ok is last else 1
            last = ok
            if not ok:
                self._event(f"{kind.capitalize()} probe failed: {output[:MESSAGE_LIMIT]}")
            if count >= needed[ok] and self._judge(kind, ok, output):
                return
            await clock.sleep(period)

    def _judge(self, kind: str, ok: bool, output: str) -> bool:
        """Note a verdict; True when this probe has nothing more to do."""
        state = self.state
        if kind == "startup":
            state.started, state.why = ok, output or "failed"
            self._tell()
            if ok:
                self._follow()
            return True
        if kind == "liveness":
            if not ok:
                state.alive, state.why = False, output
                self._tell()
                return True
            state.alive = True
            return False
        if state.ready is not ok:
            state.ready = ok
            self._tell()
        return False

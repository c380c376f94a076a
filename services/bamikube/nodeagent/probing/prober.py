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
from bamikube.nodeagent.probing.checks import Checks

MESSAGE_LIMIT = 1024  # characters of output that enter an event
TRIES = 3  # of a probe that cannot be carried out
_COUNTED = {"success": "successful", "warning": "successful", "failure": "failed", "unknown": "unknown"}
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
    """Runs until ``stop``. ``tell`` is called when a verdict changed, ``event`` with reason and message of what failed.

    ``count`` gets the kind of each probe, how it came out and the seconds it took. ``spread``: wait a random part of a period first. After a restart of the node agent all its probes begin at once,
    and that would be at once again in every period.
    """

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
        event: Callable[[str, str], None],
        *,
        spread: bool = False,
        count: Callable[[str, str, float], None] = lambda kind, result, took: None,
    ) -> None:
        self._world, self._checks, self._spec, self._id = world, checks, spec, container_id
        self._started_at, self._address, self.state = started_at, address, state
        self._tell, self._event, self._spread, self._count = tell, event, spread, count
        self._tasks = Tasks(f"probes/{spec['name']}")
        self._killers = Tasks(f"probes/{spec['name']}")  # the probes that may end the container

    @staticmethod
    def wanted(spec: JSON) -> bool:
        return any(spec.get(f"{kind}Probe") for kind in KINDS)

    def start(self) -> None:
        if self._spec.get("startupProbe") and not self.state.started:
            self._killers.spawn(self._loop("startup"), "startup")
        else:
            self._follow()

    def _follow(self) -> None:
        if self._spec.get("livenessProbe"):
            self._killers.spawn(self._loop("liveness"), "liveness")
        if self._spec.get("readinessProbe"):
            self._tasks.spawn(self._loop("readiness"), "readiness")

    async def spare(self) -> None:
        """The pod is ending: ask no more whether the container lives, only whether it is ready."""
        await self._killers.close()

    async def stop(self) -> None:
        await self._killers.close()
        await self._tasks.close()

    async def _loop(self, kind: str) -> None:
        probe = self._spec[f"{kind}Probe"]
        period = float(probe.get("periodSeconds") or 10)
        needed = {
            True: int(probe.get("successThreshold") or 1),
            False: int(probe.get("failureThreshold") or 3),
        }
        clock = self._world.clock
        first = self._started_at + float(probe.get("initialDelaySeconds") or 0) - clock.now()
        if self._spread and first < period:
            first = max(0.0, first) + self._world.chance.random() * period
        await clock.sleep(first)
        due = clock.monotonic()
        last, count = None, 0
        while True:
            ok, output = await self._ask(kind, probe)
            if ok is not None:
                count = count + 1 if ok is last else 1
                last = ok
                if count >= needed[ok] and self._judge(kind, ok, output):
                    return
            # Probes keep their beat; one that took longer than a period makes the next one follow at once.
            due = max(due + period, clock.monotonic())
            await clock.sleep(due - clock.monotonic())

    async def _ask(self, kind: str, probe: JSON) -> tuple[bool | None, str]:
        """One look: yes, no, or None where the probe could not be carried out (that says nothing about anybody)."""
        timeout = float(probe.get("timeoutSeconds") or 1)
        name = kind.capitalize()
        begun = self._world.clock.monotonic()
        for _ in range(TRIES):
            result = await self._checks.probe(probe, self._spec, self._id, self._address(), timeout)
            if result.kind != "unknown":
                break
        self._count(name, _COUNTED[result.kind], self._world.clock.monotonic() - begun)
        output = result.output[:MESSAGE_LIMIT]
        if result.kind == "unknown":
            self._event("Unhealthy", f"{name} probe errored and resulted in unknown state: {output}")
            return None, ""
        if result.kind == "warning":
            self._event("ProbeWarning", f"{name} probe warning: {output}")
        elif result.kind == "failure":
            self._event("Unhealthy", f"{name} probe failed: {output}")
        return result.ok, result.output

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

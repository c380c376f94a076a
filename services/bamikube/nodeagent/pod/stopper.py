"""Stopping one container, and the lifecycle hooks: what it is told after its start and before its end.

The words of a failed hook may hold what not everybody is to read, so events only say that it failed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from bamikube.kit.tasks import Tasks
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.decision import Action
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import SETTLE, Memory, RuntimeState, Trouble
from bamikube.nodeagent.runtime.port import RuntimeFailure

LEAST_GRACE = 1.0  # seconds a container is given at least, preStop and all
LEAST_STOP = 2.0  # seconds between the stop signal and the kill, at least, whatever preStop has left
POST_START_LIMIT = 300.0  # seconds, beyond the grace, after which a postStart has failed


class Stopper:
    """Stops the containers of one pod. ``pod`` and ``address`` are asked anew each time; ``look`` tells the state."""

    def __init__(
        self, shared: Shared, memory: Memory, pod: Callable[[], JSON], address: Callable[[], str]
    ) -> None:
        self._shared, self._memory, self._pod, self._address = shared, memory, pod, address
        self._state = RuntimeState()
        self._seen = asyncio.Event()
        self._graces: dict[str, float] = {}  # by container id: the grace of the stop that is under way

    def look(self, state: RuntimeState) -> None:
        """What the runtime reports now."""
        self._state = state
        self._seen.set()

    def hurry(self, grace: float) -> None:
        """The pod is to end within ``grace``: containers that were given longer are to be asked again, more firmly."""
        for identity, given in self._graces.items():
            if grace < given:
                self._memory.stopping.discard(identity)

    def _event(self, kind: str, reason: str, message: str, container: str) -> None:
        self._shared.api.event(self._pod(), kind, reason, message, container)

    async def post_start(self, name: str, container_id: str) -> None:
        """Run a container's postStart; where it fails the container is stopped, and starts anew by its policy."""
        spec, grace = facts.container(self._pod(), name) or {}, facts.grace(self._pod())
        handler = spec["lifecycle"]["postStart"]
        try:
            fault = await self._hook(handler, spec, container_id, grace + POST_START_LIMIT)
            if fault:
                await self._start_failed(name, container_id, grace, fault)
        finally:  # only now: a container whose postStart failed never counts as running
            self._memory.hooking.discard(container_id)

    async def _start_failed(self, name: str, container_id: str, grace: float, fault: str) -> None:
        now = self._shared.world.clock.now()
        self._memory.troubles[name] = Trouble("PostStartHookError", fault, now, settles=now + SETTLE)
        self._event("Warning", "FailedPostStartHook", "PostStartHook failed", name)
        self._memory.stopping.add(container_id)
        text = "FailedPostStartHook"
        await self.stop(
            Action("StopContainer", name, container_id, grace=grace, reason="Killing", message=text)
        )

    async def _hook(self, handler: JSON, spec: JSON, container_id: str, timeout: float) -> str:
        """Run a lifecycle hook; how it failed, or ""."""
        result = await self._shared.checks.hook(handler, spec, container_id, self._address(), timeout)
        if result.ok:
            return ""
        if "exec" in handler:
            what = f"Exec lifecycle hook ([{' '.join(handler['exec'].get('command') or ())}])"
        else:
            what = f"HTTP lifecycle hook ({(handler.get('httpGet') or {}).get('path') or ''})"
        pod = facts.full_name(self._pod())
        return f'{what} for Container "{spec["name"]}" in Pod "{pod}" failed - error: {result.output}'

    async def stop(self, action: Action) -> None:
        """preStop, then this container's turn, then the stop signal, all within the grace."""
        clock = self._shared.world.clock
        self._graces[action.id] = action.grace
        spec = facts.container(self._pod(), action.name) or {}
        self._event("Normal", action.reason, action.message, action.name)
        deadline = clock.monotonic() + max(LEAST_GRACE, action.grace)
        handler = (spec.get("lifecycle") or {}).get("preStop")
        try:
            if handler:
                await self._pre_stop(handler, spec, action, deadline)
            await self._turn(action.after, deadline)
            left = max(LEAST_STOP, deadline - clock.monotonic())
            await self._shared.runtime.stop_container(action.id, left)
        except RuntimeFailure as failure:
            if failure.code != "NOT_FOUND":
                self._failed("KillContainer", action.name, failure)
                raise
        finally:
            if self._graces.get(action.id) == action.grace:
                self._graces.pop(action.id, None)
                self._memory.stopping.discard(action.id)

    async def stop_sandbox(self, identity: str) -> None:
        try:
            await self._shared.runtime.stop_sandbox(identity)
        except RuntimeFailure as failure:
            self._failed("KillPodSandbox", facts.uid(self._pod()), failure)
            raise
        self._memory.emptied.add(identity)

    def _failed(self, what: str, whom: str, failure: RuntimeFailure) -> None:
        text = f'error killing pod: failed to "{what}" for "{whom}" with {what}Error: "{failure.in_go()}"'
        self._event("Warning", "FailedKillPod", text, "")

    async def _pre_stop(self, handler: JSON, spec: JSON, action: Action, deadline: float) -> None:
        """Run preStop until it is done, the grace is over, or the container has ended by itself."""
        left = deadline - self._shared.world.clock.monotonic()
        tasks = Tasks(f"preStop/{action.name}")
        try:
            hook = tasks.spawn(self._hook(handler, spec, action.id, left + 1.0))
            over = tasks.spawn(self._turn((action.id,), deadline))
            done, _ = await asyncio.wait({hook, over}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if hook in done and hook.result():
                self._event("Warning", "FailedPreStopHook", "PreStopHook failed", action.name)
        finally:
            await tasks.close()

    async def _turn(self, after: tuple[str, ...], deadline: float) -> None:
        """Wait until the containers of these ids have ended, or the deadline (of the monotonic clock) has come."""
        clock = self._shared.world.clock
        while any(c.id in after and c.state == "running" for c in self._state.containers):
            left = deadline - clock.monotonic()
            if left <= 0:
                return
            self._seen.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._seen.wait()

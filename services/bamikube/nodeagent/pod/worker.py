"""One pod's worker: look, plan, publish, act; then wait to be woken.

The worker is woken by a change of the pod, by an event of the runtime, by a probe, by an action that has ended, or by
the time its plan named. It never blocks on work: starts run in one lane, in order, beside it; each stop is a task of
its own. So a deletion interrupts a slow image pull, and a pod with a long preStop still reports its status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.kit.tasks import Tasks
from bamikube.nodeagent import labels
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.announcing import Announcer
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.decision import Action
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.plan import plan
from bamikube.nodeagent.pod.publisher import Publisher
from bamikube.nodeagent.pod.recalling import recalled
from bamikube.nodeagent.pod.resizer import PodResize
from bamikube.nodeagent.pod.settling import pause, unsettled
from bamikube.nodeagent.pod.starter import Starter
from bamikube.nodeagent.pod.state import Memory, Rejection, RuntimeState
from bamikube.nodeagent.pod.stopper import Stopper
from bamikube.nodeagent.pod.tending import ProbeTender
from bamikube.nodeagent.pod.timing import StartTiming
from bamikube.nodeagent.runtime.port import Container, RuntimeFailure, Sandbox

log = logging.getLogger(__name__)

SHOWN = ("labels", "annotations", "generation")  # of a pod's metadata: volumes and variables show these
PACE = 0.5  # seconds, at least, between two times that changes are written into volumes
RETRY = 1.0  # seconds until the runtime is asked again after it failed


class PodWorker:
    """Drives one pod from its first sight to its end. ``finished`` is called when nothing is left of it."""

    def __init__(self, shared: Shared, pod: JSON, finished: Callable[[str], None]) -> None:
        self.pod = pod
        self.uid = facts.uid(pod)
        self.memory = Memory()
        self.state = RuntimeState()
        self.status: JSON = dict(pod.get("status") or {})
        self.verdict = ""
        self._shared = shared
        self._finished = finished
        self._tasks = Tasks(f"pod/{pod['metadata'].get('namespace')}/{pod['metadata']['name']}")
        self._timing = StartTiming(shared.world.clock.now())
        self._starter = Starter(shared, self.memory, self._timing.pulled)
        self._stopper = Stopper(shared, self.memory, lambda: self.pod, self._address)
        self._tender = ProbeTender(shared, self.memory, lambda: self.pod, self._address, self.wake)
        self.probed, self.probes_took = self._tender.probed, self._tender.took
        self._announcer = Announcer(shared)
        self.resize = PodResize(shared, self.memory, lambda: self.pod, self.wake)
        self._publisher = Publisher(shared, lambda: self.pod)
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._lane: asyncio.Task[Any] | None = None
        self._busy: set[str] = set()
        self._ends = 0  # how often work beside the worker has ended
        self._ended: dict[str, Container] = {}
        self._addresses: dict[str, Sandbox] = {}
        self._refreshed = 0.0
        self._stale = False  # what volumes show has changed since they were last written
        self._exits: dict[str, int] = {}  # ids that have ended, and how often that was looked for
        self.decided = False  # ``status`` is a decision of this worker, and not what was found
        self.absent = False  # the API knows the pod no more
        self._gone = False  # everything is done; nothing wakes this worker any more

    # -- what others tell it -----------------------------------------------------------------------------------

    def update(self, pod: JSON) -> None:
        """The pod changed in the API."""
        ending = facts.deleted(pod) and not facts.deleted(self.pod)
        before = {c["name"]: c.get("image") for c in facts.all_containers(self.pod)}
        for spec in facts.all_containers(pod):
            if before.get(spec["name"]) != spec.get("image"):
                self.memory.another_image(spec["name"])
        shown = [self.pod["metadata"].get(part) != pod["metadata"].get(part) for part in SHOWN]
        self.pod = pod
        if any(shown):
            self.referred()
        if ending:
            self._abandon()
        if facts.deleted(pod):
            self._stopper.hurry(facts.grace(pod))
        self._publisher.observe(pod)
        self.wake()

    def put_out(self, why: Rejection) -> None:
        """The node ends the pod: it stops within the grace given, fails for that reason, and is not started again."""
        if self.memory.rejected is not None:
            return
        self.memory.rejected = why
        self._abandon()
        if why.grace is not None:
            self._stopper.hurry(why.grace)
        self.wake()

    def forget_dead(self) -> None:
        """The disk is short: keep no container of the pod that has ended."""
        self.memory.keep_dead = False
        self.wake()

    def removed(self) -> None:
        """The pod is gone from the API: end it as if it had been deleted."""
        self.absent = True
        meta = dict(self.pod["metadata"])
        if not meta.get("deletionTimestamp"):
            meta["deletionTimestamp"] = "1970-01-01T00:00:00Z"
        self._publisher.close()
        self.update(self.pod | {"metadata": meta})

    def referred(self) -> None:
        """Something that the pod's volumes and variables show has changed."""
        self.memory.hopeful()
        self._stale = True
        self.wake()

    def recall(self, told: JSON) -> None:
        """An earlier node agent told this of the pod."""
        status = recalled(self.status, told)
        if status is not self.status:
            self.status, self.decided = status, False
            self.wake()

    def wake(self) -> None:
        self._wake.set()

    def exited(self, identity: str) -> None:
        """The runtime's event stream says that this container or sandbox has ended.

        CRI hears of it by the same stream and may still report it as running, or even as not yet started, for some
        milliseconds (seconds, on a busy node), so the worker looks again until both agree.
        """
        self._exits[identity] = 0
        self.wake()

    def spawn(self) -> None:
        """Begin to work."""
        self.memory.logged = self._shared.host.logged(self.pod)
        self._tasks.spawn(self.run(), "worker")
        self._tasks.spawn(self._publisher.run(), "status")
        self.wake()

    async def close(self) -> None:
        """Stop working; containers stay as they are."""
        if self._timer is not None:
            self._timer.cancel()
        await self._tender.close()
        await self._tasks.close()

    # -- the loop ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._gone:
                return
            try:
                await self.step()
            except RuntimeFailure as failure:
                log.warning("pod %s: the runtime failed: %s", facts.full_name(self.pod), failure)
                self._wake_at(self._shared.world.clock.now() + RETRY)
            except Exception:
                # A pod that cannot be decided about must not be forgotten: say it, and look again later.
                log.exception("pod %s: the worker failed", facts.full_name(self.pod))
                self._wake_at(self._shared.world.clock.now() + RETRY * 10)

    async def step(self) -> None:
        """One round: observe, plan, publish, act."""
        clock = self._shared.world.clock
        begun, before = clock.monotonic(), self.status
        await self._look()
        looked = clock.monotonic()
        self.resize.look(self.state)
        now = self._shared.world.clock.now()
        pod = self.resize.promised() | {"status": self._publisher.known(self.status)}
        decision = plan(pod, self.state, self.memory, now, self._shared.addresses)
        self.verdict = decision.verdict
        self.status, self.decided = decision.status, True
        self._publisher.offer(decision.status)
        if decision.ending:
            self._abandon()
        self._announcer.tell(self.pod, self.status, decision.ending)
        self._act(decision.actions)
        self._timing.stepped(self.pod, before, decision.status, now, clock.monotonic() - begun)
        refresh = self._refreshed + (PACE if self._stale else self._shared.refresh)
        if self.memory.volumes_ready and not self.memory.cleaned:
            if now >= refresh and "refresh" not in self._busy and self._settled():
                self._stale, self._refreshed, refresh = False, now, now + self._shared.refresh
                self._spawn("refresh", self._starter.refresh(self.resize.promised(), self._ips()))
            if refresh > now:  # else it waits for what is under way, whose end wakes us
                decision.wake_at = min(refresh, decision.wake_at or refresh)
        self._exits = unsettled(self._exits, self.state)
        if self._exits:
            again = now + pause(self._exits, looked - begun)
            decision.wake_at = min(again, decision.wake_at or again)
        self._wake_at(decision.wake_at)

    async def _look(self) -> None:
        """See how things stand, all at one time: a look that the end of some work has overtaken shows a container as
        it was before, and nobody at work on it any more."""
        ends = -1
        while ends != self._ends:
            ends = self._ends
            self.state = await self._observe()
            self._stopper.look(self.state)
            await self._tender.tend(self.state)

    def _settled(self) -> bool:
        """Whether the volumes are there to stay for a while."""
        return not self.memory.starting and self.state.sandbox() is not None and not facts.deleted(self.pod)

    def _wake_at(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            delay = max(0.01, at - self._shared.world.clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self.wake)

    async def _observe(self) -> RuntimeState:
        runtime = self._shared.runtime
        sandboxes, listed = await asyncio.gather(
            runtime.list_sandboxes(self.uid), runtime.list_containers(self.uid)
        )
        newest = max(sandboxes, key=lambda s: (s.attempt, s.created_at), default=None)
        full: list[Sandbox] = []
        for sandbox in sandboxes:
            if sandbox is newest and sandbox.ready:
                known = self._addresses.get(sandbox.id)
                if known is None:
                    known = await runtime.sandbox_status(sandbox.id)
                    if known.ips or facts.host_network(self.pod):
                        self._addresses[sandbox.id] = known
                sandbox = replace(sandbox, ips=known.ips)
            full.append(sandbox)
        containers = []
        for item in listed:
            seen = self._ended.get(item.id)
            if seen is None:
                try:
                    seen = await runtime.container_status(item.id)
                except RuntimeFailure as failure:
                    if failure.code == "NOT_FOUND":
                        continue
                    raise
                seen = replace(seen, sandbox_id=item.sandbox_id)
                if seen.state == "exited":
                    self._remember_end(seen)
            containers.append(seen)
        return RuntimeState(tuple(full), tuple(containers))

    def _remember_end(self, container: Container) -> None:
        self._ended[container.id] = container
        if container.reason == "StartError":
            return  # the runtime's own message says more
        policy = container.annotations.get(labels.TERMINATION_POLICY, "File")
        text = self._shared.host.termination_message(
            self.pod, container.name, container.attempt, container.log_path, policy, container.exit_code != 0
        )
        if text:
            self.memory.messages[container.id] = text

    def _ips(self) -> tuple[str, ...]:
        if facts.host_network(self.pod):
            return self._shared.addresses.ips
        sandbox = self.state.sandbox()
        return sandbox.ips if sandbox is not None else ()

    def _address(self) -> str:
        ips = self._ips()
        return ips[0] if ips else "127.0.0.1"

    # -- actions -----------------------------------------------------------------------------------------------

    def _spawn(self, key: str, work: Coroutine[Any, Any, Any]) -> bool:
        """Run ``work`` beside the worker, once at a time per key, and wake the worker when it has ended.

        False when work of that key is still under way (or waits after it has failed).
        """
        if key in self._busy:
            work.close()
            return False
        self._busy.add(key)

        async def doing() -> None:
            try:
                await work
            except RuntimeFailure as failure:
                log.warning("pod %s: %s failed: %s", facts.full_name(self.pod), key, failure)
                await self._shared.world.clock.sleep(RETRY)
            except (HostFailure, OSError) as failure:
                log.warning("pod %s: %s failed: %s", facts.full_name(self.pod), key, failure)
                await self._shared.world.clock.sleep(RETRY * 5)
            except Exception:
                # What nobody has foreseen must not be tried again without a pause.
                log.exception("pod %s: %s failed", facts.full_name(self.pod), key)
                await self._shared.world.clock.sleep(RETRY * 10)
            finally:
                self._busy.discard(key)
                self._ends += 1
                self.wake()

        self._tasks.spawn(doing(), key)
        return True

    def _act(self, actions: list[Action]) -> None:
        starts = [a for a in actions if a.kind in ("MountVolumes", "CreateSandbox", "StartContainer")]
        if starts and (self._lane is None or self._lane.done()):
            self.memory.starting = True
            self._lane = self._tasks.spawn(self._start(starts), "start")
            # Not left to what runs in the lane: one that is called off before its first step runs nothing at all.
            self._lane.add_done_callback(self._started)
        for action in actions:
            if action.kind == "StopContainer":
                if self._spawn(f"stop/{action.id}/{action.grace:g}", self._stopper.stop(action)):
                    self.memory.stopping.add(action.id)
                if action.again:
                    self.memory.renewed.add(action.id)
            elif action.kind == "ResizeContainer":
                self._spawn(f"resize/{action.id}", self.resize.carry_out(action))
            elif action.kind == "StopSandbox":
                self._spawn(f"stop/{action.id}", self._stopper.stop_sandbox(action.id))
            elif action.kind == "RemoveContainer":
                self._spawn(f"remove/{action.id}", self._remove(action.id))
            elif action.kind == "RemoveSandbox":
                self._spawn(f"remove/{action.id}", self._shared.runtime.remove_sandbox(action.id))
            elif action.kind == "Cleanup":
                self._spawn("cleanup", self._cleanup())
            elif action.kind == "DeletePod":
                self._spawn("delete", self._delete())

    def _abandon(self) -> None:
        """Start nothing more. Said once: work that must not be cut off would not bear to hear it again."""
        if self._lane is not None and not self._lane.done() and not self._lane.cancelling():
            self._lane.cancel()

    def _started(self, _lane: asyncio.Task[Any]) -> None:
        self.memory.starting = False
        self.memory.hooking.clear()
        self._ends += 1
        self.wake()

    async def _start(self, actions: list[Action]) -> None:
        """The start lane: one thing after the other; a failed volume or sandbox ends it, a failed container not."""
        try:
            for action in actions:
                if action.kind == "MountVolumes":
                    self._stale = False
                    if not await self._starter.mount(self.resize.promised(), self._ips()):
                        return
                    self._refreshed = self._shared.world.clock.now()
                elif action.kind == "CreateSandbox":
                    if not await self._starter.create_sandbox(self.resize.promised(), action):
                        return
                elif sandbox := self.state.sandbox():
                    pod = self.resize.promised()
                    container_id = await self._starter.start(pod, action, sandbox, self.state)
                    if container_id in self.memory.hooking:
                        self.wake()
                        await self._stopper.post_start(action.name, str(container_id))
        except RuntimeFailure as failure:
            log.warning("pod %s: %s", facts.full_name(self.pod), failure)

    async def _remove(self, container_id: str) -> None:
        container = next((c for c in self.state.containers if c.id == container_id), None)
        await self._shared.runtime.remove_container(container_id)
        if container is not None:
            self._shared.host.remove_log(self.pod, container.name, container.attempt, container_id)
        for book in (self._ended, self.memory.messages, self.memory.given):
            book.pop(container_id, None)

    async def _cleanup(self) -> None:
        await self._shared.host.cleanup(self.uid)
        if any("image" in volume for volume in self.pod["spec"].get("volumes") or ()):
            await self._shared.runtime.release_trees(self.uid)
        self.memory.cleaned = True
        self.memory.volumes_ready = False

    async def _delete(self) -> None:
        """The last words: final status, the API object, then the runtime's leftovers."""
        await self._publisher.flush()
        try:
            await self._shared.api.delete(self.pod)
        except ApiError as error:
            log.warning("cannot delete pod %s yet: %s", facts.full_name(self.pod), error)
            await self._shared.world.clock.sleep(RETRY)
            return
        self._gone = True
        with contextlib.suppress(RuntimeFailure):
            for container in await self._shared.runtime.list_containers(self.uid):
                await self._shared.runtime.remove_container(container.id)
            for sandbox in await self._shared.runtime.list_sandboxes(self.uid):
                await self._shared.runtime.remove_sandbox(sandbox.id)
        self._shared.host.remove_logs(self.uid)
        self._finished(self.uid)

"""In-place resize, carried out: who gets what of the node, and a container's new limits at the runtime.

All pods' wishes are judged together and at once, in the order of :func:`resizing.urgency`; who has to wait is judged
again whenever a pod has left, changed or ended, and with every listing of the runtime.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from bamikube.api.qos import qos_class
from bamikube.nodeagent import figures
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.pod import facts, qos, resizing
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.decision import Action
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.placing import placed
from bamikube.nodeagent.pod.state import Memory, PendingResize, Promise, ResizeUnderWay, RuntimeState
from bamikube.nodeagent.runtime.port import RuntimeFailure

log = logging.getLogger(__name__)

RETRY = 10.0  # seconds until the runtime is asked again for what it has refused


class Resized(Protocol):
    """A pod that may want other resources: its worker."""

    resize: PodResize
    status: JSON
    absent: bool  # the API knows it no more


class PodResize:
    """The resizes of one pod. ``pod`` is asked anew each time."""

    def __init__(
        self, shared: Shared, memory: Memory, pod: Callable[[], JSON], wake: Callable[[], None]
    ) -> None:
        self._shared, self._memory, self._pod, self._wake = shared, memory, pod, wake
        self._running: dict[str, str] = {}  # ids of containers by name
        self._sandbox = ""  # its id
        self._under_way: set[str] = (
            set()
        )  # ids of containers that are being changed; what they have is not known meanwhile
        self._last: tuple[JSON, Promise, JSON] | None = (
            None  # a pod, what it was promised, and the two as one
        )
        memory.promise, memory.given = resizing.recalled(pod())

    def promised(self) -> JSON:
        """The pod as it was promised."""
        pod, promise = self._pod(), self._memory.promise
        last = (
            self._last
        )  # every pod that comes asks this of all others; neither of the two is ever changed in place
        if last is None or last[0] is not pod or last[1] is not promise:
            last = self._last = (pod, promise, resizing.promised(pod, promise))
        return last[2]

    def pending(self) -> bool:
        return self._memory.resize is not None or self.promised() is not self._pod()

    def urgency(self) -> tuple[bool, int, int, float]:
        waiting, pod = self._memory.resize, self._pod()
        since = waiting.since if waiting is not None else 0.0
        return resizing.urgency(pod, self._memory.promise, since, qos_class(pod["spec"]))

    def judge(self, others: list[JSON], trigger: str) -> None:
        """Grant what the pod wants, or note why not. ``trigger``: what gave rise to it, in the words of the metrics."""
        pod, memory = self._pod(), self._memory
        shared = self._shared
        verdict = resizing.judge(
            pod, memory.promise, others, shared.allocatable(), shared.fixed, shared.node.kernel
        )
        generation = int(pod["metadata"].get("generation") or 0)
        if verdict.kind in ("Deferred", "Infeasible"):
            before = memory.resize
            since = before.since if before is not None else self._shared.world.clock.now()
            memory.resize = PendingResize(verdict.kind, verdict.message, generation, since)
            if before is None or (before.reason, before.message, before.generation) != (
                verdict.kind,
                verdict.message,
                generation,
            ):
                text = f"Pod resize {verdict.kind}: {resizing.told(pod, generation, verdict.message)}"
                self._event("Warning", f"Resize{verdict.kind}", text)
                if verdict.detail:
                    figures.RESIZES_INFEASIBLE.labels(verdict.detail).inc()
        else:
            waited, memory.resize = memory.resize, None
            if verdict.kind == "Granted" and waited is not None and waited.reason == "Deferred":
                figures.RESIZES_ACCEPTED.labels(trigger).inc()
        if verdict.kind == "Granted":
            memory.promise = resizing.wanted(pod)
            memory.resizing = ResizeUnderWay(generation)
            self._event("Normal", "ResizeStarted", f"Pod resize started: {resizing.told(pod, generation)}")
        self._wake()

    def _event(self, kind: str, reason: str, text: str) -> None:
        self._shared.api.event(self._pod(), kind, reason, text)

    def look(self, state: RuntimeState) -> None:
        """Note the end of a resize: everything that runs has what it was promised."""
        memory = self._memory
        self._running = {c.name: c.id for c in state.running()}
        sandbox = state.sandbox()
        self._sandbox = sandbox.id if sandbox is not None else ""
        known = {c.id for c in state.containers}
        memory.renewed &= known
        for name in {c.name for c in state.containers}:
            memory.renewed -= {c.id for c in state.history(name)[1:]}
        pod = self.promised()
        for (
            container
        ) in state.running():  # of one that was found, what it has been given is taken to be right
            spec = facts.container(pod, container.name)
            if container.id not in memory.given and spec is not None:
                memory.given[container.id] = dict(spec.get("resources") or {})
        done = not self._under_way and not resizing.unfinished(pod, state, memory)
        if memory.resizing is not None and done:
            generation, memory.resizing = memory.resizing.generation, None
            self._event(
                "Normal", "ResizeCompleted", f"Pod resize completed: {resizing.told(pod, generation)}"
            )

    async def carry_out(self, action: Action) -> None:
        """Tell the kernel what a pod and one of its containers may use now."""
        pod, memory = self.promised(), self._memory
        spec = facts.container(pod, action.name) or {}
        resources = dict(spec.get("resources") or {})
        generation = int(pod["metadata"].get("generation") or 0)
        memory.resizing = memory.resizing or ResizeUnderWay(generation)
        host, node, clock = self._shared.host, self._shared.node, self._shared.world.clock
        begun, done = clock.monotonic(), "false"
        self._under_way.add(action.id)
        try:
            self._check(pod)
            await host.prepare(resizing.widest(pod, self._given()))
            values = qos.container_resources(pod, spec, node.kernel)
            values = placed(values, self._shared.place(facts.uid(pod), action.name))
            await self._shared.runtime.update_container(action.id, values)
            await host.prepare(resizing.widest(pod, self._given() | {action.name: resources}))
            await self._tell_sandbox(pod)
            memory.given[action.id], done = resources, "true"
        except (RuntimeFailure, HostFailure, OSError) as error:
            text = error.in_go() if isinstance(error, RuntimeFailure) else str(error)
            generation = memory.resizing.generation
            until = self._shared.world.clock.now() + RETRY
            if memory.resizing.fault != text:
                words = resizing.told(pod, generation, text)
                self._event("Warning", "ResizeError", f"Pod resize error: {words}")
            memory.resizing = ResizeUnderWay(generation, text, until)
            return
        finally:
            self._under_way.discard(action.id)
            figures.RESIZE_MILLISECONDS.labels(done).observe((clock.monotonic() - begun) * 1000)
        memory.resizing = ResizeUnderWay(memory.resizing.generation)

    async def _tell_sandbox(self, pod: JSON) -> None:
        """Best effort: the limits hold already."""
        spec = {key: value for key, value in pod["spec"].items() if key != "overhead"}
        kernel = self._shared.node.kernel
        together, own = qos.pod_cgroup({"spec": spec}, kernel.period), qos.overhead(pod, kernel)
        try:
            await self._shared.runtime.update_sandbox(self._sandbox, together, own)
        except RuntimeFailure as failure:
            log.info("updating pod sandbox resources failed: %s", failure)

    def _given(self) -> Promise:
        """What the containers have that run, by name."""
        return {name: self._memory.given.get(identity) or {} for name, identity in self._running.items()}

    def _check(self, pod: JSON) -> None:
        """Raise HostFailure where more memory is in use than there is to be."""
        running = {n: i for n, i in self._running.items() if i not in self._memory.renewed}
        given = {name: self._memory.given.get(identity) or {} for name, identity in running.items()}
        host = self._shared.host
        fault = resizing.too_small(
            pod, given, lambda name: host.memory_used(pod, running[name] if name else "")
        )
        if fault:
            raise HostFailure(fault)


def holds(worker: Resized) -> bool:
    """Whether a pod has a place on the node. One that was deleted by force has none, though its containers may still be ending."""
    return not worker.absent and not facts.terminal({"status": worker.status})


def asked(old: JSON, new: JSON) -> None:
    """Count what a changed pod wants otherwise than before."""
    for labels in resizing.requested(old, new):
        figures.RESIZES_REQUESTED.labels(*labels).inc()


def judge_all(workers: Iterable[Resized], trigger: str = "periodic_retry") -> None:
    """Judge what all pods of a node want, one after the other; each grant leaves less for the next."""
    alive = [worker for worker in workers if holds(worker)]
    waiting = [worker for worker in alive if worker.resize.pending()]
    for worker in sorted(waiting, key=lambda w: w.resize.urgency()):
        worker.resize.judge([other.resize.promised() for other in alive if other is not worker], trigger)

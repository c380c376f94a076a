"""All pods of one node: a worker for each, the runtime's events, and what nobody owns any more.

Events say within milliseconds that a container ended; a relist every few seconds is the net below them. What the
relist finds in the runtime without a pod in the API is an orphan (the pod was deleted while the node agent was away)
and is ended, but never before the pod informer has synced and the node's own manifests were read.

Static pods, which manifests on the node describe, have workers like all others, but need no API server: they begin
at once. Their mirrors in the API are nobody's work here (``sources/mirrors.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.client.informer import Informer
from bamikube.kit.tasks import Tasks
from bamikube.nodeagent import durations, figures
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.pod import facts, gate, preemption
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.gate import Gate, Verdict
from bamikube.nodeagent.pod.resizer import asked, holds, judge_all
from bamikube.nodeagent.pod.state import Rejection
from bamikube.nodeagent.pod.worker import PodWorker
from bamikube.nodeagent.referenced import Referenced
from bamikube.nodeagent.runtime.port import RuntimeEvent, RuntimeFailure
from bamikube.nodeagent.sources.mirrors import StaticApi

log = logging.getLogger(__name__)

RELIST = 15.0  # seconds
UNHEARD = 180.0  # seconds without a relist after which the node is not ready
STUCK = 300.0  # seconds without one after which the node agent says that it is not well
RECONNECT = 1.0  # seconds until the event stream is opened again
ORPHAN_GRACE = 5.0  # seconds
MAKING_ROOM = 10.0  # seconds that pods are given at least to make room for a critical one
POLL = 0.05  # seconds between two looks whether they have


class PodAgent:
    """The workers of one node. ``run`` needs the informer to be run by its owner."""

    def __init__(self, shared: Shared, pods: Informer, referenced: Referenced, gate: Gate) -> None:
        self.workers: dict[str, PodWorker] = {}
        self._shared = shared
        self._pods = pods
        self._referenced = referenced
        referenced.tell = self._referred
        self._gate = gate
        self._owner: dict[str, str] = {}  # container and sandbox ids -> pod uid
        self._states: dict[str, str] = {}  # ids -> state, as of the last relist
        self._tasks = Tasks("pods")
        self._clearing: set[str] = set()
        self.relisted = 0.0  # when the runtime last answered, in seconds since the epoch
        self._asked = 0.0  # the same on the clock that never jumps
        self.mirrored: Callable[[], None] = lambda: None  # told that a mirror, or what it shows, is different
        self.manifests_read = True  # False while nobody knows which static pods there are
        self._joined = False  # the pods of the API that were taken in before are known
        self._manifests: dict[str, JSON] = {}  # by uid: the static pods there are to be
        self._static: set[str] = set()  # the uids of workers that came from manifests
        self._again: set[str] = (
            set()
        )  # of those that have ended here: what comes of the same manifest is another pod
        api = StaticApi(shared.api, self._status, lambda: self.mirrored())
        self._shared_static = replace(shared, api=api)
        self._since: float | None = None  # when it was to be asked first
        pods.on_change(self._changed)

    # -- the API's side ----------------------------------------------------------------------------------------

    def _changed(self, _key: str, old: JSON | None, new: JSON | None) -> None:
        if any(pod is not None and facts.mirror(pod) for pod in (old, new)):
            self._recall(new)
            self.mirrored()
        old = None if old is not None and facts.mirror(old) else old
        new = None if new is not None and facts.mirror(new) else new
        if old is not None and (new is None or facts.uid(new) != facts.uid(old)):
            worker = self.workers.get(facts.uid(old))
            if worker is not None:
                worker.removed()
                judge_all(self.workers.values(), "pods_removed")
        if new is None or not self._pods.synced.is_set():
            return  # what the first list says is looked at as a whole
        worker = self.workers.get(facts.uid(new))
        if worker is not None:
            self._refer(new)
            before = worker.pod
            worker.update(new)
            if new["metadata"].get("generation") != before["metadata"].get("generation"):
                asked(before, new)
                judge_all(self.workers.values(), "pod_updated")
        else:
            self._begin(new)

    def _begin_all(self) -> None:
        """Begin with the pods of the first list: those that were taken in before hold their places, then the oldest."""
        pods = [p for p in self._pods.items() if facts.uid(p) not in self.workers and not facts.mirror(p)]
        pods.sort(key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""))
        for pod in pods:
            if facts.start_time(pod) is not None:
                self._begin(pod)
        self._joined = True
        for pod in pods:
            if facts.start_time(pod) is None:
                self._begin(pod)

    def keep(self, pods: Sequence[JSON], whole: bool = True) -> None:
        """The static pods there are to be: those that are not among them end, new ones begin. Not ``whole``: there may be
        more, of which nobody knows yet."""
        self._manifests = {facts.uid(pod): pod for pod in pods}
        for uid in self._static - self._manifests.keys():
            if not self.workers[uid].absent:
                self.workers[uid].removed()
        self.manifests_read = self.manifests_read or whole
        self._begin_static()

    def _begin_static(self) -> None:
        """Begin what nobody stands in the way of: the pod of an older manifest ends before the new one's begins."""
        for uid, pod in self._manifests.items():
            meta = pod["metadata"]
            if uid not in self.workers and self.worker(meta["namespace"], meta["name"]) is None:
                self._static.add(uid)
                self._begin(pod)
        self.mirrored()

    def _recall(self, mirror: JSON | None) -> None:
        """A mirror that is older than this node agent remembers since when its pod is as it is."""
        worker = self.workers.get(
            str((mirror or {}).get("metadata", {}).get("annotations", {}).get(facts.MIRROR))
        )
        if mirror is not None and worker is not None and worker.uid in self._static - self._again:
            worker.recall(mirror.get("status") or {})

    @property
    def whole(self) -> bool:
        """Whether every pod that holds a place here is known. Until then nothing is taken from those that are not."""
        return self._joined and self.manifests_read

    def static_pods(self) -> dict[str, tuple[JSON, JSON]]:
        """The pods that are to have a mirror, those that are ending among them, and their status (empty: not known yet),
        by namespace and name."""
        workers = [self.workers[uid] for uid in self._static]
        return {
            f"{w.pod['metadata']['namespace']}/{w.pod['metadata']['name']}": (
                w.pod,
                w.status if w.decided else {},
            )
            for w in workers
        }

    def mirrors(self) -> int:
        """How many mirrors the API has, also of static pods that are ending."""
        return sum(facts.mirror(pod) for pod in self._pods.items())

    def _status(self, uid: str) -> JSON:
        return self.workers[uid].status if uid in self.workers else {}

    def uids(self, worker: PodWorker) -> set[str]:
        """The uids under which others may know a worker's pod: a static pod also has its mirror's."""
        meta = worker.pod["metadata"]
        mirror = self._pods.get(f"{meta['namespace']}/{meta['name']}") if worker.uid in self._static else None
        return {worker.uid} | ({facts.uid(mirror)} if mirror is not None else set())

    def _begin(self, pod: JSON) -> None:
        static = facts.uid(pod) in self._static
        worker = PodWorker(self._shared_static if static else self._shared, pod, self._finished)
        arriving = facts.start_time(pod) is None and not facts.deleted(pod) and not facts.terminal(pod)
        verdict = self._gate.judge(pod, self._others(worker)) if arriving else gate.TAKEN
        self.workers[worker.uid] = worker
        if static:
            self._recall(self._pods.get(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"))
        self._refer(pod)
        if verdict.doubt:
            self._tasks.spawn(self._judge_again(worker, verdict), f"gate/{worker.uid}")
        elif arriving:
            self._settle(worker, verdict)
        else:  # it was taken in before, and has what it was given
            worker.spawn()
        judge_all(self.workers.values(), "pods_added")

    def _others(self, worker: PodWorker) -> list[JSON]:
        """The pods that have a place on the node, as they were promised it, but for one."""
        return [w.resize.promised() for w in self.workers.values() if w is not worker and holds(w)]

    async def _judge_again(self, worker: PodWorker, verdict: Verdict) -> None:
        """What is known of the node may be too old: ask for it."""
        try:
            node = await self._gate.fresh()
            verdict = self._gate.judge(worker.pod, self._others(worker), node)
        except (ApiError, OSError) as error:
            log.warning("cannot ask for the node's labels: %s", error)
        self._settle(worker, verdict)

    def _settle(self, worker: PodWorker, verdict: Verdict) -> None:
        """Let a pod begin that was judged, at once or when it has room and devices, or tell that it was refused."""
        if verdict.refusal is not None:
            self._refuse(worker, verdict.refusal)
            worker.spawn()
        elif verdict.victims or self._gate.devices.wanted(worker.pod):
            self._tasks.spawn(self._provide(worker, verdict), f"room/{worker.uid}")
        else:
            worker.spawn()

    def _refuse(self, worker: PodWorker, refusal: tuple[str, str]) -> None:
        reason, message = refusal
        worker.memory.rejected = Rejection(reason, f"Pod was rejected: {message}")
        self._shared.api.event(worker.pod, "Warning", reason, message)
        gate.count(reason)

    async def _provide(self, worker: PodWorker, verdict: Verdict) -> None:
        """Make room for a pod and give it its devices; then it may begin."""
        gone = {facts.uid(pod) for pod in verdict.victims}
        await self._make_room(worker, [w for uid, w in self.workers.items() if uid in gone], verdict.short)
        try:
            refusal = await self._gate.devices.allocate(worker.pod)
        except Exception:  # a pod that nobody has judged would wait for ever
            log.exception("pod %s: cannot give it its devices", facts.full_name(worker.pod))
            text = "Allocate failed due to a fault of the node agent, which is unexpected"
            refusal = (gate.UNEXPECTED, text)
        if refusal is not None:
            self._refuse(worker, refusal)
        worker.spawn()

    async def _make_room(self, worker: PodWorker, victims: list[PodWorker], short: str) -> None:
        """End ``victims`` and wait until they have ended."""
        clock = self._shared.world.clock
        for victim in victims:
            log.info("pod %s makes room for %s", facts.full_name(victim.pod), facts.full_name(worker.pod))
            self._shared.api.event(victim.pod, "Warning", preemption.REASON, preemption.MESSAGE)
            victim.put_out(preemption.REJECTION)
            figures.PREEMPTIONS.of(short).inc()
        until = clock.monotonic() + max([MAKING_ROOM, *(1.5 * facts.grace(v.pod) for v in victims)])
        while any(holds(victim) and facts.uid(victim.pod) in self.workers for victim in victims):
            if clock.monotonic() >= until:
                log.warning("pod %s begins before all that were to make room for it have ended", worker.uid)
                return
            await clock.sleep(POLL)

    def _refer(self, pod: JSON) -> None:
        """Watch what the pod refers to for as long as it may run."""
        if facts.terminal(pod):
            self._referenced.release(facts.uid(pod))
        else:
            self._referenced.hold(pod)

    def _referred(self, uids: set[str]) -> None:
        for uid in uids:
            if uid in self.workers:
                self.workers[uid].referred()

    def _finished(self, uid: str) -> None:
        self._referenced.release(uid)
        worker = self.workers.pop(uid, None)
        if worker is not None:
            self._tasks.spawn(worker.close(), "end")
            judge_all(self.workers.values(), "pods_removed")
        if uid in self._static:
            self._static.discard(uid)
            self._again.add(uid)
        self._begin_static()

    def worker(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod by name (the newest, should an old one still be ending)."""
        found = [
            w
            for w in self.workers.values()
            if w.pod["metadata"]["name"] == name and w.pod["metadata"]["namespace"] == namespace
        ]
        return found[-1] if found else None

    # -- the runtime's side ------------------------------------------------------------------------------------

    def ailing(self) -> tuple[str, ...]:
        """What keeps the node from being ready: for too long nobody has seen what its containers do."""
        if self._since is None:
            return ()
        passed = self._shared.world.clock.monotonic() - max(self._since, self._asked)
        if passed <= UNHEARD:
            return ()
        if not self._asked:
            return ("PLEG is not healthy: pleg has yet to be successful",)
        ago, limit = durations.go(passed), durations.go(UNHEARD)
        return (f"PLEG is not healthy: pleg was last seen active {ago} ago; threshold is {limit}",)

    def turns(self) -> bool:
        """Whether the loop that follows the runtime still comes round: what ``/healthz/syncloop`` tells."""
        return not self._asked or self._shared.world.clock.monotonic() - self._asked <= STUCK

    async def run(self) -> None:
        try:
            self._since = self._shared.world.clock.monotonic()
            if self._pods.synced.is_set():
                self._begin_all()
            else:
                self._tasks.spawn(self._join_later(), "api")
            self._tasks.spawn(self._listen(), "events")
            while True:
                try:
                    await self.relist()
                except RuntimeFailure as failure:
                    log.warning("the container runtime does not answer: %s", failure)
                await self._shared.world.clock.sleep(RELIST)
        finally:
            await self._referenced.close()
            await asyncio.gather(*(worker.close() for worker in self.workers.values()))
            await self._tasks.close()

    async def _join_later(self) -> None:
        """The runtime is watched and static pods run meanwhile."""
        await self._pods.synced.wait()
        self._begin_all()

    async def _listen(self) -> None:
        while True:
            try:
                async for event in self._shared.runtime.events():
                    await self._on_event(event)
            except RuntimeFailure as failure:
                log.warning("the runtime's event stream broke: %s", failure)
            await self._shared.world.clock.sleep(RECONNECT)
            for worker in self.workers.values():
                worker.wake()

    async def _on_event(self, event: RuntimeEvent) -> None:
        uid = self._owner.get(event.id)
        if uid is None:
            uid = next((u for u, w in self.workers.items() if _mentions(w, event.id)), None)
        if uid is None and event.kind == "exited":
            await self.relist()
            uid = self._owner.get(event.id)
        worker = self.workers.get(uid or "")
        if worker is not None and event.kind == "exited":
            worker.exited(event.id)
        elif worker is not None:
            worker.wake()

    async def relist(self) -> None:
        """Ask the runtime for everything: wake workers whose containers changed, find orphans."""
        runtime, clock = self._shared.runtime, self._shared.world.clock
        begun = clock.monotonic()
        if self._asked:
            figures.RELIST_INTERVAL.observe(begun - self._asked)
        sandboxes, containers = await asyncio.gather(runtime.list_sandboxes(), runtime.list_containers())
        self.relisted, self._asked = clock.now(), clock.monotonic()
        figures.RELIST_SECONDS.observe(self._asked - begun)
        owner = {s.id: s.uid for s in sandboxes}
        states = {s.id: str(s.ready) for s in sandboxes} | {c.id: c.state for c in containers}
        for c in containers:
            owner[c.id] = owner.get(c.sandbox_id, "")
        changed = {i for i in states.keys() | self._states.keys() if states.get(i) != self._states.get(i)}
        touched = {owner.get(i) or self._owner.get(i, "") for i in changed}
        self._owner, self._states = owner, states
        for uid in touched:
            if uid in self.workers:
                self.workers[uid].wake()
        judge_all(self.workers.values())
        if self.whole:
            running = {s.uid for s in sandboxes}
            lost = running | self._shared.host.known_pods()
            for uid in lost - self.workers.keys() - self._clearing:
                if uid in running:
                    figures.ORPHANED_PODS.inc()
                self._clearing.add(uid)
                self._tasks.spawn(self._clear(uid), f"orphan/{uid}")

    async def _clear(self, uid: str) -> None:
        """End a pod that the API does not know any more."""
        runtime: Any = self._shared.runtime
        try:
            log.info("pod %s is not in the API: ending what is left of it", uid)
            running = [c.id for c in await runtime.list_containers(uid) if c.state == "running"]
            await asyncio.gather(*(runtime.stop_container(c, ORPHAN_GRACE) for c in running))
            for sandbox in await runtime.list_sandboxes(uid):
                await runtime.stop_sandbox(sandbox.id)
                await runtime.remove_sandbox(sandbox.id)
            await self._shared.host.cleanup(uid)
            await runtime.release_trees(uid)
            self._shared.host.remove_logs(uid)
        except (RuntimeFailure, HostFailure, OSError) as failure:
            log.warning("cannot clear the orphaned pod %s yet: %s", uid, failure)
        finally:
            self._clearing.discard(uid)


def _mentions(worker: PodWorker, identity: str) -> bool:
    return any(c.id == identity for c in worker.state.containers) or any(
        s.id == identity for s in worker.state.sandboxes
    )

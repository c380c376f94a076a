"""The scheduler as a service: informers feed the columns, the queue feeds decisions, bindings fly together.

A decision takes effect at once in our own columns (the pod is *assumed* on its node), and the binding travels to the
API server meanwhile; when it fails the pod is forgotten there and tried again. So the next decision never waits for the
network, and never overbooks what the previous one took.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.api.selectors import SelectorError, from_object
from bamikube.client.client import Client
from bamikube.client.events import EventRecorder
from bamikube.client.informer import Informer, wait_synced
from bamikube.client.leader import LeaderElection
from bamikube.kit.clock import rfc3339
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.scheduler.columns import Columns
from bamikube.scheduler.metrics import ATTEMPTS, DECISION_SECONDS, VICTIMS
from bamikube.scheduler.model import NodeInfo, PodInfo, node_info, pod_info
from bamikube.scheduler.options import SchedulerOptions
from bamikube.scheduler.plan import plan
from bamikube.scheduler.plugins.default_preemption import Budget, Preemption, preempt
from bamikube.scheduler.queue import SchedulingQueue
from bamikube.scheduler.static import StaticAnswers
from bamikube.scheduler.verdict import Decision

log = logging.getLogger(__name__)

BUDGETS = "poddisruptionbudgets.policy"
# What a change may turn from "no" to "yes".
POD_LEFT = frozenset({"NodeResourcesFit", "NodePorts", "PodTopologySpread", "InterPodAffinity"})
POD_CAME = frozenset({"PodTopologySpread", "InterPodAffinity"})
# Decisions in a row before others get the loop.
TURN = 8


def _budget(pdb: dict[str, Any]) -> Budget | None:
    try:
        selector = from_object((pdb.get("spec") or {}).get("selector"))
    except SelectorError:
        return None
    allowed = int((pdb.get("status") or {}).get("disruptionsAllowed") or 0)
    return Budget(pdb["metadata"].get("namespace", ""), selector, allowed)


def _pod(pod: dict[str, Any]) -> PodInfo | None:
    try:
        return pod_info(pod)
    except ValueError as error:
        # Nothing the API server accepts; a pod it holds all the same must not stop the others.
        log.warning("pod %s cannot be read and is not scheduled: %s", pod["metadata"].get("name"), error)
        return None


def _essence(pod: PodInfo) -> PodInfo:
    """The pod without what our own writes to its status change."""
    return replace(pod, resource_version="", nominated="")


class Scheduler:
    """Schedules while it leads. ``ready`` is set as soon as it takes part in the election."""

    name = "scheduler"

    def __init__(self, client: Client, options: SchedulerOptions, world: World) -> None:
        self.ready = asyncio.Event()
        self._client = client
        self._options = options
        self._world = world
        self._reset()

    @classmethod
    def build(cls, options: SchedulerOptions, world: World) -> Scheduler:
        """From flags. Raises OSError or ValueError when the kubeconfig cannot be used."""
        return cls(Client.from_kubeconfig(options.kubeconfig, world, "kube-scheduler"), options, world)

    def _reset(self) -> None:
        options = self._options
        self.columns = Columns()
        self.queue = SchedulingQueue(
            self._world,
            options.pod_initial_backoff_seconds,
            options.pod_max_backoff_seconds,
            options.pod_max_in_unschedulable_pods_duration,
        )
        self._answers = StaticAnswers()
        self._assumed: dict[str, PodInfo] = {}
        self._budgets: dict[str, Budget] = {}
        # pod -> uid, message, since, generation: already in its status
        self._told: dict[str, tuple[str, str, str, int]] = {}
        self._recorder = EventRecorder(self._client, self._world, self._options.scheduler_name)
        self._tasks = Tasks(self.name)
        self._slots = asyncio.Semaphore(options.max_in_flight)

    async def run(self) -> None:
        """Take part in the election and schedule while leading, until cancelled."""
        self.ready.set()
        try:
            if not self._options.leader_elect:
                await self.lead()
                return
            identity = f"{socket.gethostname()}_{self._world.chance.uuid()}"
            await LeaderElection(self._client, self._world, "kube-scheduler", identity).run(self.lead)
        finally:
            await self._client.close()

    async def lead(self) -> None:
        """Schedule until cancelled (the lease is lost, or the process stops)."""
        self._reset()
        namespaces = Informer(
            self._client, "namespaces", self._world, project=lambda o: o["metadata"].get("labels") or {}
        )
        nodes = Informer(self._client, "nodes", self._world, project=node_info)
        pods = Informer(self._client, "pods", self._world, project=_pod)
        budgets = Informer(self._client, BUDGETS, self._world, project=_budget)
        namespaces.on_change(lambda key, old, new: self.columns.put_namespace(key, new))
        nodes.on_change(self.node_changed)
        pods.on_change(self.pod_changed)
        budgets.on_change(self._budget_changed)
        informers = [namespaces, nodes, pods, budgets]
        tasks = self._tasks
        try:
            running = [tasks.spawn(self._recorder.run(), "events"), tasks.spawn(self.queue.run(), "queue")]
            running += [tasks.spawn(informer.run(), informer.resource) for informer in informers]
            await wait_synced(*informers)
            running.append(tasks.spawn(self._decide(), "decide"))
            # None of these ends by itself: the first that does is a fault, and the process starts again.
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            raise RuntimeError(f"{next(iter(done)).get_name()} ended by itself")
        finally:
            await tasks.close()

    # -- what happens ----------------------------------------------------------------------------------------------

    def node_changed(self, key: str, old: NodeInfo | None, new: NodeInfo | None) -> None:
        if new is None:
            self.columns.remove_node(key)
            self.queue.happened(frozenset({"PodTopologySpread"}))
        elif self.columns.put_node(new):
            self.queue.happened(None)

    def pod_changed(self, key: str, old: PodInfo | None, new: PodInfo | None) -> None:
        if new is None or (old is not None and old.uid != new.uid):
            self._gone(key)
        if new is None:
            return
        if new.node:
            self._placed(key, new)
        elif new.scheduler == self._options.scheduler_name and key not in self._assumed:
            self._pending(key, old, new)

    def _gone(self, key: str) -> None:
        self.queue.remove(key)
        self._assumed.pop(key, None)
        self._told.pop(key, None)
        reserved = self.columns.nominated.pop(key, None)
        if self.columns.remove(key) is not None or reserved is not None:
            self.queue.happened(POD_LEFT)

    def _placed(self, key: str, new: PodInfo) -> None:
        self.queue.remove(key)
        self._assumed.pop(key, None)
        self._told.pop(key, None)
        self.columns.nominated.pop(key, None)
        known = self.columns.placed(key)
        if (
            known is not None
            and known.node == new.node
            and replace(known, resource_version="") == replace(new, resource_version="")
        ):
            return
        self.columns.place(new)
        changed = known is None or known.kind != new.kind
        if known is not None and known.requests != new.requests:
            self.queue.happened(POD_LEFT)
        elif changed:
            self.queue.happened(POD_CAME)

    def _pending(self, key: str, old: PodInfo | None, new: PodInfo) -> None:
        if new.terminating or new.gates:
            self.queue.remove(key)
            return
        if new.nominated and key not in self.columns.nominated:
            self.columns.nominated[key] = new
        if old is not None and _essence(old) == _essence(new):
            self.queue.refresh(new)
        else:
            self.queue.add(new)

    def _budget_changed(self, key: str, old: Budget | None, new: Budget | None) -> None:
        if new is None:
            self._budgets.pop(key, None)
        else:
            self._budgets[key] = new

    # -- what we do about it ---------------------------------------------------------------------------------------

    async def _decide(self) -> None:
        turn = 0
        while True:
            pod = await self.queue.get()
            await self._slots.acquire()
            try:
                self._schedule(pod)
            except Exception:
                # One pod that a plugin cannot judge must not keep all others waiting; it is tried again, less and less often.
                log.exception("pod %s: scheduling failed by a fault of ours; trying it again later", pod.key)
                ATTEMPTS.labels("error", self._options.scheduler_name).inc()
                self._slots.release()
                self.queue.retry(pod.key)
            turn += 1
            if turn % TURN == 0:
                await asyncio.sleep(0)

    def _schedule(self, pod: PodInfo) -> None:
        """One decision; the slot taken for it is given back when its writes are done."""
        started = self._world.clock.monotonic()
        pod = self.columns.nominated.get(pod.key, pod)
        decision = plan(pod, self.columns, self._answers, self._world.chance)
        DECISION_SECONDS.observe(self._world.clock.monotonic() - started)
        if decision.node:
            self._assumed[pod.key] = pod.on(decision.node)
            self.columns.place(self._assumed[pod.key])
            self._tasks.spawn(self._release(self._bind(pod, decision.node)), pod.key)
            return
        ATTEMPTS.labels("unschedulable", self._options.scheduler_name).inc()
        answer = self._answers.of(pod, self.columns)
        outcome = preempt(pod, self.columns, answer, decision, list(self._budgets.values()))
        if outcome.node:
            self.columns.nominated[pod.key] = replace(pod, nominated=outcome.node)
        elif not outcome.keeps_nomination:
            self.columns.nominated.pop(pod.key, None)
        rejected_by = frozenset(v.plugin for verdicts in decision.verdicts.values() for v in verdicts)
        self.queue.park(pod.key, rejected_by)
        self._tasks.spawn(self._release(self._report(pod, decision, outcome)), pod.key)

    async def _release(self, work: Any) -> None:
        try:
            await work
        finally:
            self._slots.release()

    async def _bind(self, pod: PodInfo, node: str) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._client.create_subresource("pods", pod.name, "binding", body, pod.namespace)
        except (ApiError, OSError, TimeoutError) as error:
            ATTEMPTS.labels("error", self._options.scheduler_name).inc()
            log.warning("pod %s could not be bound to %s: %s; trying again", pod.key, node, error)
            assumed = self._assumed.get(pod.key)
            # The informer may have told us the truth meanwhile; only our own assumption is taken back.
            if assumed is not None and assumed.uid == pod.uid:
                del self._assumed[pod.key]
                self.columns.remove(pod.key)
                self.queue.happened(POD_LEFT)
                self.queue.retry(pod.key)
            return
        ATTEMPTS.labels("scheduled", self._options.scheduler_name).inc()
        self.columns.nominated.pop(pod.key, None)
        text = f"Successfully assigned {pod.key} to {node}"
        self._recorder.event_on(pod.reference, "Normal", "Scheduled", text)

    async def _report(self, pod: PodInfo, decision: Decision, outcome: Preemption) -> None:
        """Say why the pod waits, and send the victims of a preemption away."""
        message = decision.message(outcome.message)
        self._recorder.event_on(pod.reference, "Warning", "FailedScheduling", message)
        try:
            await self._patch_status(pod, message, outcome.node)
            for victim in outcome.victims:
                await self._evict(victim, pod, outcome.node)
        except (ApiError, OSError, TimeoutError) as error:
            if not (isinstance(error, ApiError) and error.code == 404):
                log.warning("pod %s: its state could not be written: %s", pod.key, error)

    async def _patch_status(self, pod: PodInfo, message: str, nominated: str) -> None:
        uid, told, since, generation = self._told.get(pod.key, ("", "", "", 0))
        if (uid, told, generation) == (pod.uid, message, pod.generation) and not nominated:
            return
        since = since if uid == pod.uid else rfc3339(self._world.clock.now())
        condition = {
            "type": "PodScheduled",
            "observedGeneration": pod.generation,
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": since,
        }
        status: dict[str, Any] = {"conditions": [condition]}
        if nominated:
            status["nominatedNodeName"] = nominated
        elif pod.nominated and pod.key not in self.columns.nominated:
            status["nominatedNodeName"] = None
        patch = {"metadata": {"uid": pod.uid}, "status": status}
        await self._client.patch(
            "pods", pod.name, patch, pod.namespace, kind="strategic", subresource="status"
        )
        if pod.key not in self._assumed and self.columns.placed(pod.key) is None:
            self._told[pod.key] = (pod.uid, message, since, pod.generation)

    async def _evict(self, victim: PodInfo, pod: PodInfo, node: str) -> None:
        VICTIMS.inc()
        if victim.terminating:
            return
        text = f"Preempted by pod {pod.uid} on node {node}"
        self._recorder.event_on(victim.reference, "Normal", "Preempted", text)
        condition = {
            "type": "DisruptionTarget",
            "observedGeneration": victim.generation,
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{self._options.scheduler_name}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": rfc3339(self._world.clock.now()),
        }
        patch = {"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(
                "pods", victim.name, patch, victim.namespace, kind="strategic", subresource="status"
            )
            await self._client.delete("pods", victim.name, victim.namespace, uid=victim.uid)
        except ApiError as error:
            if error.code not in (404, 409):
                raise

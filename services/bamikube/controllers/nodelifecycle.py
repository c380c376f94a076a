"""Nodes that fall silent, and what becomes of their pods.

A node proves it is alive by renewing its Lease. ``plan`` compares when the Lease (or the node's own Ready heartbeat)
last moved, by our own clock, with the grace period:

1. a silent node's conditions become Unknown (reason ``NodeStatusUnknown``);
2. its taints follow its conditions: ``not-ready`` or ``unreachable`` with NoSchedule and NoExecute, and one NoSchedule
   taint per pressure condition and for ``spec.unschedulable``;
3. its pods are marked not ready, so that services stop sending to them;
4. a pod that does not tolerate a NoExecute taint is deleted, at once or after its ``tolerationSeconds``.

When no node at all is ready the fault is more likely here than there: no pod is evicted, and the NoExecute taints come
off. When the first node is back, the others have a grace period to follow before they are tainted again, so that the
end of an outage of ours evicts nobody. The time a pod may stay counts from the taint or from when the pod was bound,
whichever is later.
Source: "Nodes" and "Taints and Tolerations" of the Kubernetes documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.api.predicates import pods as pod_state
from bamikube.api.predicates.conditions import find, is_true, put
from bamikube.api.predicates.tolerations import stay_seconds
from bamikube.api.times import seconds, stamp
from bamikube.controllers.shared import Controller, Shared, enqueue

Object = dict[str, Any]

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_PRESSURE = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
# The taints this controller puts on and takes off; all others are somebody else's.
_OURS = {NOT_READY, UNREACHABLE, UNSCHEDULABLE, *_PRESSURE.values()}
_HEARTBEATS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


@dataclass(slots=True)
class Plan:
    """``conditions`` and ``taints`` are None when they are right as they are."""

    conditions: list[Object] | None = None
    taints: list[Object] | None = None
    ready: str = "Unknown"
    again: float | None = None
    events: list[tuple[str, str]] = field(default_factory=list)


def wanted_taints(node: Object, conditions: list[Object], now: float, *, evict: bool = True) -> list[Object]:
    """The node's taints as its conditions and ``spec.unschedulable`` ask for; NoExecute ones only with ``evict``."""
    held = list((node.get("spec") or {}).get("taints") or [])
    status = {condition["type"]: condition.get("status") for condition in conditions}
    wanted: list[tuple[str, str]] = []
    ready = status.get("Ready")
    if ready != "True" and ready is not None:
        key = NOT_READY if ready == "False" else UNREACHABLE
        wanted += [(key, "NoSchedule"), (key, "NoExecute")] if evict else [(key, "NoSchedule")]
    elif ready is None:
        wanted.append((NOT_READY, "NoSchedule"))
    wanted += [(key, "NoSchedule") for type, key in _PRESSURE.items() if status.get(type) == "True"]
    if (node.get("spec") or {}).get("unschedulable"):
        wanted.append((UNSCHEDULABLE, "NoSchedule"))
    pairs = {(taint["key"], taint.get("effect")) for taint in held}
    result = [
        taint for taint in held if taint["key"] not in _OURS or (taint["key"], taint.get("effect")) in wanted
    ]
    for key, effect in wanted:
        if (key, effect) not in pairs:
            taint: Object = {"key": key, "effect": effect}
            if effect == "NoExecute" or key == UNSCHEDULABLE:
                taint["timeAdded"] = stamp(now)
            result.append(taint)
    return result


def plan(node: Object, silent_for: float, grace: float, now: float, *, evict: bool = True) -> Plan:
    """What to write about a node that has been silent for ``silent_for`` seconds (``grace`` are allowed).

    Without ``evict`` no NoExecute taint is wanted.
    """
    result = Plan()
    conditions = list((node.get("status") or {}).get("conditions") or [])
    ready = find(node, "Ready")
    if silent_for >= grace:
        for type in _HEARTBEATS:
            old = find(node, type)
            if old is not None and old.get("status") == "Unknown":
                continue
            if old is None:
                new = {
                    "type": type,
                    "status": "Unknown",
                    "reason": "NodeStatusNeverUpdated",
                    "message": "Kubelet never posted node status.",
                    "lastHeartbeatTime": node["metadata"].get("creationTimestamp", stamp(now)),
                }
            else:
                new = old | {
                    "status": "Unknown",
                    "reason": "NodeStatusUnknown",
                    "message": "Kubelet stopped posting node status.",
                }
            conditions = put(conditions, new, stamp(now))
            if type == "Ready" and ready is not None:
                name = node["metadata"]["name"]
                result.events.append(("NodeNotReady", f"Node {name} status is now: NodeNotReady"))
        if conditions != ((node.get("status") or {}).get("conditions") or []):
            result.conditions = conditions
    else:
        result.again = grace - silent_for
    current = next((condition for condition in conditions if condition["type"] == "Ready"), None)
    result.ready = str(current.get("status")) if current is not None else "Unknown"
    taints = wanted_taints(node, conditions, now, evict=evict)
    if taints != list((node.get("spec") or {}).get("taints") or []):
        result.taints = taints
    return result


def evict_at(pod: Object, taints: list[Object], now: float) -> float | None:
    """When (seconds since the epoch) a pod has to leave because of its node's taints; None: it may stay.

    Each NoExecute taint gives its own time: the later of when it was added and when the pod was bound, plus the
    shortest ``tolerationSeconds`` of the pod's tolerations for it; nothing for a taint that is not tolerated.
    """
    bound = seconds((find(pod, "PodScheduled") or {}).get("lastTransitionTime")) or seconds(
        pod["metadata"].get("creationTimestamp")
    )
    times = []
    for taint in taints:
        if taint.get("effect") != "NoExecute":
            continue
        stay = stay_seconds([taint], pod["spec"].get("tolerations") or [])
        if stay is not None:
            times.append(max(seconds(taint.get("timeAdded")) or now, bound) + stay if stay else now)
    return min(times, default=None)


def _drives_out(node: Object | None) -> bool:
    taints = ((node or {}).get("spec") or {}).get("taints") or []
    return any(taint.get("effect") == "NoExecute" for taint in taints)


class NodeLifecycleController(Controller):
    name = "node-lifecycle-controller"
    reports_as = "node-controller"
    workers = 4

    def __init__(self, shared: Shared, grace: float, startup_grace: float) -> None:
        super().__init__(shared)
        self.grace = grace
        self.startup_grace = startup_grace
        self.nodes = shared.informers.of("nodes")
        self.leases = shared.informers.of("leases.coordination.k8s.io")
        self.pods = shared.informers.of("pods")
        self.seen: dict[str, tuple[str, float]] = {}  # node -> (its last sign of life, when we saw it)
        self._outage: bool | None = None  # whether no node is ready; None: not looked at yet
        self._back = float("-inf")  # when (monotonic) an outage last ended
        self.nodes.on_change(enqueue(self))
        self.leases.on_change(self._lease_changed)
        self.pods.add_index(
            "node", lambda pod: [pod_state.node_name(pod)] if pod_state.node_name(pod) else []
        )
        self.pods.on_change(self._pod_changed)
        self.evictions = EvictionController(shared, self)

    def _lease_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        namespace, _, name = key.partition("/")
        if namespace == "kube-node-lease":
            self.queue.add(name)

    def _pod_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is not None and pod_state.node_name(new):
            self.evictions.queue.add(key)

    def silent_for(self, node: Object) -> float:
        """Seconds since the node's last sign of life, by our own monotonic clock."""
        name = node["metadata"]["name"]
        lease = self.leases.get(f"kube-node-lease/{name}")
        sign = ((lease or {}).get("spec") or {}).get("renewTime", "")
        sign += "|" + str((find(node, "Ready") or {}).get("lastHeartbeatTime", ""))
        now = self.world.clock.monotonic()
        if name not in self.seen or self.seen[name][0] != sign:
            self.seen[name] = (sign, now)
        return now - self.seen[name][1]

    async def sync(self, key: str) -> float | None:
        for informer in (self.nodes, self.leases, self.pods):
            await informer.synced.wait()
        node = self.nodes.get(key)
        if node is None:
            self.seen.pop(key, None)
            return None
        grace = self.grace if find(node, "Ready") is not None else self.startup_grace
        evict, again = self._may_evict()
        decision = plan(node, self.silent_for(node), grace, self.world.clock.now(), evict=evict)
        if decision.conditions is not None:
            body = {**node, "status": {**(node.get("status") or {}), "conditions": decision.conditions}}
            node = await self.client.update("nodes", body, "status")
        for reason, message in decision.events:
            self.record(node, "Normal", reason, message)
        if decision.taints is not None:
            # The revision guards the whole list: somebody else's taint is never overwritten.
            body = {**node, "spec": {**(node.get("spec") or {}), "taints": decision.taints}}
            node = await self.client.update("nodes", body)
        mine = self.pods.by_index("node", key)
        if _drives_out(node):
            for pod in mine:
                self.evictions.queue.add(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")
        if decision.ready == "Unknown":
            await self._mark_not_ready(mine)
        waits = [seconds for seconds in (decision.again, again) if seconds is not None]
        return min(waits, default=None)

    def _may_evict(self) -> tuple[bool, float | None]:
        """Whether NoExecute taints may be put on now, and the seconds after which the answer may change."""
        now = self.world.clock.monotonic()
        outage = self.none_ready()
        if outage != self._outage:
            if self._outage:
                self._back = now
            self._outage = outage
            for node in self.nodes.items():
                self.queue.add(node["metadata"]["name"])
        if outage:
            return False, None
        left = self._back + self.grace - now
        return (True, None) if left <= 0 else (False, left)

    async def _mark_not_ready(self, pods: list[Object]) -> None:
        """Nobody reports on these pods any more, so they cannot be called ready."""
        for pod in pods:
            if not pod_state.is_ready(pod):
                continue
            now = stamp(self.world.clock.now())
            condition = {"type": "Ready", "status": "False", "lastTransitionTime": now}
            meta = pod["metadata"]
            patch = {"metadata": {"uid": meta["uid"]}, "status": {"conditions": [condition]}}
            try:
                await self.client.patch(
                    "pods", meta["name"], patch, meta["namespace"], kind="strategic", subresource="status"
                )
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
            self.record(pod, "Warning", "NodeNotReady", "Node is not ready")

    def none_ready(self) -> bool:
        """Whether no node at all is ready: then the fault is probably ours."""
        return not any(is_true(node, "Ready") for node in self.nodes.items())


class EvictionController(Controller):
    """Deletes pods whose node has NoExecute taints that they do not (or no longer) tolerate."""

    name = "taint-eviction-controller"
    workers = 4

    def __init__(self, shared: Shared, lifecycle: NodeLifecycleController) -> None:
        super().__init__(shared)
        self.lifecycle = lifecycle

    async def sync(self, key: str) -> float | None:
        pod = self.lifecycle.pods.get(key)
        if pod is None or pod_state.is_terminating(pod) or pod_state.is_terminal(pod):
            return None
        node = self.lifecycle.nodes.get(pod_state.node_name(pod))
        taints = [
            taint
            for taint in ((node or {}).get("spec") or {}).get("taints") or []
            if taint.get("effect") == "NoExecute"
        ]
        if not taints:
            return None
        now = self.world.clock.now()
        when = evict_at(pod, taints, now)
        if when is None:
            return None
        if when > now:
            return when - now
        ours = {NOT_READY, UNREACHABLE}
        if self.lifecycle.none_ready() and all(taint["key"] in ours for taint in taints):
            return 10.0
        self.record(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {key}")
        await self._mark_disrupted(pod)
        try:
            await self.client.delete(
                "pods", pod["metadata"]["name"], pod["metadata"]["namespace"], uid=pod["metadata"]["uid"]
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        return None

    async def _mark_disrupted(self, pod: Object) -> None:
        """Say in the pod's status why it goes (KEP-3329)."""
        condition = {
            "type": "DisruptionTarget",
            "observedGeneration": int(pod["metadata"].get("generation") or 0),
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": stamp(self.world.clock.now()),
        }
        meta = pod["metadata"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": {"conditions": [condition]}}
        try:
            await self.client.patch(
                "pods", meta["name"], patch, meta["namespace"], kind="strategic", subresource="status"
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise

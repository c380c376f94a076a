"""ReplicaSets, and ReplicationControllers, which are older and the same: as many pods as asked for, no more.

``plan`` compares the pods that are there with the number that is wanted; ``apply`` creates and deletes side by side
and then waits, through :class:`Expectations`, until its own informer has seen it. Pods are created in growing batches
(1, 2, 4 ...), so that a template the server refuses costs one refused request and not a thousand.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from bamikube.api import owners, selectors
from bamikube.api.errors import ApiError
from bamikube.api.predicates import pods as pod_state
from bamikube.api.predicates.conditions import find, put
from bamikube.api.times import seconds, stamp
from bamikube.client.informer import split_key
from bamikube.controllers.adoption import (
    BY_NAMESPACE,
    candidates,
    carry_out,
    claim,
    controlled,
    index_by_controller,
    index_by_namespace,
)
from bamikube.controllers.expectations import Expectations
from bamikube.controllers.shared import Controller, Shared, enqueue, namespace_is_going, together

log = logging.getLogger(__name__)

Object = dict[str, Any]

# No more than this many pods are created or deleted in one go (Kubernetes' BurstReplicas).
BURST = 500

# From this many replicas on, changes to pods are gathered for size / rate seconds (500 replicas: a quarter of a
# second), so that a set that comes up costs a number of looks that does not grow with its size.
GATHER_FROM = 20
GATHER_RATE = 2000.0
GATHER_MOST = 1.0


@dataclass(slots=True)
class Plan:
    """``create`` pods are missing, ``delete`` are too many; ``status`` is what the counts should say."""

    create: int = 0
    delete: list[Object] = field(default_factory=list)
    status: Object = field(default_factory=dict)
    again: float | None = None
    reason: str = ""


def deletion_rank(pod: Object, crowd: dict[str, int], now: float) -> tuple[Any, ...]:
    """Sort key: the pod that is missed least comes first.

    Unassigned before assigned, pending before running, not ready before ready, cheaper by
    ``controller.kubernetes.io/pod-deletion-cost``, on the more crowded node, ready for less time (by powers of two),
    restarted more often, younger.
    """
    status = pod.get("status") or {}
    cost = (pod["metadata"].get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", "0")
    ready_since = (
        seconds((find(pod, "Ready") or {}).get("lastTransitionTime")) if pod_state.is_ready(pod) else now
    )
    created = seconds(pod["metadata"].get("creationTimestamp"))
    return (
        bool(pod_state.node_name(pod)),
        {"Pending": 0, "Unknown": 1}.get(status.get("phase", "Pending"), 2),
        pod_state.is_ready(pod),
        _cost(cost),
        -crowd.get(pod_state.node_name(pod), 0),
        int(max(0.0, now - ready_since)).bit_length(),
        -pod_state.restarts(pod),
        int(max(0.0, now - created)).bit_length(),
        pod["metadata"]["uid"],
    )


def _cost(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0


def plan(
    rs: Object, mine: list[Object], now: float, *, crowd: dict[str, int] | None = None, failure: str = ""
) -> Plan:
    """What to do for ``rs`` whose pods are ``mine``. ``failure`` is why the last creation or deletion went wrong."""
    spec = rs["spec"]
    wanted = int(spec.get("replicas", 1))
    active = [pod for pod in mine if pod_state.is_active(pod)]
    result = Plan()
    if "deletionTimestamp" not in rs["metadata"]:
        if len(active) < wanted:
            result.create = min(BURST, wanted - len(active))
            result.reason = f"{wanted - len(active)} pods are missing"
        elif len(active) > wanted:
            ranked = sorted(active, key=lambda pod: deletion_rank(pod, crowd or {}, now))
            result.delete = ranked[: min(BURST, len(active) - wanted)]
            result.reason = f"{len(active) - wanted} pods are too many"
    min_ready = int(spec.get("minReadySeconds", 0))
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    ready = [pod for pod in active if pod_state.is_ready(pod)]
    waits = [wait for pod in ready if (wait := pod_state.available_in(pod, min_ready, now)) > 0]
    old = rs.get("status") or {}
    before = old.get("conditions") or []
    if not failure:
        conditions = [condition for condition in before if condition["type"] != "ReplicaFailure"]
    elif any(condition["type"] == "ReplicaFailure" for condition in before):
        # Said already. Each refusal names another pod: to repeat it would write a status that wakes this controller at
        # once, past its back-off, forever.
        conditions = list(before)
    else:
        reason = "FailedCreate" if len(active) < wanted else "FailedDelete"
        new = {"type": "ReplicaFailure", "status": "True", "reason": reason, "message": failure}
        conditions = put(list(before), new, stamp(now))
    result.status = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(
            all((pod["metadata"].get("labels") or {}).get(key) == value for key, value in labels.items())
            for pod in active
        ),
        "readyReplicas": len(ready),
        "availableReplicas": len(ready) - len(waits),
        "observedGeneration": rs["metadata"].get("generation", 0),
    }
    # Kubernetes leaves zero counts out, but for ``replicas``.
    for name in ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"):
        if not result.status[name]:
            del result.status[name]
    if conditions:
        result.status["conditions"] = conditions
    result.again = min(waits) if waits else None
    return result


def pod_from_template(template: Object, owner: Object, prefix: str, namespace: str) -> Object:
    """A pod of ``owner`` made from its template."""
    meta = template.get("metadata") or {}
    metadata: Object = {
        "generateName": prefix,
        "namespace": namespace,
        "ownerReferences": [owners.controller_reference(owner)],
    }
    for name in ("labels", "annotations", "finalizers"):
        if meta.get(name):
            metadata[name] = meta[name]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec") or {}}


class ReplicaSetController(Controller):
    name = "replicaset-controller"
    resource = "replicasets.apps"
    kind = "ReplicaSet"
    workers = 5

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.sets = shared.informers.of(self.resource)
        self.pods = shared.informers.of("pods")
        self.expectations = Expectations(self.pods, shared.world.clock)
        self.sets.on_change(enqueue(self))
        self.pods.on_change(self._pod_changed)
        index_by_controller(self.pods)
        index_by_controller(self.sets)
        index_by_namespace(self.sets)

    def _pod_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        namespace = split_key(key)[0]
        for pod in (old, new):
            if pod is None:
                continue
            controller = owners.controller_of(pod)
            if controller is not None:
                if controller.get("kind") == self.kind:
                    self._owner_changed(f"{namespace}/{controller['name']}")
            elif pod is new:
                # An orphan: whoever selects it should look.
                for rs in self.sets.by_index(BY_NAMESPACE, namespace):
                    if _selector(rs).matches(pod["metadata"].get("labels") or {}):
                        self.queue.add(f"{namespace}/{rs['metadata']['name']}")

    def _owner_changed(self, owner: str) -> None:
        """A look at a set costs what it has pods, so changes to a large set's pods are gathered for a moment."""
        rs = self.sets.get(owner)
        size = int(rs["spec"].get("replicas", 1)) if rs is not None else 0
        self.queue.add_after(owner, min(GATHER_MOST, size / GATHER_RATE) if size >= GATHER_FROM else 0.0)

    async def sync(self, key: str) -> float | None:
        await self.pods.synced.wait()
        rs = self.sets.get(key)
        if rs is None:
            self.expectations.forget(key)
            return None
        if not self.expectations.met(key):
            return 1.0
        selector = _selector(rs)
        # Pods that have ended or are on their way out count no more, whoever owns them.
        active = [pod for pod in candidates(self.pods, rs) if pod_state.is_active(pod)]
        claimed = claim(rs, active, lambda pod: selector.matches(pod["metadata"].get("labels") or {}))
        if not await carry_out(self.client, self.resource, rs, "pods", claimed):
            return None
        now = self.world.clock.now()
        surplus = len(claimed.mine) > int(rs["spec"].get("replicas", 1))
        decision = plan(rs, claimed.mine, now, crowd=self._crowd(rs) if surplus else None)
        failures = await self._apply(key, rs, decision)
        if failures:
            decision = plan(rs, claimed.mine, now, failure=str(failures[0]))
        await self._write_status(rs, decision.status)
        if failures:
            raise failures[0]
        return decision.again

    def _crowd(self, rs: Object) -> dict[str, int]:
        """How many pods of the sets with the same owner run on each node: the fuller node gives one up first."""
        controller = owners.controller_of(rs)
        family = [rs] if controller is None else controlled(self.sets, controller["uid"])
        crowd: dict[str, int] = {}
        for relative in family:
            for pod in controlled(self.pods, relative["metadata"]["uid"]):
                node = pod_state.node_name(pod)
                if node and pod_state.is_active(pod):
                    crowd[node] = crowd.get(node, 0) + 1
        return crowd

    async def _apply(self, key: str, rs: Object, decision: Plan) -> list[Exception]:
        namespace = rs["metadata"]["namespace"]

        async def create() -> None:
            body = pod_from_template(rs["spec"]["template"], rs, f"{rs['metadata']['name']}-", namespace)
            try:
                pod = await self.client.create("pods", body)
            except ApiError as error:
                if namespace_is_going(error):
                    return
                self.record(rs, "Warning", "FailedCreate", f"Error creating: {error.message}")
                raise
            self.expectations.created(key, pod)
            self.record(rs, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")

        async def delete(pod: Object) -> None:
            name = pod["metadata"]["name"]
            try:
                await self.client.delete("pods", name, namespace, uid=pod["metadata"]["uid"])
            except ApiError as error:
                if error.code in (404, 409):
                    return
                self.record(rs, "Warning", "FailedDelete", f"Error deleting: {error.message}")
                raise
            self.expectations.deleted(key, f"{namespace}/{name}", pod["metadata"]["uid"])
            self.record(rs, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")

        batch, left = 1, decision.create
        while left > 0:
            size = min(batch, left)
            failures = await together([create] * size)
            if failures:
                return failures
            left -= size
            batch *= 2
        return await together([lambda pod=pod: delete(pod) for pod in decision.delete])  # type: ignore[misc]

    async def _write_status(self, rs: Object, status: Object) -> None:
        if (rs.get("status") or {}) == status:
            return
        try:
            await self.client.update(self.resource, {**rs, "status": status}, "status")
        except ApiError as error:
            if error.code == 404:
                return
            raise


class ReplicationControllerController(ReplicaSetController):
    """The same, for a kind whose selector is a map of labels."""

    name = "replication-controller"
    resource = "replicationcontrollers"
    kind = "ReplicationController"


def _selector(rs: Object) -> selectors.LabelSelector:
    given = rs["spec"].get("selector")
    if rs["kind"] == ReplicationControllerController.kind:
        given = {"matchLabels": given or {}}
    return selectors.from_object(given)

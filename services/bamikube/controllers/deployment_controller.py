"""The executor of :mod:`bamikube.controllers.deployment`: reads the copies, asks for a plan, writes what it says."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from bamikube.api import owners, selectors
from bamikube.api.errors import ApiError
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
from bamikube.controllers.deployment import Plan, Scale, any_pods, plan
from bamikube.controllers.deployment_sets import REVISION, bare_template, find_new
from bamikube.controllers.expectations import Expectations
from bamikube.controllers.shared import Controller, Shared, enqueue, namespace_is_going

log = logging.getLogger(__name__)

Object = dict[str, Any]


class DeploymentController(Controller):
    name = "deployment-controller"
    workers = 5

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.deployments = shared.informers.of("deployments.apps")
        self.sets = shared.informers.of("replicasets.apps")
        self.pods = shared.informers.of("pods")
        self.expectations = Expectations(self.sets, shared.world.clock)
        self.deployments.on_change(enqueue(self))
        self.sets.on_change(self._set_changed)
        self.pods.on_change(self._pod_changed)
        index_by_namespace(self.deployments)
        index_by_controller(self.sets)
        index_by_controller(self.pods)

    def _set_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        namespace = split_key(key)[0]
        for rs in (old, new):
            controller = owners.controller_of(rs) if rs is not None else None
            if controller is not None and controller.get("kind") == "Deployment":
                self.queue.add(f"{namespace}/{controller['name']}")
            elif rs is not None and rs is new and controller is None:
                for deployment in self.deployments.by_index(BY_NAMESPACE, namespace):
                    if _matches(deployment, rs):
                        self.queue.add(f"{namespace}/{deployment['metadata']['name']}")

    def _pod_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        # Only the Recreate strategy waits for pods: it goes on when the last old one is gone.
        if new is not None or old is None:
            return
        controller = owners.controller_of(old)
        if controller is None or controller.get("kind") != "ReplicaSet":
            return
        namespace = split_key(key)[0]
        rs = self.sets.get(f"{namespace}/{controller['name']}")
        owner = owners.controller_of(rs) if rs is not None else None
        if owner is not None and owner.get("kind") == "Deployment":
            self.queue.add(f"{namespace}/{owner['name']}")

    async def sync(self, key: str) -> float | None:
        await asyncio.gather(self.sets.synced.wait(), self.pods.synced.wait())
        deployment = self.deployments.get(key)
        if deployment is None:
            self.expectations.forget(key)
            return None
        if not self.expectations.met(key):
            return 1.0
        selector = selectors.from_object(deployment["spec"].get("selector"))
        claimed = claim(
            deployment,
            candidates(self.sets, deployment),
            lambda rs: selector.matches(rs["metadata"].get("labels") or {}),
        )
        if not await carry_out(self.client, "deployments.apps", deployment, "replicasets.apps", claimed):
            return None
        new = find_new(deployment, claimed.mine)
        old_pods = [
            pod
            for rs in claimed.mine
            if rs is not new
            for pod in controlled(self.pods, rs["metadata"]["uid"])
        ]
        decision = plan(deployment, claimed.mine, any_pods(old_pods), self.world.clock.now())
        await self._apply(key, deployment, decision)
        return decision.again

    async def _apply(self, key: str, deployment: Object, decision: Plan) -> None:
        name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
        if decision.collision:
            await self._collided(deployment)
            return
        if decision.create is not None and not await self._create(key, deployment, decision.create):
            return
        touched = set()
        for scale in decision.scale:
            touched.add(scale.rs["metadata"]["name"])
            await self._scale(deployment, scale, decision)
        for rs_name, wanted in decision.annotate.items():
            if rs_name not in touched:
                patch: Object = {"metadata": {"annotations": wanted}}
                if rs_name in decision.min_ready:
                    patch["spec"] = {"minReadySeconds": decision.min_ready[rs_name]}
                await self.client.patch("replicasets.apps", rs_name, patch, namespace)
        for rs in decision.delete:
            try:
                await self.client.delete(
                    "replicasets.apps",
                    rs["metadata"]["name"],
                    namespace,
                    uid=rs["metadata"]["uid"],
                    propagation="Background",
                )
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
        annotations = deployment["metadata"].get("annotations") or {}
        if decision.revision and annotations.get(REVISION) != decision.revision:
            # By way of the status, which may annotate: what people asked for is no other, so is its generation.
            patch = {"metadata": {"annotations": {REVISION: decision.revision}}}
            moved = await self.client.patch("deployments.apps", name, patch, namespace, subresource="status")
            if moved["metadata"].get("generation") == deployment["metadata"].get("generation"):
                # Nothing but the annotation has moved, so the status that was worked out still holds.
                deployment = moved
        if decision.status != (deployment.get("status") or {}):
            await self._write_status(deployment, decision.status)

    async def _create(self, key: str, deployment: Object, body: Object) -> bool:
        """Create the new ReplicaSet. False when the plan must be made anew: another object has its name."""
        namespace = body["metadata"]["namespace"]
        try:
            made = await self.client.create("replicasets.apps", body)
        except ApiError as error:
            if namespace_is_going(error):
                return False
            if error.reason != "AlreadyExists":
                text = f"Failed to create new replica set {body['metadata']['name']!r}: {error.message}"
                self.record(deployment, "Warning", "ReplicaSetCreateError", text)
                raise
            held = await self.client.get("replicasets.apps", body["metadata"]["name"], namespace)
            same = bare_template(held["spec"]["template"]) == bare_template(deployment["spec"]["template"])
            if owners.controlled_by(held, deployment["metadata"]["uid"]) and same:
                # Ours already: the copy is behind and will show it.
                self.expectations.created(key, held)
            else:
                await self._collided(deployment)
            return False
        self.expectations.created(key, made)
        if body["spec"]["replicas"]:
            self.record(
                deployment,
                "Normal",
                "ScalingReplicaSet",
                f"Scaled up replica set {body['metadata']['name']} from 0 to {body['spec']['replicas']}",
            )
        return True

    async def _scale(self, deployment: Object, scale: Scale, decision: Plan) -> None:
        rs = scale.rs
        name = rs["metadata"]["name"]
        meta = {**rs["metadata"]}
        if name in decision.annotate:
            meta["annotations"] = decision.annotate[name]
        spec = {**rs["spec"], "replicas": scale.replicas}
        if name in decision.min_ready:
            spec["minReadySeconds"] = decision.min_ready[name]
        # A PUT with the revision the plan was made on: a stale plan is refused, not carried out.
        await self.client.update("replicasets.apps", {**rs, "metadata": meta, "spec": spec})
        way = "up" if scale.replicas > scale.before else "down"
        self.record(
            deployment,
            "Normal",
            "ScalingReplicaSet",
            f"Scaled {way} replica set {rs['metadata']['name']} from {scale.before} to {scale.replicas}",
        )

    async def _collided(self, deployment: Object) -> None:
        """Another object has the name our template's hash gives: count the collision, which makes another hash."""
        status = dict(deployment.get("status") or {})
        status["collisionCount"] = int(status.get("collisionCount") or 0) + 1
        await self._write_status(deployment, status)

    async def _write_status(self, deployment: Object, status: Object) -> None:
        live = deployment
        try:
            await self.client.update("deployments.apps", {**live, "status": status}, "status")
        except ApiError as error:
            if error.code == 404:
                return
            if error.code != 409:
                raise
            # The revision annotation has just moved the object: the status is still the right one for it.
            live = await self.client.get(
                "deployments.apps", live["metadata"]["name"], live["metadata"]["namespace"]
            )
            if live["metadata"].get("generation") != deployment["metadata"].get("generation"):
                raise
            await self.client.update("deployments.apps", {**live, "status": status}, "status")


def _matches(deployment: Object, rs: Object) -> bool:
    selector = selectors.from_object(deployment["spec"].get("selector"))
    return selector.matches(rs["metadata"].get("labels") or {})

"""Claims, volumes and classes of volume attributes in use stay: whoever deletes one waits until nobody uses it any more.

Admission gives new ones a finalizer; these controllers give it to those that lack it, and take it off one that is being
deleted as soon as no scheduled pod uses the claim, no claim is bound to the volume, or neither claims nor volumes name
the class. Pods that are not scheduled do not count: a node agent starts none that refers to a claim on its way out.

Source: Kubernetes' "Persistent Volumes", storage object in use protection.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.api.predicates.pods import node_name
from bamikube.client.informer import split_key
from bamikube.controllers.shared import Controller, Shared, enqueue

Object = dict[str, Any]

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
CLASS_FINALIZER = "kubernetes.io/vac-protection"
CLASSES = "volumeattributesclasses.storage.k8s.io"


@dataclass(frozen=True, slots=True)
class Plan:
    """The finalizers an object shall have (None: it stays as it is), and why."""

    finalizers: list[str] | None
    reason: str


def plan_claim(claim: Object, pods: Iterable[Object]) -> Plan:
    """What to do with a claim, given the pods of its namespace."""
    user = next((pod for pod in pods if uses(pod, claim)), None)
    return _plan(claim, CLAIM_FINALIZER, f"pod {user['metadata']['name']} uses it" if user else "")


def plan_volume(volume: Object) -> Plan:
    """What to do with a volume."""
    bound = (volume.get("status") or {}).get("phase") == "Bound"
    claim = (volume.get("spec") or {}).get("claimRef") or {}
    where = f"{claim.get('namespace', '')}/{claim.get('name', '')}"
    return _plan(volume, VOLUME_FINALIZER, f"it is bound to claim {where}" if bound else "")


def plan_class(attributes: Object, claims: Iterable[Object], volumes: Iterable[Object]) -> Plan:
    """What to do with a class of volume attributes, given all claims and volumes that may name it."""
    name = attributes["metadata"]["name"]
    for kind, users in (("claim", claims), ("volume", volumes)):
        for user in users:
            if name in classes_of(user):
                metadata = user["metadata"]
                where = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
                return _plan(attributes, CLASS_FINALIZER, f"{kind} {where}{metadata['name']} names it")
    return _plan(attributes, CLASS_FINALIZER, "")


def classes_of(user: Object) -> set[str]:
    """The classes of volume attributes that a claim or a volume has, wants, or is given just now."""
    spec, status = user.get("spec") or {}, user.get("status") or {}
    target = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    named = (spec.get("volumeAttributesClassName"), status.get("currentVolumeAttributesClassName"), target)
    return {str(name) for name in named if name}


def _plan(obj: Object, finalizer: str, used: str) -> Plan:
    held = list(obj["metadata"].get("finalizers") or ())
    if "deletionTimestamp" not in obj["metadata"]:
        if finalizer in held:
            return Plan(None, "it is protected")
        return Plan([*held, finalizer], "it lacks its protection")
    if finalizer not in held:
        return Plan(None, "it goes without us")
    if used:
        return Plan(None, used)
    return Plan([one for one in held if one != finalizer], "nobody uses it")


def uses(pod: Object, claim: Object) -> bool:
    """Whether a scheduled pod has the claim among its volumes, by name or as an ephemeral one of its own."""
    if not node_name(pod):
        return False
    name = claim["metadata"]["name"]
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if (volume.get("persistentVolumeClaim") or {}).get("claimName") == name:
            return True
        if volume.get("ephemeral") is not None and f"{pod['metadata']['name']}-{volume['name']}" == name:
            owners = claim["metadata"].get("ownerReferences") or ()
            if not _shut_down(pod) and any(owner.get("uid") == pod["metadata"]["uid"] for owner in owners):
                return True
    return False


def _shut_down(pod: Object) -> bool:
    metadata = pod["metadata"]
    return "deletionTimestamp" in metadata and not metadata.get("deletionGracePeriodSeconds")


class ClaimProtectionController(Controller):
    name = "persistentvolumeclaim-protection-controller"
    workers = 2

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.claims = shared.informers.of("persistentvolumeclaims")
        self.pods = shared.informers.of("pods")
        self.pods.add_index("claim", _claims_of)
        self.claims.on_change(enqueue(self))
        self.pods.on_change(self._pod_changed)

    def _pod_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is None or "deletionTimestamp" in new["metadata"]:
            for claim in _claims_of(new or old or {}):
                self.queue.add(claim)

    async def sync(self, key: str) -> float | None:
        await self.claims.synced.wait()
        await self.pods.synced.wait()
        claim = self.claims.get(key)
        if claim is None:
            return None
        plan = plan_claim(claim, self.pods.by_index("claim", key))
        if plan.finalizers is None:
            return None
        if "deletionTimestamp" in claim["metadata"]:
            # The copy may lack a pod that is there: before the claim is given up the server is asked.
            listed = await self.client.list("pods", split_key(key)[0])
            plan = plan_claim(claim, listed.get("items") or [])
        await _write(self, "persistentvolumeclaims", claim, plan)
        return None


def _claims_of(pod: Object) -> list[str]:
    """Keys of the claims a pod may use."""
    namespace = pod["metadata"].get("namespace", "")
    found = []
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if (claim := volume.get("persistentVolumeClaim")) is not None:
            found.append(f"{namespace}/{claim.get('claimName', '')}")
        elif volume.get("ephemeral") is not None:
            found.append(f"{namespace}/{pod['metadata']['name']}-{volume['name']}")
    return found


class VolumeProtectionController(Controller):
    name = "persistentvolume-protection-controller"
    workers = 1

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.volumes = shared.informers.of("persistentvolumes")
        self.volumes.on_change(enqueue(self))

    async def sync(self, key: str) -> float | None:
        volume = self.volumes.get(key)
        if volume is not None:
            await _write(self, "persistentvolumes", volume, plan_volume(volume))
        return None


class AttributesClassProtectionController(Controller):
    name = "volumeattributesclass-protection-controller"
    workers = 1

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.classes = shared.informers.of(CLASSES)
        self.claims = shared.informers.of("persistentvolumeclaims")
        self.volumes = shared.informers.of("persistentvolumes")
        self.classes.on_change(enqueue(self))
        for users in (self.claims, self.volumes):
            users.on_change(self._user_changed)

    def _user_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        for name in classes_of(old or {}) - classes_of(new or {}):
            self.queue.add(name)

    async def sync(self, key: str) -> float | None:
        for informer in (self.classes, self.claims, self.volumes):
            await informer.synced.wait()
        attributes = self.classes.get(key)
        if attributes is None:
            return None
        plan = plan_class(attributes, self.claims.items(), self.volumes.items())
        if plan.finalizers is not None and "deletionTimestamp" in attributes["metadata"]:
            # The copies may lack what has just been made: before the class is given up the server is asked.
            listed = [await self.client.list(one) for one in ("persistentvolumeclaims", "persistentvolumes")]
            plan = plan_class(attributes, *((one.get("items") or []) for one in listed))
        await _write(self, CLASSES, attributes, plan)
        return None


async def _write(controller: Controller, resource: str, obj: Object, plan: Plan) -> None:
    """Carry out a plan, if the object is still the one it was made for; the next event brings what changed."""
    if plan.finalizers is None:
        return
    body = {**obj, "metadata": {**obj["metadata"], "finalizers": plan.finalizers}}
    try:
        await controller.client.update(resource, body)
    except ApiError as error:
        if error.code not in (404, 409):
            raise

"""persistentVolumeClaim and ephemeral volumes: which PersistentVolume a pod means, and whether it may have it. Pure.

The way goes from the pod's volume to the claim, from the claim to the volume it is bound to, and back: the volume must
say that it belongs to this very claim. Each broken link is an event in the kubelet's words, and tried again. A volume that is
bound to nodes (local ones are) must name this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bamikube.api.predicates import affinity
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.volumes.faults import AFFINITY, NotProcessed, StepFailed

ONE_POD = ["ReadWriteOncePod"]
_LONGEST_ID = 19  # digits of a number of 64 bits, so that none is longer
GROUP = "pv.beta.kubernetes.io/gid"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a volume of a pod asks for."""

    name: str
    read_only: bool = False
    own: bool = False  # made for this pod alone (a generic ephemeral volume)


def claim_of(pod: JSON, volume: JSON) -> Claim | None:
    """The claim that a volume of the pod goes through, None for all other kinds."""
    if source := volume.get("persistentVolumeClaim"):
        return Claim(source.get("claimName", ""), bool(source.get("readOnly")))
    if "ephemeral" in volume:
        return Claim(f"{pod['metadata']['name']}-{volume['name']}", own=True)
    return None


def bound(pod: JSON, wanted: Claim, claim: JSON | None) -> str:
    """The name of the volume that the claim is bound to. Raises NotProcessed."""
    where = f"{pod['metadata'].get('namespace', '')}/{wanted.name}"

    def refuse(why: str) -> NotProcessed:
        return NotProcessed(f"error processing PVC {where}: {why}")

    if claim is None:
        why = f'persistentvolumeclaims "{wanted.name}" not found'
        raise refuse(f"failed to fetch PVC from API server: {why}")
    owners = claim["metadata"].get("ownerReferences") or ()
    if wanted.own and not any(o.get("controller") and o.get("uid") == facts.uid(pod) for o in owners):
        asker = f"{pod['metadata'].get('namespace', '')}/{pod['metadata']['name']}"
        raise NotProcessed(f"PVC {where} was not created for pod {asker} (pod is not owner)")
    if claim["metadata"].get("deletionTimestamp"):
        raise refuse("PVC is being deleted")
    if (claim.get("status") or {}).get("phase") != "Bound":
        raise refuse("PVC is not bound")
    name = (claim.get("spec") or {}).get("volumeName")
    if not name:
        raise refuse("PVC has empty pvc.Spec.VolumeName")
    return str(name)


def behind(pod: JSON, volume: JSON, wanted: Claim, claim: JSON, found: JSON | None) -> JSON:
    """The persistent volume, if it is this claim's and can be mounted. Raises NotProcessed."""
    name, uid = claim["spec"]["volumeName"], claim["metadata"].get("uid", "")
    where = f"error processing PVC {pod['metadata'].get('namespace', '')}/{wanted.name}"
    if found is None:
        why = f'persistentvolumes "{name}" not found'
        raise NotProcessed(f"{where}: failed to fetch PV {name} from API server: {why}")
    owner = found["spec"].get("claimRef")
    if not owner:
        why = "but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        raise NotProcessed(f"{where}: found PV object {name} {why}")
    if owner.get("uid", "") != uid:
        why = f"but its pv.Spec.ClaimRef.UID {owner.get('uid', '')} does not point to claim.UID {uid}"
        raise NotProcessed(f"{where}: found PV object {name} {why}")
    mode = volume_mode(found)
    everyone = (*facts.all_containers(pod), *(pod["spec"].get("ephemeralContainers") or ()))
    for field, wrong in (("volumeMounts", mode != "Filesystem"), ("volumeDevices", mode != "Block")):
        if wrong and any(item["name"] == volume["name"] for c in everyone for item in c.get(field) or ()):
            raise NotProcessed(f"volume {volume['name']} has volumeMode {mode}, but is specified in {field}")
    return found


def check_node(found: JSON, labels: Mapping[str, str], node: str) -> None:
    """Raise StepFailed unless the volume may be used on this node."""
    required = (found["spec"].get("nodeAffinity") or {}).get("required")
    if required is None:
        return
    if not any(affinity.term(term)(labels, node) for term in required.get("nodeSelectorTerms") or ()):
        raise StepFailed(AFFINITY, "no matching NodeSelectorTerms")


def group_of(found: JSON | None) -> int | None:
    """The group that whoever made a persistent volume gave it, by annotation; what is no number counts as none."""
    text = str((((found or {}).get("metadata") or {}).get("annotations") or {}).get(GROUP) or "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < _LONGEST_ID else None


def volume_mode(found: JSON) -> str:
    """Filesystem, or Block for a bare device."""
    return str(found["spec"].get("volumeMode") or "Filesystem")


def for_one_pod(found: JSON) -> bool:
    """Whether only one pod at a time may use it."""
    return bool(found["spec"].get("accessModes") == ONE_POD)

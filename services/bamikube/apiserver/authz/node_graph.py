"""Which objects belong to which node: the paths that lead from an object to a node.

::

    node <- pod <- secret, config map, claim, resource claim, service account
    node <- pod <- claim <- volume <- secret        (what a driver needs on the node, not in the control plane)
    node <- attachment of a volume
    node <- resource slice

What pods refer to is counted for each node as pods come and go, so that a question about a secret costs one look-up.
A volume is found by its claim, its secrets by an index of their own; attachments and slices name their node themselves.

Source: Kubernetes' "Using Node Authorization"; KEP-279 (limit node access).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bamikube.apiserver.registry.reader import Reader

PODS = ("", "pods")
VOLUMES = ("", "persistentvolumes")
ATTACHMENTS = ("storage.k8s.io", "volumeattachments")
SLICES = ("resource.k8s.io", "resourceslices")
MIRROR = "kubernetes.io/config.mirror"

Object = Mapping[str, Any]
Reference = tuple[str, str, str]  # plural, namespace, name

# Drivers whose volumes in a pod name a secret of the pod's namespace, by the field that holds the reference.
_POD_SECRETS = (
    ("csi", "nodePublishSecretRef"),
    *((driver, "secretRef") for driver in ("cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos")),
)
# The same for volumes; of a CSI driver's, those that are used on the node.
_VOLUME_SECRETS = (
    *(("csi", f"{step}SecretRef") for step in ("nodePublish", "nodeStage", "nodeExpand")),
    *((driver, "secretRef") for driver in ("cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos")),
)


class NodeGraph:
    """The paths, kept from the cache's changes."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._pods: dict[tuple[str, str], tuple[str, frozenset[Reference]]] = {}
        self._references: dict[str, dict[Reference, int]] = {}  # node -> reference -> how many of its pods
        self._volume_secrets: dict[tuple[str, str], set[str]] = {}  # secret -> volumes that name it
        reader.subscribe(PODS, self._pod_changed)
        reader.subscribe(VOLUMES, self._volume_changed)

    def leads(self, node: str, plural: str, namespace: str, name: str) -> bool:
        """Whether a path leads from the object to the node."""
        match plural:
            case "pods":
                return self._pods.get((namespace, name), ("",))[0] == node
            case "persistentvolumes":
                return self._of_claim(node, name)
            case "volumeattachments":
                return self._names(ATTACHMENTS, name, node)
            case "resourceslices":
                return self._names(SLICES, name, node)
        if (plural, namespace, name) in self._references.get(node, ()):
            return True
        return plural == "secrets" and any(
            self._of_claim(node, volume) for volume in self._volume_secrets.get((namespace, name), ())
        )

    def _of_claim(self, node: str, volume: str) -> bool:
        found = self._reader.get(VOLUMES, "", volume)
        claim = ((found or {}).get("spec") or {}).get("claimRef") or {}
        wanted = ("persistentvolumeclaims", claim.get("namespace", ""), claim.get("name", ""))
        return wanted in self._references.get(node, ())

    def _names(self, key: tuple[str, str], name: str, node: str) -> bool:
        found = self._reader.get(key, "", name)
        return found is not None and (found.get("spec") or {}).get("nodeName") == node

    def _pod_changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        known = new or old
        if known is None:
            return
        key = (known["metadata"].get("namespace", ""), known["metadata"]["name"])
        node = ((new or {}).get("spec") or {}).get("nodeName", "")
        before = self._pods.get(key)
        # Mirror pods are made by a node itself: they must not open anything to it.
        mirror = MIRROR in (known["metadata"].get("annotations") or {})
        after = (node, frozenset() if mirror or new is None else references(new)) if node else None
        if before == after:
            return
        if before is not None:
            counts = self._references.get(before[0], {})
            for reference in before[1]:
                counts[reference] -= 1
                if not counts[reference]:
                    del counts[reference]
            del self._pods[key]
        if after is not None:
            self._pods[key] = after
            counts = self._references.setdefault(node, {})
            for reference in after[1]:
                counts[reference] = counts.get(reference, 0) + 1

    def _volume_changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        before, after = (set(volume_secrets(one)) if one is not None else set() for one in (old, new))
        name = (new or old or {})["metadata"]["name"]
        for secret in before - after:
            volumes = self._volume_secrets[secret]
            volumes.discard(name)
            if not volumes:
                del self._volume_secrets[secret]
        for secret in after - before:
            self._volume_secrets.setdefault(secret, set()).add(name)


def references(pod: Object) -> frozenset[Reference]:
    """Every secret, config map, claim and service account that a pod names."""
    namespace = pod["metadata"].get("namespace", "")
    spec = pod.get("spec") or {}
    found: set[Reference] = set()

    def note(plural: str, name: str | None) -> None:
        if name:
            found.add((plural, namespace, name))

    note("serviceaccounts", spec.get("serviceAccountName"))
    for secret in spec.get("imagePullSecrets") or []:
        note("secrets", secret.get("name"))
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or []:
            for source in container.get("envFrom") or []:
                note("configmaps", (source.get("configMapRef") or {}).get("name"))
                note("secrets", (source.get("secretRef") or {}).get("name"))
            for variable in container.get("env") or []:
                source = variable.get("valueFrom") or {}
                note("configmaps", (source.get("configMapKeyRef") or {}).get("name"))
                note("secrets", (source.get("secretKeyRef") or {}).get("name"))
    for volume in spec.get("volumes") or []:
        note("configmaps", (volume.get("configMap") or {}).get("name"))
        note("secrets", (volume.get("secret") or {}).get("secretName"))
        note("secrets", (volume.get("azureFile") or {}).get("secretName"))
        note("persistentvolumeclaims", claim_of(pod, volume))
        for source in (volume.get("projected") or {}).get("sources") or []:
            note("configmaps", (source.get("configMap") or {}).get("name"))
            note("secrets", (source.get("secret") or {}).get("name"))
        for driver, field in _POD_SECRETS:
            note("secrets", ((volume.get(driver) or {}).get(field) or {}).get("name"))
    for name in _resource_claims(pod):
        note("resourceclaims", name)
    return frozenset(found)


def claim_of(pod: Object, volume: Object) -> str:
    """The name of the claim behind a volume of a pod, "" when there is none."""
    if "ephemeral" in volume:
        return f"{pod['metadata']['name']}-{volume.get('name')}"
    return str((volume.get("persistentVolumeClaim") or {}).get("claimName") or "")


def _resource_claims(pod: Object) -> Iterable[str]:
    """Claims that the pod names itself, and those made for it from templates, which its status tells."""
    made = {
        one.get("name"): one.get("resourceClaimName")
        for one in (pod.get("status") or {}).get("resourceClaimStatuses") or []
    }
    for claim in (pod.get("spec") or {}).get("resourceClaims") or []:
        name = claim.get("resourceClaimName") or made.get(claim.get("name"))
        if name:
            yield name


def volume_secrets(volume: Object) -> Iterable[tuple[str, str]]:
    """Namespace and name of the secrets that a node needs for a volume that is bound."""
    spec = volume.get("spec") or {}
    claim = spec.get("claimRef")
    if not claim:
        return
    home = claim.get("namespace", "")
    azure = spec.get("azureFile") or {}
    if azure.get("secretName"):
        yield azure.get("secretNamespace") or home, azure["secretName"]
    for driver, field in _VOLUME_SECRETS:
        held = (spec.get(driver) or {}).get(field) or {}
        if held.get("name"):
            yield held.get("namespace") or home, held["name"]

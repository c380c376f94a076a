"""What pods and volumes refer to by name: secrets, config maps, claims, service accounts.

Who may read it (the node authorizer) and whether it is still in use (the cleaner of legacy tokens) are decided by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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

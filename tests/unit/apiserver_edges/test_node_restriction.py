"""NodeRestriction looks inside what a node writes, and at which tokens and certificates it asks for."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bamikube.api.errors import ApiError
from bamikube.api.node_labels import own as own_label
from bamikube.api.table import by_name
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.node_restriction import NodeRestriction
from bamikube.apiserver.authz import Authorizer
from tests.unit.apiserver_edges.test_node_rights import NODE, PODS, on_node, pod

RBAC = "rbac.authorization.k8s.io"
KEY = ec.generate_private_key(ec.SECP256R1())


async def test_admission_looks_inside_what_a_node_writes(reader: Any) -> None:
    plugin = NodeRestriction(reader, Authorizer(reader))
    node = {"metadata": {"name": "worker-1"}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}

    async def update(new: dict[str, Any], old: dict[str, Any]) -> None:
        await plugin.mutate(AdmissionContext("UPDATE", by_name("nodes"), "", "worker-1", NODE, new, old, ""))

    await update({**node, "status": {}}, node)
    with pytest.raises(ApiError, match="not allowed to modify taints"):
        await update({**node, "spec": {}}, node)
    labelled = {**node, "metadata": {"name": "worker-1", "labels": {"node-restriction.kubernetes.io/x": "y"}}}
    with pytest.raises(ApiError, match="not allowed to modify labels"):
        await update(labelled, node)
    with pytest.raises(ApiError, match="can only create mirror pods"):
        await plugin.mutate(AdmissionContext("CREATE", by_name("pods"), "web", "p", NODE, pod(), None))


OWNER = {"apiVersion": "v1", "kind": "Node", "name": "worker-1", "uid": "n1", "controller": True}
MIRRORED = {"kubernetes.io/config.mirror": "hash"}


def mirror(owners: list[dict[str, Any]], node: str = "worker-1", **spec: Any) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "web", "annotations": MIRRORED, "ownerReferences": owners}
    return {"metadata": metadata, "spec": {"nodeName": node, "containers": [], **spec}}


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        (mirror([OWNER]), ""),
        (
            mirror([OWNER], "worker-2"),
            'node "worker-1" can only create pods with spec.nodeName set to itself',
        ),
        (mirror([]), 'node "worker-1" can only create pods with an owner reference set to itself'),
        (mirror([OWNER | {"kind": "Pod"}]), "can only create pods with an owner reference set to itself"),
        (mirror([OWNER, OWNER]), "can only create pods with a single owner reference set to itself"),
        (mirror([OWNER | {"controller": False}]), "can only create pods with a controller owner reference"),
        (
            mirror([OWNER | {"blockOwnerDeletion": True}]),
            "must not set blockOwnerDeletion on an owner reference",
        ),
        (mirror([OWNER | {"uid": "old"}]), "node worker-1 UID mismatch: expected old got n1"),
        (mirror([OWNER], serviceAccountName="a"), "can not create pods that reference a service account"),
        (
            mirror([OWNER], volumes=[{"name": "v", "secret": {"secretName": "s"}}]),
            "can not create pods that reference secrets",
        ),
        (
            mirror([OWNER], resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "t"}]),
            "can not create pods that reference resourceclaims",
        ),
    ],
)
async def test_mirror_pods(reader: Any, obj: dict[str, Any], why: str) -> None:
    reader.put(("", "nodes"), {"metadata": {"name": "worker-1", "uid": "n1"}})
    plugin = NodeRestriction(reader, Authorizer(reader))
    ctx = AdmissionContext("CREATE", by_name("pods"), "web", "p", NODE, obj, None)
    if not why:
        await plugin.mutate(ctx)
        return
    with pytest.raises(ApiError) as caught:
        await plugin.mutate(ctx)
    assert why in caught.value.message


async def test_what_a_node_says_of_pods_and_claims(reader: Any) -> None:
    plugin = NodeRestriction(reader, Authorizer(reader))

    async def status(plural: str, new: dict[str, Any], old: dict[str, Any]) -> None:
        row = by_name(plural)
        await plugin.mutate(AdmissionContext("UPDATE", row, "web", "p", NODE, new, old, "status"))

    mine = mirror([OWNER])
    await status("pods", {**mine, "status": {"phase": "Running"}}, mine)
    with pytest.raises(
        ApiError, match=r"can only update pod status for pods with spec.nodeName set to itself"
    ):
        await status("pods", mine, mirror([OWNER], "worker-2"))
    labelled = {**mine, "metadata": {**mine["metadata"], "labels": {"a": "b"}}}
    with pytest.raises(ApiError, match='node "worker-1" cannot update labels through pod status'):
        await status("pods", labelled, mine)
    claim = {"metadata": {"name": "p", "namespace": "web"}, "spec": {}, "status": {"phase": "Bound"}}
    await status(
        "persistentvolumeclaims",
        {**claim, "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}}},
        claim,
    )
    with pytest.raises(ApiError, match=r"not allowed to update fields other than status.capacity"):
        await status("persistentvolumeclaims", {**claim, "status": {"phase": "Lost"}}, claim)


def test_labels_that_a_node_may_set_on_itself() -> None:
    assert own_label("disk") and own_label("kubernetes.io/arch") and own_label("example.com/x")
    assert own_label("kubelet.kubernetes.io/x")
    assert not own_label("failure-domain.kubernetes.io/zone") and not own_label("x.k8s.io/a")
    assert not own_label("node-role.kubernetes.io/control-plane") and not own_label(
        "node-restriction.kubernetes.io/a"
    )


def token_request(*audiences: str, uid: str = "u1", **more: Any) -> AdmissionContext:
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid} | more
    asked = {"spec": {"audiences": list(audiences), "boundObjectRef": bound}}
    return AdmissionContext(
        "CREATE", by_name("serviceaccounts"), "web", "bot", NODE, asked, None, subresource="token"
    )


async def test_a_node_gets_tokens_for_the_audiences_of_its_pods_only(reader: Any) -> None:
    plugin = NodeRestriction(reader, Authorizer(reader))

    async def refused(*audiences: str, **more: Any) -> str:
        with pytest.raises(ApiError) as caught:
            await plugin.mutate(token_request(*audiences, **more))
        assert caught.value.code == 403
        return caught.value.message.removeprefix('serviceaccounts "bot" is forbidden: ')

    volumes: list[dict[str, Any]] = [
        {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}]}},
    ]
    reader.put(PODS, pod(volumes=volumes))
    await plugin.mutate(token_request())
    await plugin.mutate(token_request("vault"))
    cannot = "system:node:worker-1 is not authorized to request tokens for this audience"
    assert await refused("cloud") == f'audience "cloud" not found in pod spec volume, {cannot}'
    assert await refused("vault", "cloud") == "node may only request 0 or 1 audiences"
    assert await refused(kind="Secret") == "node requested token not bound to a pod"
    assert await refused(uid="") == "node requested token with a pod binding without a uid"
    assert "does not match the UID in record" in await refused(uid="u2")
    # A CSI driver's tokens, for a volume of the pod itself or one behind a claim.
    of_pod = {"name": "d", "csi": {"driver": "secrets.example.com"}}
    reader.put(PODS, pod(volumes=[of_pod]))
    missing = 'error validating audience "cloud": csidriver.storage.k8s.io "secrets.example.com" not found'
    assert await refused("cloud") == missing
    driver = {"metadata": {"name": "secrets.example.com"}, "spec": {"tokenRequests": [{"audience": "cloud"}]}}
    reader.put(("storage.k8s.io", "csidrivers"), driver)
    await plugin.mutate(token_request("cloud"))
    behind = {"name": "d", "persistentVolumeClaim": {"claimName": "disk"}}
    reader.put(PODS, pod(volumes=[behind]))
    missing = 'error validating audience "cloud": persistentvolumeclaim "disk" not found'
    assert await refused("cloud") == missing
    claim = {"metadata": {"name": "disk", "namespace": "web"}, "spec": {"volumeName": "v"}}
    reader.put(("", "persistentvolumeclaims"), claim)
    volume = {"metadata": {"name": "v"}, "spec": {"csi": {"driver": "secrets.example.com"}}}
    reader.put(("", "persistentvolumes"), volume)
    await plugin.mutate(token_request("cloud"))
    # What RBAC allows: the audience is the resource, the service account the name.
    rule = {
        "verbs": ["request-serviceaccounts-token-audience"],
        "apiGroups": [""],
        "resources": ["registry"],
        "resourceNames": ["bot"],
    }
    assert cannot in await refused("registry")
    reader.put((RBAC, "clusterroles"), {"metadata": {"name": "audience"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "audience"},
        "roleRef": {"kind": "ClusterRole", "name": "audience"},
        "subjects": [{"kind": "Group", "name": "system:nodes"}],
    }
    reader.put((RBAC, "clusterrolebindings"), binding)
    await plugin.mutate(token_request("registry"))
    assert cannot in await refused("other")
    reader.put(PODS, pod("worker-2"))
    assert await refused("") == "node requested token bound to a pod scheduled on a different node"


def signing_request(name: str, signer: str) -> dict[str, Any]:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(KEY, hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM)
    return {
        "metadata": {"name": "r"},
        "spec": {"signerName": signer, "request": base64.b64encode(pem).decode()},
    }


async def test_what_else_a_node_may_not_write(reader: Any) -> None:
    plugin = NodeRestriction(reader, Authorizer(reader))
    pod_of_other, node = pod("worker-2"), {"metadata": {"name": "worker-1"}, "spec": {}}
    reader.put(PODS, pod_of_other)
    serving = "kubernetes.io/kubelet-serving"
    mine, other = (signing_request(f"system:node:{name}", serving) for name in ("worker-1", "worker-2"))
    source = {**node, "spec": {"configSource": {}}}
    owned = {**node, "metadata": {**node["metadata"], "ownerReferences": [OWNER]}}
    claim = {"metadata": {"name": "c"}, "spec": {}}
    names = "with the same name as the requesting node"
    cases: list[tuple[str, str, str, Any, Any, str]] = [
        ("DELETE", "pods", "p", None, pod_of_other, "can only delete pods with spec.nodeName set to itself"),
        (
            "CREATE",
            "pods/eviction",
            "p",
            {},
            None,
            "node worker-1 can only evict pods with spec.nodeName set",
        ),
        ("DELETE", "pods", "gone", None, None, 'pods "gone" not found'),
        (
            "UPDATE",
            "pods",
            "p",
            pod(),
            pod(),
            'unexpected operation "UPDATE", node "worker-1" can only create',
        ),
        (
            "CREATE",
            "pods/binding",
            "p",
            {},
            None,
            "unexpected pod subresource \"binding\", only 'status' and",
        ),
        ("UPDATE", "nodes", "worker-2", node, node, 'is not allowed to modify node "worker-2"'),
        ("CREATE", "nodes", "", source, None, "not allowed to create pods with a non-nil configSource"),
        ("UPDATE", "nodes", "worker-1", source, node, "not allowed to update configSource to a new non-nil"),
        ("UPDATE", "nodes", "worker-1", owned, node, "is not allowed to modify ownerReferences"),
        ("UPDATE", "persistentvolumeclaims", "c", claim, claim, "may only update PVC status"),
        ("CREATE", "certificatesigningrequests.certificates.k8s.io", "", mine, None, ""),
        (
            "CREATE",
            "certificatesigningrequests.certificates.k8s.io",
            "",
            other,
            None,
            "with CN=system:node:worker-1",
        ),
        (
            "CREATE",
            "certificatesigningrequests.certificates.k8s.io",
            "",
            signing_request("x", "a.b/c"),
            None,
            "",
        ),
        (
            "CREATE",
            "certificatesigningrequests.certificates.k8s.io",
            "",
            {"metadata": {}, "spec": {"signerName": serving, "request": "eA=="}},
            None,
            "unable to parse csr: ",
        ),
        (
            "CREATE",
            "csinodes.storage.k8s.io",
            "",
            {"metadata": {"name": "x"}},
            None,
            f"can only access CSINode {names}",
        ),
        ("CREATE", "resourceslices.resource.k8s.io", "", on_node("s", "worker-1"), None, ""),
        (
            "CREATE",
            "resourceslices.resource.k8s.io",
            "",
            on_node("s", "x"),
            None,
            "can only create ResourceSlice with the same",
        ),
        (
            "DELETE",
            "resourceslices.resource.k8s.io",
            "s",
            None,
            on_node("s", "x"),
            "can only delete ResourceSlice with the",
        ),
        ("DELETE", "resourceslices.resource.k8s.io", "", None, None, ""),
    ]
    for operation, plural, name, new, old, why in cases:
        row, _, subresource = plural.partition("/")
        ctx = AdmissionContext(operation, by_name(row), "web", name, NODE, new, old, subresource)  # type: ignore[arg-type]
        if not why:
            await plugin.mutate(ctx)
            continue
        with pytest.raises(ApiError) as caught:
            await plugin.mutate(ctx)
        assert why in caught.value.message, (operation, plural)
    lease = {"metadata": {"name": "worker-1", "namespace": "web"}}
    elsewhere = AdmissionContext("CREATE", by_name("leases.coordination.k8s.io"), "web", "", NODE, lease)
    with pytest.raises(ApiError, match='can only access leases in the "kube-node-lease" system namespace'):
        await plugin.mutate(elsewhere)

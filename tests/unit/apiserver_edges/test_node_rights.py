"""What a node may read follows the pods that are bound to it."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api.errors import ApiError
from bamikube.api.table import by_name
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.node_restriction import NodeRestriction, own_label
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authz import Authorizer
from bamikube.apiserver.authz.node import references
from bamikube.apiserver.identity import User

NODE = User("system:node:worker-1", ("system:nodes", "system:authenticated"))
PODS = ("", "pods")


def pod(node: str = "worker-1", **spec: Any) -> dict[str, Any]:
    made = {
        "serviceAccountName": "bot",
        "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "env"}}]}],
        "volumes": [
            {"name": "v", "configMap": {"name": "conf"}},
            {"name": "s", "secret": {"secretName": "tls"}},
        ],
        **spec,
    }
    if node:
        made["nodeName"] = node
    return {"metadata": {"name": "p", "namespace": "web", "uid": "u1"}, "spec": made}


def may(
    authorizer: Authorizer, verb: str, resource: str, name: str = "", namespace: str = "web", **more: Any
) -> bool:
    resource, _, subresource = resource.partition("/")
    asked = Attributes(
        NODE, verb, resource=resource, subresource=subresource, name=name, namespace=namespace, **more
    )
    return authorizer.authorize(asked).allowed


def test_secrets_are_open_while_a_pod_of_the_node_refers_to_them(reader: Any) -> None:
    authorizer = Authorizer(reader)
    assert not may(authorizer, "get", "secrets", "tls")
    reader.put(PODS, pod())
    for kind, name in (("secrets", "tls"), ("secrets", "env"), ("configmaps", "conf")):
        assert may(authorizer, "get", kind, name)
        assert may(authorizer, "watch", kind, field_selector=f"metadata.name={name}")
    assert may(authorizer, "create", "serviceaccounts/token", "bot")
    assert not may(authorizer, "list", "secrets")
    assert not may(authorizer, "get", "secrets", "other")
    assert not may(authorizer, "create", "serviceaccounts/token", "default")
    reader.put(PODS, pod("worker-2"))
    assert not may(authorizer, "get", "secrets", "tls")
    reader.drop(PODS, "web", "p")
    assert not may(authorizer, "get", "secrets", "tls")


def test_pods_nodes_and_leases(reader: Any) -> None:
    authorizer = Authorizer(reader)
    reader.put(PODS, pod("worker-2"))
    assert not may(authorizer, "get", "pods", "p")
    assert not may(authorizer, "list", "pods", namespace="")
    assert may(authorizer, "list", "pods", namespace="", field_selector="spec.nodeName=worker-1")
    assert may(authorizer, "patch", "nodes/status", "worker-1", namespace="")
    assert not may(authorizer, "patch", "nodes/status", "worker-2", namespace="")
    lease = {"group": "coordination.k8s.io", "namespace": "kube-node-lease"}
    assert may(authorizer, "update", "leases", "worker-1", **lease)
    assert not may(authorizer, "update", "leases", "worker-2", **lease)
    assert not may(authorizer, "update", "leases", "worker-1", **{**lease, "namespace": "default"})


def test_references_of_a_pod_are_complete() -> None:
    spec = {
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [
            {"name": "i", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "key"}}}]}
        ],
        "volumes": [
            {
                "name": "p",
                "projected": {"sources": [{"secret": {"name": "proj"}}, {"configMap": {"name": "ca"}}]},
            },
            {"name": "d", "persistentVolumeClaim": {"claimName": "disk"}},
        ],
    }
    names = {(kind, name) for kind, _, name in references(pod(**spec))}
    assert names == {
        ("serviceaccounts", "bot"),
        ("secrets", "pull"),
        ("secrets", "env"),
        ("configmaps", "key"),
        ("secrets", "proj"),
        ("configmaps", "ca"),
        ("persistentvolumeclaims", "disk"),
    }


async def test_admission_looks_inside_what_a_node_writes(reader: Any) -> None:
    plugin = NodeRestriction(reader)
    node = {"metadata": {"name": "worker-1"}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}

    async def update(new: dict[str, Any], old: dict[str, Any]) -> None:
        await plugin.validate(
            AdmissionContext("UPDATE", by_name("nodes"), "", "worker-1", NODE, new, old, "")
        )

    await update({**node, "status": {}}, node)
    with pytest.raises(ApiError, match="not allowed to modify taints"):
        await update({**node, "spec": {}}, node)
    labelled = {**node, "metadata": {"name": "worker-1", "labels": {"node-restriction.kubernetes.io/x": "y"}}}
    with pytest.raises(ApiError, match="not allowed to modify labels"):
        await update(labelled, node)
    with pytest.raises(ApiError, match="can only create mirror pods"):
        await plugin.validate(AdmissionContext("CREATE", by_name("pods"), "web", "p", NODE, pod(), None))


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
    ],
)
async def test_mirror_pods(reader: Any, obj: dict[str, Any], why: str) -> None:
    reader.put(("", "nodes"), {"metadata": {"name": "worker-1", "uid": "n1"}})
    ctx = AdmissionContext("CREATE", by_name("pods"), "web", "p", NODE, obj, None)
    if not why:
        await NodeRestriction(reader).validate(ctx)
        return
    with pytest.raises(ApiError) as caught:
        await NodeRestriction(reader).validate(ctx)
    assert why in caught.value.message


async def test_what_a_node_says_of_pods_and_claims(reader: Any) -> None:
    plugin = NodeRestriction(reader)

    async def status(plural: str, new: dict[str, Any], old: dict[str, Any]) -> None:
        row = by_name(plural)
        await plugin.validate(AdmissionContext("UPDATE", row, "web", "p", NODE, new, old, "status"))

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
    assert not own_label("node-role.kubernetes.io/control-plane") and not own_label(
        "node-restriction.kubernetes.io/a"
    )

"""What a node may read follows the pods that are bound to it."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api.predicates.references import references
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authz import Authorizer
from bamikube.apiserver.authz.verdict import Verdict
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


def verdict(
    authorizer: Authorizer, verb: str, resource: str, name: str = "", namespace: str = "web", **more: Any
) -> Verdict:
    resource, _, subresource = resource.partition("/")
    return authorizer.authorize(
        Attributes(
            NODE, verb, resource=resource, subresource=subresource, name=name, namespace=namespace, **more
        )
    )


def may(authorizer: Authorizer, verb: str, resource: str, *about: str, **more: Any) -> bool:
    return verdict(authorizer, verb, resource, *about, **more).allowed


def test_secrets_are_open_while_a_pod_of_the_node_refers_to_them(reader: Any) -> None:
    authorizer = Authorizer(reader)
    assert not may(authorizer, "get", "secrets", "tls")
    reader.put(PODS, pod())
    for kind, name in (("secrets", "tls"), ("secrets", "env"), ("configmaps", "conf")):
        assert may(authorizer, "get", kind, name)
        assert may(authorizer, "watch", kind, name)
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
    lease = {"group": "coordination.k8s.io", "namespace": "kube-node-lease"}
    assert may(authorizer, "update", "leases", "worker-1", **lease)
    assert not may(authorizer, "update", "leases", "worker-2", **lease)
    assert not may(authorizer, "update", "leases", "worker-1", **{**lease, "namespace": "default"})


NONE = "no relationship found between node 'worker-1' and this object"
CSI_NODES = {"group": "storage.k8s.io", "namespace": ""}
SLICES = {"group": "resource.k8s.io", "namespace": ""}
LEASES = {"group": "coordination.k8s.io", "namespace": "kube-node-lease"}


@pytest.mark.parametrize(
    ("verb", "resource", "name", "more", "reason"),
    [
        ("update", "secrets", "s", {}, "can only read resources of this type"),
        ("get", "secrets/x", "s", {}, "cannot read subresource"),
        ("list", "secrets", "", {"namespace": ""}, "can only read namespaced object of this type"),
        ("list", "secrets", "", {}, "No Object name found"),
        ("get", "secrets", "s", {}, NONE),
        ("list", "persistentvolumeclaims", "", {}, "can only get individual resources of this type"),
        ("get", "persistentvolumes/status", "v", {"namespace": ""}, "cannot get subresource"),
        ("get", "persistentvolumeclaims/status", "c", {}, "can only get/update/patch this type"),
        ("patch", "persistentvolumeclaims/status", "c", {}, NONE),
        ("create", "serviceaccounts", "a", {}, "can only create token subresource of serviceaccount"),
        ("list", "serviceaccounts", "", {}, "can only create tokens for individual service accounts"),
        ("get", "serviceaccounts", "a", {}, NONE),
        ("list", "leases", "", LEASES, "can only get, create, update, patch, or delete a node lease"),
        (
            "get",
            "leases",
            "worker-1",
            LEASES | {"namespace": "default"},
            'can only access leases in the "kube-node-lease" system namespace',
        ),
        (
            "get",
            "leases",
            "worker-2",
            LEASES,
            "can only access node lease with the same name as the requesting node",
        ),
        ("list", "csinodes", "", CSI_NODES, "can only get, create, update, patch, or delete a CSINode"),
        ("get", "csinodes/x", "worker-1", CSI_NODES, "cannot authorize CSINode subresources"),
        (
            "get",
            "csinodes",
            "worker-2",
            CSI_NODES,
            "can only access CSINode with the same name as the requesting node",
        ),
        ("get", "volumeattachments", "a", CSI_NODES, NONE),
        ("get", "resourceslices", "s", SLICES, NONE),
        (
            "list",
            "resourceslices",
            "",
            SLICES,
            "can only list/watch/deletecollection resourceslices with nodeName field selector",
        ),
        (
            "bind",
            "resourceslices",
            "s",
            SLICES,
            "only the following verbs are allowed for a ResourceSlice: "
            "get, watch, list, create, update, patch, delete, deletecollection",
        ),
        (
            "list",
            "nodes",
            "",
            {"namespace": ""},
            "node 'worker-1' cannot read all nodes, only its own Node object",
        ),
        (
            "get",
            "nodes",
            "w",
            {"namespace": ""},
            "node 'worker-1' cannot read 'w', only its own Node object",
        ),
        ("get", "pods", "p", {}, NONE),
        ("watch", "pods", "", {}, "can only list/watch pods with spec.nodeName field selector"),
        ("list", "pods", "", {"field_selector": "spec.nodeName!=worker-1"}, "can only list/watch pods with"),
        ("list", "namespaces", "", {"namespace": ""}, ""),
        ("create", "pods/exec", "p", {}, ""),
    ],
)
def test_refusals_say_why_as_kubernetes_does(
    reader: Any, verb: str, resource: str, name: str, more: dict[str, Any], reason: str
) -> None:
    said = verdict(Authorizer(reader), verb, resource, name, **more)
    assert not said.allowed and said.reason.startswith(reason) and bool(said.reason) == bool(reason)


def test_a_node_without_a_name_is_unknown(reader: Any) -> None:
    nobody = User("system:node:", ("system:nodes",))
    said = Authorizer(reader).authorize(Attributes(nobody, "get", resource="services"))
    assert said == Verdict(False, 'unknown node for user "system:node:"')


def test_paths_that_lead_to_a_node_through_volumes_claims_and_slices(reader: Any) -> None:
    authorizer = Authorizer(reader)
    volume = {
        "metadata": {"name": "v"},
        "spec": {
            "claimRef": {"namespace": "web", "name": "disk"},
            "csi": {
                "driver": "d",
                "nodeStageSecretRef": {"namespace": "store", "name": "stage"},
                "controllerPublishSecretRef": {"namespace": "store", "name": "controller"},
            },
        },
    }
    reader.put(("", "persistentvolumes"), volume)
    assert not may(authorizer, "get", "secrets", "stage", "store")
    claims = [{"name": "gpu", "resourceClaimTemplateName": "t"}, {"name": "own", "resourceClaimName": "mine"}]
    using = pod(
        volumes=[
            {"name": "d", "persistentVolumeClaim": {"claimName": "disk"}},
            {"name": "e", "ephemeral": {}},
        ],
        resourceClaims=claims,
    )
    reader.put(PODS, using)
    dra = {"group": "resource.k8s.io"}
    assert may(authorizer, "get", "persistentvolumes", "v", "")
    assert may(authorizer, "get", "persistentvolumeclaims", "p-e")
    assert may(authorizer, "update", "persistentvolumeclaims/status", "disk")
    assert may(authorizer, "get", "secrets", "stage", "store")
    assert not may(authorizer, "get", "secrets", "controller", "store")
    assert may(authorizer, "get", "serviceaccounts", "bot")
    assert may(authorizer, "get", "resourceclaims", "mine", **dra)
    assert not may(authorizer, "get", "resourceclaims", "p-gpu-x", **dra)
    made = {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-x"}]}
    reader.put(PODS, {**using, "status": made})
    assert may(authorizer, "get", "resourceclaims", "p-gpu-x", **dra)
    reader.put(("storage.k8s.io", "volumeattachments"), on_node("a", "worker-1"))
    reader.put(("resource.k8s.io", "resourceslices"), on_node("s", "worker-1"))
    assert may(authorizer, "get", "volumeattachments", "a", **CSI_NODES)
    assert may(authorizer, "update", "resourceslices", "s", **SLICES)
    mine = {"field_selector": "spec.nodeName=worker-1"}
    assert may(authorizer, "deletecollection", "resourceslices", **SLICES, **mine)
    reader.put(("", "persistentvolumes"), {**volume, "spec": {"csi": volume["spec"]["csi"]}})
    assert not may(authorizer, "get", "secrets", "stage", "store")
    assert not may(authorizer, "get", "persistentvolumes", "v", "")


def on_node(name: str, node: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"nodeName": node}}


def test_references_of_a_pod_are_complete() -> None:
    spec = {
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [
            {"name": "i", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "key"}}}]}
        ],
        "volumes": [
            {"name": "a", "azureFile": {"secretName": "share"}},
            {"name": "c", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "publish"}}},
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
        ("secrets", "share"),
        ("secrets", "publish"),
        ("configmaps", "ca"),
        ("persistentvolumeclaims", "disk"),
    }

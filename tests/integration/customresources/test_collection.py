"""Custom objects in the cluster's housekeeping: namespaces that go, owners that go, dependents that are kept."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.customresources.conftest import definition
from tests.integration.customresources.test_kubectl_and_clients import make
from tests.support.kubectl import Kubectl, until

OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def obj(
    kind: str, name: str, group: str, owner: dict[str, Any] | None = None, **extra: Any
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name} | extra
    if owner is not None:
        reference = {key: owner[key] for key in ("apiVersion", "kind")}
        reference |= {
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": True,
        }
        metadata["ownerReferences"] = [reference]
    return {"apiVersion": f"{group}/v1" if group else "v1", "kind": kind, "metadata": metadata}


def create(kubectl: Kubectl, body: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(body)))
    return made


def names(kubectl: Kubectl, kind: str) -> list[str]:
    listed = kubectl("get", kind, "-o", "jsonpath={.items[*].metadata.name}").split()
    return [name for name in listed if name != "kube-root-ca.crt"]


def test_owners_and_dependents_of_custom_kinds(kubectl: Kubectl) -> None:
    group = "owners.example.com"
    crds = [make(kubectl, definition(group, kind, schema=OPEN)) for kind in ("Parent", "Child")]
    parent = create(kubectl, obj("Parent", "p", group))
    child = create(kubectl, obj("Child", "c", group, parent))
    create(kubectl, obj("ConfigMap", "grandchild", "", child))
    kubectl("delete", "parent.owners.example.com", "p")
    until(lambda: not names(kubectl, "childs"), what="the child is collected")
    until(lambda: not names(kubectl, "configmaps"), what="the grandchild is collected")
    # In the foreground the dependents go first; orphans stay.
    parent = create(kubectl, obj("Parent", "p", group))
    create(kubectl, obj("Child", "c", group, parent))
    kubectl("delete", "parents", "p", "--cascade=foreground")
    assert names(kubectl, "parents") == [] and names(kubectl, "childs") == []
    parent = create(kubectl, obj("Parent", "p", group))
    create(kubectl, obj("Child", "c", group, parent))
    kubectl("delete", "parents", "p", "--cascade=orphan")
    kept = json.loads(kubectl("get", "childs", "c", "-o", "json"))
    assert "ownerReferences" not in kept["metadata"]
    # A built-in owner of a custom object.
    owner = create(kubectl, obj("ConfigMap", "owner", ""))
    create(kubectl, obj("Child", "of-configmap", group, owner))
    kubectl("delete", "configmap", "owner")
    until(lambda: names(kubectl, "childs") == ["c"], what="the configmap's child is collected")
    # What is owned by objects of a definition that goes is collected with them.
    parent = create(kubectl, obj("Parent", "p", group))
    create(kubectl, obj("ConfigMap", "dependent", "", parent))
    for name in crds:
        kubectl("delete", "crd", name)
    until(lambda: not names(kubectl, "configmaps"), what="the dependent is collected")


def test_a_namespace_goes_with_its_custom_objects(kubectl: Kubectl) -> None:
    crd = make(kubectl, definition("going.example.com", "Thing", schema=OPEN))
    namespace = f"{kubectl.namespace}-going"
    kubectl("create", "namespace", namespace)
    inside = kubectl.within(namespace)
    create(inside, obj("Thing", "free", "going.example.com"))
    create(inside, obj("Thing", "held", "going.example.com", finalizers=["example.com/hold"]))
    kubectl("delete", "namespace", namespace, "--wait=false")

    def waiting() -> bool:
        status = json.loads(kubectl("get", "namespace", namespace, "-o", "json"))["status"]
        found = {each["type"]: each for each in status.get("conditions") or ()}
        return (
            "things.going.example.com has 1 resource instances"
            in found["NamespaceContentRemaining"]["message"]
            and "example.com/hold in 1 resource instances" in found["NamespaceFinalizersRemaining"]["message"]
        )

    until(waiting, what="the namespace says what it waits for")
    inside("patch", "thing", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    kubectl("wait", "--for=delete", f"namespace/{namespace}", "--timeout=30s")
    kubectl("delete", "crd", crd)

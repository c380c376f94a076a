"""Cascades, namespaces and owners that point nowhere, on a real API server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.controllers.conftest import ControlPlane, deployment

Object = dict[str, Any]


def config_map(name: str, namespace: str = "default", **meta: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace} | meta,
    }


def owned_by(owner: Object, **more: Any) -> list[Object]:
    meta = owner["metadata"]
    return [{"apiVersion": "v1", "kind": "ConfigMap", "name": meta["name"], "uid": meta["uid"]} | more]


async def names(plane: ControlPlane, resource: str, namespace: str = "default") -> set[str]:
    return {one["metadata"]["name"] for one in (await plane.admin.list(resource, namespace))["items"]}


async def rolled_out(plane: ControlPlane) -> str:
    plane.controllers()
    plane.tasks.spawn(plane.run_pods())
    await plane.admin.create("deployments.apps", deployment(replicas=2))

    async def ready() -> bool:
        found = await plane.admin.get("deployments.apps", "web", "default")
        return (found.get("status") or {}).get("availableReplicas") == 2

    await plane.until("it is rolled out", ready)
    (name,) = await names(plane, "replicasets.apps")
    return name


async def test_background_deletion_takes_everything_along(plane: ControlPlane) -> None:
    rs = await rolled_out(plane)
    await plane.admin.delete("deployments.apps", "web", "default", propagation="Background")
    await plane.gone("deployments.apps", "web", "default")
    await plane.gone("replicasets.apps", rs, "default")

    async def empty() -> bool:
        return not await names(plane, "pods")

    await plane.until("the pods are gone", empty)


async def test_foreground_deletion_removes_the_owner_last(plane: ControlPlane) -> None:
    await rolled_out(plane)
    seen: list[str] = []

    async def watch(resource: str) -> None:
        async for event in plane.admin.watch(resource, "default", resource_version="0"):
            if event.type == "DELETED":
                seen.append(resource)

    for resource in ("deployments.apps", "replicasets.apps", "pods"):
        plane.tasks.spawn(watch(resource))
    await plane.admin.delete("deployments.apps", "web", "default", propagation="Foreground")
    held = await plane.admin.get("deployments.apps", "web", "default")
    assert held["metadata"]["finalizers"] == ["foregroundDeletion"]

    async def all_gone() -> bool:
        return len(seen) == 4

    await plane.until("everything is gone", all_gone)
    assert seen == ["pods", "pods", "replicasets.apps", "deployments.apps"]


async def test_orphaning_leaves_the_dependents_without_owner(plane: ControlPlane) -> None:
    rs = await rolled_out(plane)
    await plane.admin.delete("deployments.apps", "web", "default", propagation="Orphan")
    await plane.gone("deployments.apps", "web", "default")
    held = await plane.admin.get("replicasets.apps", rs, "default")
    assert not held["metadata"].get("ownerReferences")
    assert len(await names(plane, "pods")) == 2


async def test_what_owners_mean(plane: ControlPlane) -> None:
    """Another namespace, another uid, a cluster-scoped dependent, two owners, an unknown kind."""
    await plane.admin.create(
        "namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}
    )
    owner = await plane.admin.create("configmaps", config_map("owner"))
    await plane.admin.create("configmaps", config_map("good", ownerReferences=owned_by(owner)))
    await plane.admin.create("configmaps", config_map("across", "other", ownerReferences=owned_by(owner)))
    await plane.admin.create(
        "configmaps", config_map("reborn", ownerReferences=owned_by(owner, uid="long-gone"))
    )
    two = owned_by(owner) + owned_by(owner, name="x", uid="gone")
    await plane.admin.create("configmaps", config_map("two", ownerReferences=two))
    unknown = [{"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "t"}]
    await plane.admin.create("configmaps", config_map("unknown", ownerReferences=unknown))
    role: Object = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "wide", "ownerReferences": owned_by(owner, uid="gone")},
    }
    await plane.admin.create("clusterroles.rbac.authorization.k8s.io", role)
    plane.controllers()
    await plane.gone("configmaps", "across", "other")
    await plane.gone("configmaps", "reborn", "default")

    async def one_owner() -> bool:
        held = await plane.admin.get("configmaps", "two", "default")
        return [ref["name"] for ref in held["metadata"]["ownerReferences"]] == ["owner"]

    await plane.until("the reference that points nowhere is taken off", one_owner)
    assert {"good", "unknown", "two", "owner"} <= await names(plane, "configmaps")
    assert await plane.admin.get("clusterroles.rbac.authorization.k8s.io", "wide")
    await plane.admin.delete("configmaps", "owner", "default")
    await plane.gone("configmaps", "good", "default")
    await plane.gone("configmaps", "two", "default")


async def test_a_circle_of_owners_can_be_deleted_in_the_foreground(plane: ControlPlane) -> None:
    first = await plane.admin.create("configmaps", config_map("first"))
    second = await plane.admin.create(
        "configmaps", config_map("second", ownerReferences=owned_by(first, blockOwnerDeletion=True))
    )
    patch = {"metadata": {"ownerReferences": owned_by(second, blockOwnerDeletion=True)}}
    await plane.admin.patch("configmaps", "first", patch, "default")
    plane.controllers()
    await plane.admin.delete("configmaps", "first", "default", propagation="Foreground")
    await plane.gone("configmaps", "first", "default")
    await plane.gone("configmaps", "second", "default")


async def test_a_namespace_is_emptied_says_what_it_waits_for_and_goes(plane: ControlPlane) -> None:
    plane.controllers()
    await plane.admin.create(
        "namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}
    )
    account = await plane.until(
        "it has an account", lambda: plane.admin.get("serviceaccounts", "default", "team")
    )
    assert account
    ca = await plane.until("it has the CA", lambda: plane.admin.get("configmaps", "kube-root-ca.crt", "team"))
    assert ca["data"]["ca.crt"].startswith("-----CA")
    await plane.admin.patch("configmaps", "kube-root-ca.crt", {"data": {"ca.crt": "mine"}}, "team")

    async def restored() -> bool:
        held = await plane.admin.get("configmaps", "kube-root-ca.crt", "team")
        return bool(held["data"]["ca.crt"].startswith("-----CA"))

    await plane.until("the CA is put back", restored)
    await plane.admin.create("configmaps", config_map("held", "team", finalizers=["example.com/held"]))
    await plane.admin.delete("namespaces", "team")

    async def waits() -> bool:
        status = (await plane.admin.get("namespaces", "team"))["status"]
        held = {c["type"]: c for c in status.get("conditions") or []}
        return (
            held.get("NamespaceFinalizersRemaining", {}).get("status") == "True"
            and held["NamespaceContentRemaining"]["message"]
            == "Some resources are remaining: configmaps. has 1 resource instances"
        )

    await plane.until("it says what it waits for", waits)
    await plane.admin.patch("configmaps", "held", {"metadata": {"finalizers": None}}, "team")
    await plane.gone("namespaces", "team")


@pytest.mark.parametrize("kind", ["killed", "stopped"])
async def test_the_second_takes_over(plane: ControlPlane, kind: str) -> None:
    """Two processes, one leads; when it ends, the other does. A killed one leaves its Lease to run out."""
    first = plane.controllers(leader_elect=True)

    async def holder() -> str:
        lease = await plane.admin.get("leases.coordination.k8s.io", "kube-controller-manager", "kube-system")
        return str(lease["spec"]["holderIdentity"])

    before = await plane.until("one leads", holder)
    plane.controllers(leader_elect=True)
    await plane.until("it works", lambda: plane.admin.get("serviceaccounts", "default", "default"))
    first.cancel()
    if kind == "killed":
        # What a crash leaves behind: a Lease that still names the dead.
        await plane.until("the first is gone", lambda: _done(first))
        lease = await plane.admin.get("leases.coordination.k8s.io", "kube-controller-manager", "kube-system")
        if lease["spec"]["holderIdentity"] == "":
            lease["spec"] |= {"holderIdentity": before, "leaseDurationSeconds": 3}
            await plane.admin.update("leases.coordination.k8s.io", lease)

    async def another() -> bool:
        return await holder() not in ("", before)

    await plane.until("the other leads", another)
    await plane.admin.create(
        "namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "later"}}
    )
    await plane.until("it works", lambda: plane.admin.get("serviceaccounts", "default", "later"))


async def _done(task: Any) -> bool:
    return bool(task.done())


async def test_claims_and_volumes_in_use_stay_until_nobody_uses_them(plane: ControlPlane) -> None:
    plane.controllers()
    admin = plane.admin
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim: Object = {"metadata": {"name": "data", "namespace": "default"}, "spec": spec}
    made = await admin.create("persistentvolumeclaims", claim)
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    volume: Object = {
        "metadata": {"name": "disk"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/data"},
        },
    }
    await admin.create("persistentvolumes", volume)
    bound = {"status": {"phase": "Bound"}}
    await admin.patch("persistentvolumes", "disk", bound, subresource="status")
    user = {
        "metadata": {"name": "user", "namespace": "default"},
        "spec": {
            "nodeName": "hollow",
            "containers": [{"name": "c", "image": "app:1"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    }

    async def has_account() -> bool:
        return bool(await admin.get("serviceaccounts", "default", "default"))

    await plane.until("the default account is there", has_account)
    await admin.create("pods", user)
    await admin.delete("persistentvolumeclaims", "data", "default")
    await admin.delete("persistentvolumes", "disk")
    for resource, name, where in (
        ("persistentvolumeclaims", "data", "default"),
        ("persistentvolumes", "disk", ""),
    ):
        assert "deletionTimestamp" in (await admin.get(resource, name, where))["metadata"]
    await admin.delete("pods", "user", "default", grace_seconds=0)
    await plane.gone("persistentvolumeclaims", "data", "default")
    await admin.patch("persistentvolumes", "disk", {"status": {"phase": "Released"}}, subresource="status")
    await plane.gone("persistentvolumes", "disk")

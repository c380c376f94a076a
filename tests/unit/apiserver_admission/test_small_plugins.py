"""The plugins that fit a few lines: classes, protection, resizing, owners, images, devices, addresses, selectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bamikube.api.table import by_name
from bamikube.apiserver.admission.always_pull_images import AlwaysPullImages
from bamikube.apiserver.admission.anti_affinity import LimitPodHardAntiAffinityTopology
from bamikube.apiserver.admission.certificates import CertificateApproval, CertificateSigning
from bamikube.apiserver.admission.default_classes import DefaultIngressClass, DefaultStorageClass
from bamikube.apiserver.admission.extended_resources import ExtendedResourceToleration
from bamikube.apiserver.admission.external_ips import DenyServiceExternalIPs
from bamikube.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from bamikube.apiserver.admission.owner_references import OwnerReferencesPermissionEnforcement
from bamikube.apiserver.admission.pod_node_selector import PodNodeSelector
from bamikube.apiserver.admission.runtime_class import RuntimeClass
from bamikube.apiserver.admission.storage_protection import (
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from bamikube.apiserver.authz.authorizer import Authorizer
from bamikube.apiserver.identity import MASTERS, User

from .conftest import DictReader, Object, admit, container, context, pod, refusal

CLASSES = ("storage.k8s.io", "storageclasses")
INGRESS = ("networking.k8s.io", "ingressclasses")
RUNTIMES = ("node.k8s.io", "runtimeclasses")
ROOT = User("root", (MASTERS,))
ODD = replace(by_name("configmaps"), group="example.com", kind="Odd", plural="odds")


def storage_class(
    name: str, default: bool = True, created: str = "2025-01-01T00:00:00Z", **more: Any
) -> Object:
    mark = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {"metadata": {"name": name, "annotations": mark, "creationTimestamp": created}, **more}


def claim(size: str = "1Gi", phase: str = "Pending", **spec: Any) -> Object:
    spec["resources"] = {"requests": {"storage": size}}
    return {"metadata": {"name": "c", "namespace": "default"}, "spec": spec, "status": {"phase": phase}}


async def test_the_newest_default_storage_class_is_taken(reader: DictReader) -> None:
    plugin = DefaultStorageClass(reader)
    assert "storageClassName" not in (await admit(plugin, context("persistentvolumeclaims", claim())))["spec"]
    reader.put(CLASSES, storage_class("other", default=False))
    for name, created in (("b-old", "2024"), ("c-new", "2025"), ("a-new", "2025"), ("z-old", "2023")):
        reader.put(CLASSES, storage_class(name, created=f"{created}-01-01T00:00:00Z"))
    made = await admit(plugin, context("persistentvolumeclaims", claim()))
    assert made["spec"]["storageClassName"] == "a-new"
    none = await admit(plugin, context("persistentvolumeclaims", claim(storageClassName="")))
    assert none["spec"]["storageClassName"] == ""


async def test_the_default_ingress_class(reader: DictReader) -> None:
    plugin = DefaultIngressClass(reader)
    mark = {"ingressclass.kubernetes.io/is-default-class": "true"}
    reader.put(INGRESS, {"metadata": {"name": "nginx", "annotations": mark}})
    made = await admit(plugin, context("ingresses.networking.k8s.io", {"metadata": {"name": "i"}}))
    assert made["spec"]["ingressClassName"] == "nginx"
    old = {"metadata": {"name": "i", "annotations": {"kubernetes.io/ingress.class": "x"}}, "spec": {}}
    assert (await admit(plugin, context("ingresses.networking.k8s.io", old)))["spec"] == {}


async def test_runtime_classes(reader: DictReader) -> None:
    plugin = RuntimeClass(reader)
    error = await refusal(plugin, context("pods", pod(runtimeClassName="gv")))
    assert error.message == 'pods "p" is forbidden: pod rejected: RuntimeClass "gv" not found'
    gv: Object = {
        "metadata": {"name": "gv"},
        "handler": "runsc",
        "overhead": {"podFixed": {"cpu": "250m"}},
        "scheduling": {"nodeSelector": {"gv": "yes"}, "tolerations": [{"key": "gv", "operator": "Exists"}]},
    }
    reader.put(RUNTIMES, gv)
    made = (await admit(plugin, context("pods", pod(runtimeClassName="gv", nodeSelector={"a": "b"}))))["spec"]
    assert made["overhead"] == {"cpu": "250m"}
    assert made["nodeSelector"] == {"a": "b", "gv": "yes"}
    assert made["tolerations"] == [{"key": "gv", "operator": "Exists"}]
    await admit(plugin, context("pods", pod(runtimeClassName="gv", overhead={"cpu": "0.25"})))
    wrong = [
        (pod(runtimeClassName="gv", overhead={"cpu": "1"}), "Pod's Overhead doesn't match RuntimeClass's"),
        (pod(overhead={"cpu": "1"}), "Pod Overhead set without corresponding RuntimeClass defined Overhead"),
        (
            pod(runtimeClassName="gv", nodeSelector={"gv": "no"}),
            "conflict: runtimeClass.scheduling.nodeSelector[gv] = yes; pod.spec.nodeSelector[gv] = no",
        ),
    ]
    for one, words in wrong:
        assert words in (await refusal(plugin, context("pods", one))).message


async def test_storage_objects_get_their_finalizers() -> None:
    plugin = StorageObjectInUseProtection()
    made = await admit(plugin, context("persistentvolumeclaims", claim()))
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    gold: Object = {"metadata": {"name": "gold"}, "driverName": "d"}
    kept = await admit(plugin, context("volumeattributesclasses.storage.k8s.io", gold))
    assert kept["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]
    again = await admit(plugin, context("persistentvolumeclaims", made))
    assert again["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    volume = await admit(
        plugin, context("persistentvolumes", {"metadata": {"name": "v", "finalizers": ["x"]}})
    )
    assert volume["metadata"]["finalizers"] == ["x", "kubernetes.io/pv-protection"]


async def test_only_claims_of_classes_that_allow_it_grow(reader: DictReader) -> None:
    plugin = PersistentVolumeClaimResize(reader)
    fixed, growing = storage_class("fixed"), storage_class("growing", allowVolumeExpansion=True)
    reader.put(CLASSES, fixed)
    reader.put(CLASSES, growing)

    def grow(name: str, phase: str = "Bound", to: str = "2Gi") -> Any:
        old, new = claim("1Gi", phase, storageClassName=name), claim(to, phase, storageClassName=name)
        return context("persistentvolumeclaims", new, "UPDATE", old=old)

    await admit(plugin, grow("growing"))
    await admit(plugin, grow("fixed", to="1024Mi"))
    assert (
        "Only bound persistent volume claims" in (await refusal(plugin, grow("growing", "Pending"))).message
    )
    for name in ("fixed", "", "missing"):
        message = (await refusal(plugin, grow(name))).message
        assert message.startswith(
            'persistentvolumeclaims "c" is forbidden: only dynamically provisioned pvc can'
        )


async def test_owners_take_rights(reader: DictReader) -> None:
    plugin = OwnerReferencesPermissionEnforcement(Authorizer(reader), lambda: [ODD])
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "1"}
    owned = {"metadata": {"name": "s", "ownerReferences": [owner]}}
    blocking = {"metadata": {"name": "s", "ownerReferences": [owner | {"blockOwnerDeletion": True}]}}
    plain: Object = {"metadata": {"name": "s"}}
    await admit(plugin, context("secrets", owned))
    await admit(plugin, context("secrets", owned, "UPDATE", old=owned))
    error = await refusal(plugin, context("secrets", owned, "UPDATE", old=plain))
    assert "cannot set an ownerRef on a resource you can't delete: " in error.message
    error = await refusal(plugin, context("secrets", blocking))
    assert (
        "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't" in error.message
    )
    await admit(plugin, context("secrets", blocking, "UPDATE", old=plain, user=ROOT))
    blocking["metadata"]["ownerReferences"][0]["kind"] = "Nothing"  # type: ignore[index]
    error = await refusal(plugin, context("secrets", blocking, user=ROOT))
    assert "cannot find RESTMapping for APIVersion apps/v1 Kind Nothing" in error.message
    blocking["metadata"]["ownerReferences"][0] |= {"apiVersion": ODD.api_version, "kind": ODD.kind}  # type: ignore[index]
    await admit(plugin, context("secrets", blocking, user=ROOT))


async def test_images_are_always_pulled() -> None:
    plugin = AlwaysPullImages()
    mine = pod(
        containers=[{"name": "c", "image": "i", "imagePullPolicy": "Never"}],
        volumes=[{"name": "v", "image": {"reference": "data:1"}}],
    )
    made = (await admit(plugin, context("pods", mine)))["spec"]
    assert made["containers"][0]["imagePullPolicy"] == "Always"
    assert made["volumes"][0]["image"]["pullPolicy"] == "Always"
    never = pod(containers=[{"name": "c", "image": "i", "imagePullPolicy": "Never"}])
    assert await admit(plugin, context("pods", never, "UPDATE", old=never)) == never
    late = context("pods", pod(containers=[{"name": "c", "image": "i", "imagePullPolicy": "Never"}]))
    with pytest.raises(Exception, match='Unsupported value: "Never": supported values: "Always"'):
        await plugin.validate(late)


async def test_devices_are_tolerated() -> None:
    plugin = ExtendedResourceToleration()
    wants = {"cpu": "1", "nvidia.com/gpu": "1", "kubernetes.io/x": "1"}
    made = await admit(plugin, context("pods", pod(containers=[container(requests=wants)])))
    expected = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert made["spec"]["tolerations"] == expected
    assert (await admit(plugin, context("pods", made)))["spec"]["tolerations"] == expected


async def test_foreign_addresses_are_denied() -> None:
    plugin = DenyServiceExternalIPs()
    service = {"metadata": {"name": "s"}, "spec": {"externalIPs": ["1.2.3.4"]}}
    error = await refusal(plugin, context("services", service))
    assert error.message == 'services "s" is forbidden: Use of external IPs is denied by admission control'
    await admit(plugin, context("services", service, "UPDATE", old=service))


async def test_hard_anti_affinity_knows_nodes_only() -> None:
    plugin = LimitPodHardAntiAffinityTopology()

    def apart(key: str) -> Object:
        terms = [{"topologyKey": key, "labelSelector": {}}]
        return pod(affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})

    await admit(plugin, context("pods", apart("kubernetes.io/hostname")))
    assert "TopologyKey zone but only key" in (await refusal(plugin, context("pods", apart("zone")))).message


async def test_the_nodes_of_a_namespace(reader: DictReader) -> None:
    plugin = PodNodeSelector(reader)
    annotation = {"scheduler.alpha.kubernetes.io/node-selector": "env=test, disk=ssd"}
    reader.put(("", "namespaces"), {"metadata": {"name": "default", "annotations": annotation}})
    made = await admit(plugin, context("pods", pod(nodeSelector={"a": "b"})))
    assert made["spec"]["nodeSelector"] == {"env": "test", "disk": "ssd", "a": "b"}
    error = await refusal(plugin, context("pods", pod(nodeSelector={"env": "live"})))
    assert "pod node label selector conflicts with its namespace node label selector" in error.message


async def test_deciding_about_certificates_takes_the_signers_right(reader: DictReader) -> None:
    request: Object = {"metadata": {"name": "r"}, "spec": {"signerName": "example.com/a"}}
    signed = request | {"status": {"certificate": "Zm9v"}}
    failed = request | {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}
    name = "certificatesigningrequests.certificates.k8s.io"
    approval, signing = CertificateApproval(Authorizer(reader)), CertificateSigning(Authorizer(reader))
    error = await refusal(approval, context(name, request, "UPDATE", old=request, subresource="approval"))
    assert 'user not permitted to approve requests with signerName "example.com/a"' in error.message
    for new in (signed, failed):
        error = await refusal(signing, context(name, new, "UPDATE", old=request, subresource="status"))
        assert 'user not permitted to sign requests with signerName "example.com/a"' in error.message
        await admit(signing, context(name, new, "UPDATE", old=request, subresource="status", user=ROOT))
    await admit(signing, context(name, request, "UPDATE", old=request, subresource="status"))


async def test_nothing_is_created_in_a_namespace_that_is_going_nor_by_a_subresource(
    reader: DictReader,
) -> None:
    plugin = NamespaceLifecycle(reader)
    going = {"metadata": {"name": "default"}, "status": {"phase": "Terminating"}}
    reader.put(("", "namespaces"), going)
    for resource, subresource in (("configmaps", ""), ("pods", "eviction"), ("serviceaccounts", "token")):
        error = await refusal(plugin, context(resource, pod(), subresource=subresource))
        assert error.message == (
            f'{resource} "p" is forbidden: unable to create new content in namespace default because it is being '
            "terminated"
        )
        assert error.details["causes"][0]["reason"] == "NamespaceTerminating"  # type: ignore[index]
    await admit(plugin, context("configmaps", pod(), "UPDATE", old=pod()))
    kept = {"metadata": {"name": "kube-system"}}
    error = await refusal(plugin, context("namespaces", None, "DELETE", old=kept))
    assert error.message == 'namespaces "kube-system" is forbidden: this namespace may not be deleted'

"""Custom resources as kubectl 1.33, the official Python client and kr8s use them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import kr8s.asyncio
import kubernetes
import pytest
from kr8s.asyncio.objects import new_class
from kubernetes.dynamic import DynamicClient

from tests.integration.customresources.conftest import definition
from tests.support.kubectl import Kubectl, find_kubectl, until
from tests.support.private_api import PrivateApi

SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "Shirt is something to wear.",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "description": "What the shirt is like.",
            "required": ["size"],
            "properties": {
                "color": {
                    "type": "string",
                    "description": "The color of the cloth.",
                    "enum": ["red", "blue"],
                },
                "size": {"type": "string", "description": "S, M or L."},
                "replicas": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 50, "default": 1},
                "buttons": {
                    "type": "array",
                    "description": "The buttons, by name.",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string", "description": "Which button."},
                            "holes": {"type": "integer"},
                        },
                    },
                },
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "replicas": {"type": "integer"},
                "labelSelector": {"type": "string"},
                "phase": {"type": "string"},
                "conditions": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"type": {"type": "string"}, "status": {"type": "string"}},
                    },
                },
            },
        },
    },
}


def shirts(group: str = "wear.example.com") -> dict[str, Any]:
    crd = definition(
        group,
        "Shirt",
        schema=SCHEMA,
        subresources={
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.labelSelector",
            },
        },
        additionalPrinterColumns=[
            {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
            {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
            {"name": "Size", "type": "string", "jsonPath": ".spec.size", "priority": 1},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        selectableFields=[{"jsonPath": ".spec.color"}],
    )
    crd["spec"]["names"] |= {"shortNames": ["shi"], "categories": ["wardrobe"]}
    return crd


def shirt(name: str = "red", group: str = "wear.example.com", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{group}/v1",
        "kind": "Shirt",
        "metadata": {"name": name},
        "spec": {"size": "M", "color": "red"} | spec,
    }


def make(kubectl: Kubectl, crd: dict[str, Any]) -> str:
    """Create a definition with kubectl and wait for it, as people do."""
    name = crd["metadata"]["name"]
    assert kubectl("apply", "-f", "-", stdin=json.dumps(crd)) == (
        f"customresourcedefinition.apiextensions.k8s.io/{name} created\n"
    )
    kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=10s")
    return str(name)


def test_kubectl_lives_with_a_custom_resource(kubectl: Kubectl) -> None:
    name = make(kubectl, shirts())
    listed = kubectl("api-resources", "--api-group=wear.example.com", "-o", "wide")
    assert listed.splitlines()[1].split()[:5] == ["shirts", "shi", "wear.example.com/v1", "true", "Shirt"]
    assert listed.splitlines()[1].endswith("wardrobe")
    created = kubectl("create", "-f", "-", stdin=json.dumps(shirt()))
    assert created == "shirt.wear.example.com/red created\n"
    assert kubectl("apply", "-f", "-", stdin=json.dumps(shirt("blue", color="blue"))).endswith("created\n")
    assert kubectl("get", "shi", "--no-headers=true").split()[:2] == ["blue", "blue"]
    table = kubectl("get", "wardrobe", "-o", "wide").splitlines()
    assert table[0].split() == ["NAME", "COLOR", "READY", "SIZE", "AGE"]
    assert [line.split()[:3] for line in table[1:]] == [["blue", "blue", "M"], ["red", "red", "M"]]
    assert kubectl("get", "shirts", "--field-selector=spec.color=blue", "-o", "name") == (
        "shirt.wear.example.com/blue\n"
    )
    described = kubectl("describe", "shirt", "red")
    assert "Kind:         Shirt" in described and "Replicas:  1" in described
    # scale, patch, status, wait
    assert kubectl("scale", "shirt/red", "--replicas=4") == "shirt.wear.example.com/red scaled\n"
    assert kubectl("get", "shirt", "red", "-o", "jsonpath={.spec.replicas} {.metadata.generation}") == "4 2"
    status = {
        "status": {
            "replicas": 3,
            "labelSelector": "app=red",
            "conditions": [{"type": "Ready", "status": "True"}],
        }
    }
    kubectl("patch", "shirt", "red", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    kubectl("wait", "--for=condition=Ready", "shirt/red", "--timeout=10s")
    kubectl("wait", "--for=jsonpath={.status.replicas}=3", "shirt/red", "--timeout=10s")
    assert kubectl("get", "shirt", "red", "-o", "jsonpath={.spec.replicas} {.metadata.generation}") == "4 2"
    scale = json.loads(kubectl("get", "shirt", "red", "--subresource=scale", "-o", "json"))
    assert scale["spec"] == {"replicas": 4} and scale["status"] == {"replicas": 3, "selector": "app=red"}
    patched = kubectl(
        "patch", "shirt", "red", "--type=json", "-p", '[{"op":"replace","path":"/spec/size","value":"L"}]'
    )
    assert patched == "shirt.wear.example.com/red patched\n"
    kubectl("label", "shirt", "red", "a=b")
    kubectl("annotate", "shirt", "red", "c=d")
    assert kubectl("get", "shirts", "-l", "a=b", "-o", "name") == "shirt.wear.example.com/red\n"
    changed = shirt("blue", color="blue", size="L")
    assert kubectl("apply", "-f", "-", stdin=json.dumps(changed)).endswith("configured\n")
    assert kubectl("apply", "-f", "-", stdin=json.dumps(changed)).endswith("unchanged\n")
    assert kubectl.run("diff", "-f", "-", stdin=json.dumps(changed)).returncode == 0
    assert kubectl("delete", "shirt", "red") == 'shirt.wear.example.com "red" deleted\n'
    assert "deleted" in kubectl("delete", "shirts", "--all")
    kubectl("delete", "crd", name)
    assert "doesn't have a resource type" in kubectl.fails("get", "shirts.wear.example.com")


def test_kubectl_explains_and_validates(kubectl: Kubectl) -> None:
    name = make(kubectl, shirts("explain.example.com"))
    group = "--api-version=explain.example.com/v1"
    top = until(lambda: kubectl("explain", "shirts", group), what="the schema is published")
    assert "KIND:       Shirt" in top and "Shirt is something to wear." in top
    assert "metadata\t<ObjectMeta>" in top and "spec\t<Object> -required-" in top
    deep = kubectl("explain", "shirts.spec.buttons.name", group)
    assert "Which button." in deep and "FIELD: name <string>" in deep
    tree = kubectl("explain", "shirts", "--recursive", group)
    assert "holes\t<integer>" in tree and "enum: red, blue" in tree
    second = kubectl(
        "explain", "shirts.spec.buttons", group, "--output=plaintext-openapiv2"
    )  # protobuf, version 2
    assert "RESOURCE: buttons <[]Object>" in second and "Which button." in second
    older = Kubectl(kubectl.kubeconfig, kubectl.namespace, find_kubectl("1.27"))
    assert "created" in older("create", "-f", "-", stdin=json.dumps(shirt("older", "explain.example.com")))
    assert "What the shirt is like." in older("explain", "shirts.spec", group)
    body = shirt("strict", "explain.example.com", sleeves=2)
    refused = kubectl.fails("create", "--validate=strict", "-f", "-", stdin=json.dumps(body))
    assert 'strict decoding error: unknown field "spec.sleeves"' in refused
    warned = kubectl.run("create", "--validate=warn", "-f", "-", stdin=json.dumps(body))
    assert warned.returncode == 0 and 'unknown field "spec.sleeves"' in warned.stderr
    kept = json.loads(kubectl("get", "shirt.explain.example.com", "strict", "-o", "json"))
    assert "sleeves" not in kept["spec"]
    wrong = shirt("wrong", "explain.example.com", replicas=51, color="green")
    del wrong["spec"]["size"]
    refused = kubectl.fails("apply", "-f", "-", stdin=json.dumps(wrong))
    for text in (
        'The Shirt "wrong" is invalid:',
        "* spec.size: Required value",
        '* spec.color: Unsupported value: "green": supported values: "red", "blue"',
        "* spec.replicas: Invalid value: 51: spec.replicas in body should be less than or equal to 50",
    ):
        assert text in refused
    twice = [{"name": "top"}, {"name": "top"}]
    refused = kubectl.fails(
        "apply", "-f", "-", stdin=json.dumps(shirt("b", "explain.example.com", buttons=twice))
    )
    assert 'spec.buttons[1]: Duplicate value: {"name":"top"}' in refused
    free = shirt("free", "explain.example.com", any={"x": {"y": [1]}})
    assert "created" in kubectl("apply", "--validate=strict", "-f", "-", stdin=json.dumps(free))
    kubectl("delete", "crd", name)
    until(lambda: "explain.example.com" not in kubectl("get", "--raw", "/openapi/v3"), what="unpublished")
    assert "explain.example.com" not in kubectl("get", "--raw", "/openapi/v2")


def test_openapi_of_varying_groups_and_kinds(kubectl: Kubectl) -> None:
    crds = [
        definition("one.example.com", "Left"),
        definition("one.example.com", "Right"),
        definition("two.example.com", "Left"),
    ]
    names = [make(kubectl, crd) for crd in crds]
    document = json.loads(kubectl("get", "--raw", "/openapi/v2"))
    wanted = ["com.example.one.v1.Left", "com.example.one.v1.Right", "com.example.two.v1.Left"]
    for each in wanted:
        group = ".".join(reversed(each.split(".")[:3]))
        kind = each.rpartition(".")[2]
        schema = document["definitions"][each]
        assert schema["x-kubernetes-group-version-kind"] == [{"group": group, "version": "v1", "kind": kind}]
        assert schema["properties"]["metadata"]["$ref"].endswith("ObjectMeta")
        assert f"{each}List" in document["definitions"]
    third = json.loads(kubectl("get", "--raw", "/openapi/v3/apis/one.example.com/v1"))
    assert {"com.example.one.v1.Left", "com.example.one.v1.RightList"} <= set(third["components"]["schemas"])
    for name in names:
        kubectl("delete", "crd", name)


def test_the_official_client(kubectl: Kubectl, private: PrivateApi) -> None:
    client = kubernetes.config.new_client_from_config(str(private.kubeconfig))
    extensions = kubernetes.client.ApiextensionsV1Api(client)
    group = "python.example.com"
    crd = shirts(group)
    extensions.create_custom_resource_definition(crd)

    def ready() -> bool:
        found = extensions.read_custom_resource_definition(crd["metadata"]["name"])
        return any(
            each.type == "Established" and each.status == "True" for each in found.status.conditions or ()
        )

    until(ready, what="established")
    custom = kubernetes.client.CustomObjectsApi(client)
    where = (group, "v1", kubectl.namespace, "shirts")
    made = custom.create_namespaced_custom_object(*where, shirt("one", group))
    assert made["spec"]["replicas"] == 1
    custom.patch_namespaced_custom_object(*where, "one", {"spec": {"color": "blue"}})
    custom.patch_namespaced_custom_object_status(*where, "one", {"status": {"phase": "Worn"}})
    assert custom.get_namespaced_custom_object_status(*where, "one")["status"] == {"phase": "Worn"}
    custom.patch_namespaced_custom_object_scale(*where, "one", {"spec": {"replicas": 3}})
    assert custom.get_namespaced_custom_object_scale(*where, "one")["spec"]["replicas"] == 3
    with pytest.raises(kubernetes.client.ApiException) as refused:
        custom.create_namespaced_custom_object(*where, shirt("two", group, replicas=99))
    status = json.loads(refused.value.body)
    assert refused.value.status == 422 and status["details"]["causes"][0]["field"] == "spec.replicas"
    dynamic = DynamicClient(client)
    resource = dynamic.resources.get(api_version=f"{group}/v1", kind="Shirt")
    first = next(iter(dynamic.watch(resource, namespace=kubectl.namespace, timeout=5)))
    assert first["type"] == "ADDED" and first["object"].spec.color == "blue"
    listed = resource.get(namespace=kubectl.namespace, field_selector="spec.color=blue")
    assert [item.metadata.name for item in listed.items] == ["one"]
    resource.delete(name="one", namespace=kubectl.namespace)
    with pytest.raises(kubernetes.client.ApiException):
        custom.get_namespaced_custom_object(*where, "one")
    extensions.delete_custom_resource_definition(crd["metadata"]["name"])


async def test_kr8s(kubectl: Kubectl, private: PrivateApi) -> None:
    name = await asyncio.to_thread(make, kubectl, shirts("kr8s.example.com"))
    api = await kr8s.asyncio.api(kubeconfig=str(private.kubeconfig), namespace=kubectl.namespace)
    shirt_class = new_class(kind="Shirt", version="kr8s.example.com/v1", namespaced=True, scalable=True)
    one = await shirt_class(shirt("one", "kr8s.example.com"), namespace=kubectl.namespace, api=api)
    await one.create()
    await one.patch({"spec": {"color": "blue"}})
    assert one.spec.color == "blue" and one.raw["metadata"]["generation"] == 2
    await one.scale(5)
    assert one.replicas == 5
    found = [each async for each in api.get("shirts.kr8s.example.com", namespace=kubectl.namespace)]
    assert [each.name for each in found] == ["one"]
    await one.delete()
    await asyncio.to_thread(kubectl, "delete", "crd", name)

"""Server-side apply as kubectl, the official Python client and kr8s do it."""

from __future__ import annotations

import json
from typing import Any

import kr8s.asyncio
import pytest
import yaml
from kubernetes import config, dynamic
from kubernetes.dynamic.exceptions import ConflictError

from tests.support.kubectl import Kubectl
from tests.support.private_api import PrivateApi

CONFLICT_TO_DO = "re-run the apply\n  command with the `--force-conflicts` flag"


def web(image: str = "web:1", replicas: int | None = 3, name: str = "web") -> dict[str, Any]:
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"app": name}},
        "template": {
            # What `kubectl create --dry-run -o yaml` writes, and people apply.
            "metadata": {"labels": {"app": name}, "creationTimestamp": None},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": image,
                        "ports": [{"containerPort": 80}],
                        "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}},
                    }
                ]
            },
        },
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def managed(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """Manager and operation to the fields he owns, as kubectl shows them."""
    text = kubectl("get", name, "-o", "json", "--show-managed-fields")
    entries = json.loads(text)["metadata"].get("managedFields") or ()
    return {
        "/".join(filter(None, (one["manager"], one["operation"], one.get("subresource")))): one["fieldsV1"]
        for one in entries
    }


def apply(kubectl: Kubectl, doc: dict[str, Any], *words: str) -> str:
    return kubectl("apply", "--server-side", *words, "-f", "-", stdin=yaml.safe_dump(doc))


def test_kubectl_applies_and_is_told_of_conflicts(kubectl: Kubectl) -> None:
    assert apply(kubectl, web()) == "deployment.apps/web serverside-applied\n"
    before = kubectl.json("get", "deploy/web")["spec"]
    assert apply(kubectl, web()) == "deployment.apps/web serverside-applied\n"
    assert kubectl.json("get", "deploy/web")["spec"] == before
    assert "managedFields" not in kubectl("get", "deploy/web", "-o", "yaml")
    fields = managed(kubectl, "deploy/web")["kubectl/Apply"]
    container = fields["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"web"}']
    assert container["f:ports"] == {
        'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}
    }
    kubectl("scale", "deploy/web", "--replicas=5")
    said = kubectl.fails("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(web()))
    assert 'Apply failed with 1 conflict: conflict with "kubectl' in said
    assert 'with subresource "scale" using apps/v1 at ' in said and ": .spec.replicas" in said
    assert CONFLICT_TO_DO in said
    # Another manager, with nothing different but the image: kubectl's conflict text names field and owner.
    other = kubectl.fails(
        "apply", "--server-side", "--field-manager=ci", "-f", "-", stdin=yaml.safe_dump(web("web:2", None))
    )
    assert (
        'Apply failed with 1 conflict: conflict with "kubectl": .spec.template.spec.containers[name="web"].image'
    ) in other
    apply(kubectl, web(replicas=None))
    assert kubectl.json("get", "deploy/web")["spec"]["replicas"] == 5, "given up, and the scaler's now"
    apply(kubectl, web("web:2", 2), "--force-conflicts", "--field-manager=ci")
    spec = kubectl.json("get", "deploy/web")["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["containers"][0]["image"]) == (2, "web:2")


def test_kubectl_diff_shows_what_an_apply_would_do(kubectl: Kubectl) -> None:
    apply(kubectl, web())
    same = kubectl.run("diff", "--server-side", "-f", "-", stdin=yaml.safe_dump(web()))
    assert (same.returncode, same.stdout) == (0, ""), same.stderr
    changed = kubectl.run("diff", "--server-side", "-f", "-", stdin=yaml.safe_dump(web("web:2")))
    assert changed.returncode == 1
    assert "-      - image: web:1" in changed.stdout and "+      - image: web:2" in changed.stdout
    dry = apply(kubectl, web("web:3"), "--dry-run=server")
    assert dry == "deployment.apps/web serverside-applied (server dry run)\n"
    assert kubectl.json("get", "deploy/web")["spec"]["template"]["spec"]["containers"][0]["image"] == "web:1"


def test_kubectl_comes_over_from_client_side_apply_and_goes_back(kubectl: Kubectl) -> None:
    """No conflict on the way: what client-side apply owned is handed over, and its annotation kept up to date."""
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(web()))
    assert set(managed(kubectl, "deploy/web")) >= {"kubectl-client-side-apply/Update"}
    apply(kubectl, web("web:2", None))
    owners = managed(kubectl, "deploy/web")
    assert "kubectl/Apply" in owners and "kubectl-client-side-apply/Update" not in owners
    live = kubectl.json("get", "deploy/web")["spec"]
    assert live["replicas"] == 1, "nobody says replicas any more: the default"
    last = yaml.safe_load(kubectl("apply", "view-last-applied", "deploy/web"))
    assert last["spec"]["template"]["spec"]["containers"][0]["image"] == "web:2"
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(web("web:3", 2)))
    live = kubectl.json("get", "deploy/web")["spec"]
    assert (live["replicas"], live["template"]["spec"]["containers"][0]["image"]) == (2, "web:3")


def test_a_client_that_does_not_migrate_has_no_conflicts_either(
    kubectl: Kubectl, private: PrivateApi
) -> None:
    """Older clients apply over client-side apply's managers as they are; its annotation excuses them."""
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(web()))
    client = dynamic.DynamicClient(config.new_client_from_config(str(private.kubeconfig)))
    deployments = client.resources.get(api_version="apps/v1", kind="Deployment")
    spec = {"name": "web", "namespace": kubectl.namespace}
    with pytest.raises(ConflictError):
        client.server_side_apply(deployments, body=web("web:2"), field_manager="somebody", **spec)
    done = client.server_side_apply(deployments, body=web("web:2"), field_manager="kubectl", **spec)
    assert done.spec.template.spec.containers[0].image == "web:2"


def test_kubectl_refuses_what_the_schema_does_not_know(kubectl: Kubectl) -> None:
    doc = web()
    doc["spec"]["repliccas"] = 3
    said = kubectl.fails("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(doc))
    assert f"failed to create typed patch object ({kubectl.namespace}/web; apps/v1, Kind=Deployment)" in said
    assert ".spec.repliccas: field not declared in schema" in said
    twice = web()
    twice["spec"]["template"]["spec"]["containers"] *= 2
    said = kubectl.fails("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(twice))
    assert '.spec.template.spec.containers: duplicate entries for key [name="web"]' in said


def test_other_words_of_kubectl_leave_managers(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "m", "--from-literal=a=b")
    kubectl("label", "configmap/m", "x=y")
    kubectl("annotate", "configmap/m", "note=1")
    kubectl("patch", "configmap/m", "-p", '{"data":{"c":"d"}}')
    owners = managed(kubectl, "configmap/m")
    assert owners["kubectl-create/Update"] == {"f:data": {".": {}, "f:a": {}}}
    assert owners["kubectl-label/Update"] == {"f:metadata": {"f:labels": {".": {}, "f:x": {}}}}
    assert owners["kubectl-annotate/Update"] == {"f:metadata": {"f:annotations": {".": {}, "f:note": {}}}}
    assert owners["kubectl-patch/Update"] == {"f:data": {"f:c": {}}}


def test_custom_resources_are_owned_along_their_schema(kubectl: Kubectl) -> None:
    name = f"hosts.{kubectl.namespace}.example.com"
    fields = {"name": {"type": "string"}, "weight": {"type": "integer"}}
    items = {"type": "object", "properties": fields, "required": ["name"]}
    lists = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    spec = {
        "type": "object",
        "properties": {
            "backends": {"type": "array", "items": items, **lists},
            "rules": {"type": "array", "items": {"type": "string"}},
            "replicas": {"type": "integer"},
        },
    }
    schema = {"type": "object", "properties": {"spec": spec, "status": {"type": "object"}}}
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": scale},
    }
    names = {"plural": "hosts", "singular": "host", "kind": "Host"}
    group = f"{kubectl.namespace}.example.com"
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": [version]},
    }
    assert (
        apply(kubectl, definition)
        == f"customresourcedefinition.apiextensions.k8s.io/{name} serverside-applied\n"
    )
    kubectl("wait", "--for=condition=Established", f"crd/{name}")

    def host(*backends: dict[str, Any], **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": f"{group}/v1",
            "kind": "Host",
            "metadata": {"name": "h"},
            "spec": {"backends": list(backends), **spec},
        }

    apply(kubectl, host({"name": "a", "weight": 1}, rules=["x"], replicas=2))
    apply(kubectl, host({"name": "b", "weight": 2}), "--field-manager=other")
    shown = kubectl.json("get", f"hosts.{group}/h")["spec"]
    assert [one["name"] for one in shown["backends"]] == ["a", "b"]
    said = kubectl.fails(
        "apply", "--server-side", "--field-manager=other", "-f", "-",
        stdin=yaml.safe_dump(host({"name": "a", "weight": 3}, rules=["z"])),
    )  # fmt: skip
    assert '- .spec.backends[name="a"].weight' in said and "- .spec.rules" in said
    apply(kubectl, host(), "--field-manager=other")
    assert [one["name"] for one in kubectl.json("get", f"hosts.{group}/h")["spec"]["backends"]] == ["a"]
    kubectl("scale", f"hosts.{group}/h", "--replicas=4")
    said = kubectl.fails("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(host(replicas=2)))
    assert 'with subresource "scale"' in said and ".spec.replicas" in said
    unknown = kubectl.fails("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(host(nope=1)))
    assert ".spec.nope: field not declared in schema" in unknown
    kubectl("delete", "crd", name)


def test_the_dynamic_client_applies(private: PrivateApi, namespace: str) -> None:
    client = dynamic.DynamicClient(config.new_client_from_config(str(private.kubeconfig)))
    maps = client.resources.get(api_version="v1", kind="ConfigMap")

    def body(**data: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data}

    where = {"name": "m", "namespace": namespace}
    made = client.server_side_apply(maps, body=body(a="1"), field_manager="one", **where)
    assert made.metadata.managedFields[0].operation == "Apply"
    with pytest.raises(ConflictError) as refused:
        client.server_side_apply(maps, body=body(a="2"), field_manager="two", **where)
    assert json.loads(refused.value.body)["details"]["causes"][0]["field"] == ".data.a"
    client.server_side_apply(maps, body=body(a="2"), field_manager="two", force_conflicts=True, **where)
    client.server_side_apply(maps, body=body(b="3"), field_manager="one", **where)
    assert maps.get(**where).data.to_dict() == {"a": "2", "b": "3"}


async def test_kr8s_applies(private: PrivateApi, namespace: str) -> None:
    api = await kr8s.asyncio.api(kubeconfig=str(private.kubeconfig), namespace=namespace)
    doc = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
    async with api.call_api(
        "PATCH",
        url="secrets/s",
        namespace=namespace,
        params={"fieldManager": "kr8s"},
        headers={"Content-Type": "application/apply-patch+yaml"},
        content=json.dumps(doc),
    ) as answer:
        made = answer.json()
    assert made["data"] == {"a": "Yg=="}
    from kr8s.asyncio.objects import Secret

    secret = await Secret.get("s", namespace=namespace, api=api)
    await secret.label({"x": "y"})
    assert len(secret.raw["metadata"]["managedFields"]) == 2

"""The published conformance behaviours of custom resources that other tests here do not walk through already."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from aiohttp import web

from tests.integration.apiserver.conftest import Api
from tests.integration.customresources.conftest import CRDS, cron, definition, established, gone
from tests.integration.customresources.test_kubectl_and_clients import make, shirt, shirts
from tests.support.kubectl import Kubectl, until
from tests.support.tls_server import TlsServer

NAME = "crontabs.stable.example.com"
ITEMS = "/apis/stable.example.com/v1/namespaces/default/crontabs"


async def test_custom_resource_definition_create_and_list(api: Api) -> None:
    crd = definition()
    crd["metadata"]["labels"] = {"e2e": "x"}
    made = await api.post(CRDS, crd)
    assert made["spec"]["conversion"] == {"strategy": "None"}
    assert made["spec"]["names"]["listKind"] == "CronTabList" and made["metadata"]["generation"] == 1
    assert made["status"]["storedVersions"] == ["v1"]
    assert len((await api.get(f"{CRDS}?labelSelector=e2e%3Dx"))["items"]) == 1
    await api.delete(f"{CRDS}?labelSelector=e2e%3Dx")
    await gone(api, NAME)


async def test_custom_resource_definition_discovery(api: Api) -> None:
    groups = {group["name"]: group for group in (await api.get("/apis"))["groups"]}
    assert groups["apiextensions.k8s.io"]["preferredVersion"]["version"] == "v1"
    assert (await api.get("/apis/apiextensions.k8s.io"))["versions"][0]["version"] == "v1"
    found = await api.get("/apis/apiextensions.k8s.io/v1")
    assert {each["name"] for each in found["resources"]} == {
        "customresourcedefinitions",
        "customresourcedefinitions/status",
    }


async def test_custom_resource_definition_status_subresource(api: Api) -> None:
    crd = await established(api, definition())
    path = f"{CRDS}/{NAME}/status"
    assert (await api.get(path))["status"] == crd["status"]
    mine = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from a test"}
    current = await api.get(path)
    current["status"]["conditions"].append(mine)
    current["spec"]["names"]["shortNames"] = ["ignored"]
    updated = await api.put(path, current)
    assert updated["spec"]["names"]["shortNames"] == ["cr"]
    assert "StatusUpdate" in {each["type"] for each in updated["status"]["conditions"]}
    patch = {"status": {"conditions": [*updated["status"]["conditions"], mine | {"type": "StatusPatched"}]}}
    await api.patch(path, patch)
    seen = await api.get(f"{CRDS}/{NAME}")
    assert {"StatusUpdate", "StatusPatched"} <= {each["type"] for each in seen["status"]["conditions"]}


async def test_status_and_main_leave_each_other_alone(api: Api) -> None:
    await established(api, definition(subresources={"status": {}}))
    made = await api.post(ITEMS, cron() | {"status": {"replicas": 5}})
    assert "status" not in made
    path = f"{ITEMS}/a/status"
    given = await api.get(path)
    given |= {"status": {"replicas": 2}, "spec": {"cronSpec": "ignored"}}
    given["metadata"]["labels"] = {"ignored": "too"}
    updated = await api.put(path, given)
    assert updated["status"] == {"replicas": 2} and updated["spec"]["cronSpec"] == "* * * * *"
    assert "labels" not in updated["metadata"] and updated["metadata"]["generation"] == 1
    changed = await api.patch(f"{ITEMS}/a", {"spec": {"image": "i"}, "status": {"replicas": 9}})
    assert changed["status"] == {"replicas": 2} and changed["metadata"]["generation"] == 2
    refused = await api.call(
        "PATCH", path, {"status": {"replicas": "x"}}, 422, content_type="application/merge-patch+json"
    )
    assert refused["details"]["causes"][0]["field"] == "status.replicas"
    await api.get(f"{ITEMS}/a/scale", 404)


async def test_strict_warn_and_ignore(api: Api) -> None:
    await established(api, definition())
    body = cron("strict", bar=1, list=[1])
    body["metadata"]["nose"] = "x"
    refused = await api.post(f"{ITEMS}?fieldValidation=Strict", body, 400)
    for text in ('unknown field "spec.bar"', 'unknown field "metadata.nose"', "strict decoding error"):
        assert text in refused["message"]
    answer = await api.raw("POST", f"{ITEMS}?fieldValidation=Warn", body)
    assert answer.status == 201 and 'unknown field \\"spec.bar\\"' in answer.headers["Warning"]
    answer = await api.raw("POST", f"{ITEMS}?fieldValidation=Ignore", cron("ignored", bar=1))
    assert answer.status == 201 and "Warning" not in answer.headers
    said = b'"apiVersion":"stable.example.com/v1","kind":"CronTab"'
    twice = (
        b"{" + said + b',"metadata":{"name":"twice"},"spec":{"cronSpec":"* * * * *","image":"a","image":"b"}}'
    )
    refused = await api.post(f"{ITEMS}?fieldValidation=Strict", twice, 400)
    assert 'duplicate field "spec.image"' in refused["message"]
    refused = await api.call(
        "PATCH", f"{ITEMS}/strict", {"spec": {}}, 415, content_type="application/strategic-merge-patch+json"
    )
    assert "application/merge-patch+json" in refused["message"]


async def test_what_does_not_say_what_it_is_is_refused(api: Api) -> None:
    """Of a custom object nothing is filled in, as nobody but its definition knows it."""
    await established(api, definition())
    for missing, name in (("kind", "Kind"), ("apiVersion", "apiVersion")):
        body = {field: value for field, value in cron("mute").items() if field != missing}
        refused = await api.post(ITEMS, body, 400)
        assert refused["message"].startswith(
            f"CronTab in version \"v1\" cannot be handled as a CronTab: Object '{name}' is missing in '{{"
        )
    await api.post(ITEMS, cron("mute"))
    mute = await api.get(f"{ITEMS}/mute")
    del mute["kind"]
    assert "Object 'Kind' is missing" in (await api.put(f"{ITEMS}/mute", mute, 400))["message"]
    await api.call(
        "PATCH", f"{ITEMS}/mute", {"spec": {"image": "a"}}, content_type="application/merge-patch+json"
    )


async def test_cluster_scoped_resources(api: Api) -> None:
    await established(
        api, definition("wide.example.com", "Wide", scope="Cluster", subresources={"status": {}})
    )
    root = "/apis/wide.example.com/v1/wides"
    wide = {"apiVersion": "wide.example.com/v1", "kind": "Wide", "metadata": {"name": "w"}}
    await api.post(root, {**wide, "spec": {"cronSpec": "* * * * *"}})
    assert (await api.get(f"{root}/w"))["spec"]["replicas"] == 1
    await api.get("/apis/wide.example.com/v1/namespaces/default/wides", 404)
    named = "application/json;as=Table;g=meta.k8s.io;v=v1"
    table = await api.get(root, accept=named)
    assert [each["name"] for each in table["columnDefinitions"]] == ["Name", "Age"]
    dry = await api.delete(f"{root}/w?dryRun=All")
    assert dry["status"] == "Success"
    await api.delete(f"{root}/w")


async def test_rights_are_asked_by_group_and_plural(api: Api) -> None:
    await established(api, definition())
    refused = await api.get(ITEMS, 403, x_test_user="nobody")
    assert (
        'crontabs.stable.example.com is forbidden: User "nobody" cannot list resource "crontabs"'
        in (refused["message"])
    )


async def test_webhooks_mutate_and_the_schema_prunes(api: Api, tmp_path: Path) -> None:
    patch = [
        {"op": "add", "path": "/spec/image", "value": "added"},
        {"op": "add", "path": "/spec/unknown", "value": "added"},
        {"op": "remove", "path": "/spec/replicas"},
    ]

    async def answer(request: web.Request) -> web.StreamResponse:
        review = json.loads(await request.read())
        response = {
            "uid": review["request"]["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        }
        return web.json_response(review | {"response": response})

    await established(api, definition())
    with TlsServer(tmp_path / "tls", answer) as tls:
        hook = {
            "name": "mutate.example.com",
            "clientConfig": {"url": tls.url, "caBundle": tls.ca_bundle},
            "rules": [
                {
                    "apiGroups": ["stable.example.com"],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["crontabs"],
                }
            ],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        await api.post(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
            {"metadata": {"name": "mutate"}, "webhooks": [hook]},
        )
        made = await api.post(ITEMS, cron(replicas=3))
    assert made["spec"] == {"cronSpec": "* * * * *", "image": "added", "replicas": 1}


def test_publish_with_preserve_unknown_fields(kubectl: Kubectl) -> None:
    root = {
        "type": "object",
        "description": "Waldo is anything.",
        "x-kubernetes-preserve-unknown-fields": True,
    }
    nested = {
        "type": "object",
        "description": "preserve-unknown-properties in nested field for Testing",
        "properties": {
            "spec": {
                "type": "object",
                "description": "Specification of Waldo",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {"dummy": {"type": "object", "description": "Dummy property."}},
            }
        },
    }
    for kind, schema in (("Root", root), ("Nested", nested)):
        group = f"{kind.lower()}.waldo.example.com"
        name = make(kubectl, definition(group, kind, schema=schema))
        for value in ("a", "b"):
            body = {
                "apiVersion": f"{group}/v1",
                "kind": kind,
                "metadata": {"name": "w"},
                "spec": {"unknown": value, "deep": [{"x": 1}]},
            }
            kubectl("apply", "--validate=strict", "-f", "-", stdin=json.dumps(body))
        plural = f"{kind.lower()}s.{group}"
        kept = json.loads(kubectl("get", plural, "w", "-o", "json"))
        assert kept["spec"] == {"unknown": "b", "deep": [{"x": 1}]}
        told = until(lambda plural=plural: kubectl("explain", plural), what="explained")
        assert f"KIND:       {kind}" in told and schema["description"] in told
        kubectl("delete", "crd", name)


def test_edit_and_server_side_apply(
    kubectl: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = "edit.example.com"
    name = make(kubectl, shirts(group))

    def apply(manager: str) -> tuple[str, ...]:
        return ("apply", "--server-side", f"--field-manager={manager}", "-f", "-")

    body = shirt("one", group, buttons=[{"name": "top", "holes": 2}])
    assert "serverside-applied" in kubectl(*apply("first"), stdin=json.dumps(body))
    body["spec"] = {"size": "M", "buttons": [{"name": "low", "holes": 4}]}
    kubectl(*apply("second"), stdin=json.dumps(body))
    obj = json.loads(kubectl("get", "shirts.edit.example.com", "one", "-o", "json"))
    assert [each["name"] for each in obj["spec"]["buttons"]] == ["top", "low"]
    body["spec"]["size"] = "L"
    refused = kubectl.fails(*apply("second"), stdin=json.dumps(body))
    assert 'conflict with "first": .spec.size' in refused
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/color: red/color: blue/' \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    assert "edited" in kubectl("edit", "shirts.edit.example.com", "one")
    assert kubectl("get", "shirts.edit.example.com", "one", "-o", "jsonpath={.spec.color}") == "blue"
    kubectl("delete", "crd", name)

"""Kubernetes' published behaviours of admission webhooks: kubectl and the Python client against a real TLS webhook."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes import client

from tests.support.kubectl import Kubectl, KubectlError
from tests.support.private_api import PrivateApi
from tests.support.tls_server import TlsServer

GROUP = "admissionregistration.k8s.io/v1"


class Webhook:
    """A webhook with one path for each of its manners."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[dict[str, Any]] = []
        self.expected = 0  # how many /together waits for
        self.everybody = asyncio.Event()
        self.server = TlsServer(folder, self.answer, sans=("127.0.0.1", "localhost", "judge.webhooks.svc"))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked = body["request"]
        self.asked.append(asked)
        response = {"uid": asked["uid"], "allowed": True}
        match request.path:
            case "/deny":
                response |= {"allowed": False, "status": {"message": "this webhook denies all requests"}}
            case "/deny-unwanted":
                data = (asked["object"] or asked["oldObject"] or {}).get("data") or {}
                if "unwanted" in data:
                    message = "the configmap contains unwanted key and value"
                    response |= {"allowed": False, "status": {"code": 403, "message": message}}
            case "/slow":
                await asyncio.sleep(10)
            case "/mark":
                response |= patch({"op": "add", "path": "/data/marked", "value": "yes"})
            case "/first":
                if "start" in asked["object"].get("data", {}):
                    response |= patch({"op": "add", "path": "/data/first", "value": "yes"})
            case "/second":
                if "first" in asked["object"].get("data", {}):
                    response |= patch({"op": "add", "path": "/data/second", "value": "yes"})
            case "/unknown":
                response |= patch({"op": "add", "path": "/data/unknown", "value": "yes"})
            case "/together":
                # Answers once everybody who is asked at the same time has been asked.
                if len(self.asked) == self.expected:
                    self.everybody.set()
                await self.everybody.wait()
            case "/giant":
                response["warnings"] = ["x" * (20 << 20)]
            case "/warn":
                response |= {"warnings": ["think twice"], "auditAnnotations": {"thought": "once"}}
        return web.json_response(
            {"kind": "AdmissionReview", "apiVersion": body["apiVersion"], "response": response}
        )

    def hook(self, path: str, kubectl: Kubectl, **fields: Any) -> dict[str, Any]:
        """About config maps of the test's namespace, unless said otherwise."""
        return {
            "name": f"{path.strip('/')}.example.com",
            "clientConfig": {"url": f"{self.server.url}{path}", "caBundle": self.server.ca_bundle},
            "rules": [
                {
                    "operations": ["CREATE", "UPDATE", "DELETE"],
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "resources": ["configmaps"],
                }
            ],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": kubectl.namespace}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1", "v1beta1"],
        } | fields


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}


@pytest.fixture
def webhook(folder: Path) -> Iterator[Webhook]:
    made = Webhook(folder)
    with made.server:
        yield made


@pytest.fixture
def configure(kubectl: Kubectl) -> Iterator[Any]:
    """Makes configurations of either kind, and takes them away again."""
    made: list[tuple[str, str]] = []

    def make(kind: str, name: str, *hooks: dict[str, Any]) -> None:
        body = {
            "apiVersion": GROUP,
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": hooks,
        }
        kubectl("create", "-f", "-", stdin=json.dumps(body))
        made.append((f"{kind}WebhookConfiguration", name))

    yield make
    for kind, name in made:
        kubectl("delete", kind, name, "--ignore-not-found")


def create(kubectl: Kubectl, name: str, **data: str) -> dict[str, str]:
    kubectl("create", "configmap", name, *(f"--from-literal={key}={value}" for key, value in data.items()))
    found: dict[str, str] = kubectl.json("get", "configmap", name).get("data") or {}
    return found


def test_discovery_names_the_kinds(kubectl: Kubectl) -> None:
    groups = json.loads(kubectl("get", "--raw", "/apis"))["groups"]
    (group,) = [one for one in groups if one["name"] == "admissionregistration.k8s.io"]
    assert {"groupVersion": GROUP, "version": "v1"} in group["versions"]
    resources = {one["name"] for one in json.loads(kubectl("get", "--raw", f"/apis/{GROUP}"))["resources"]}
    assert {"mutatingwebhookconfigurations", "validatingwebhookconfigurations"} <= resources


def test_creation_update_and_deletion_are_denied(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    configure("Validating", "deny", webhook.hook("/deny-unwanted", kubectl))
    said = kubectl.fails("create", "configmap", "a", "--from-literal=unwanted=1")
    assert (
        'admission webhook "deny-unwanted.example.com" denied the request: the configmap contains unwanted'
        in said
    )
    create(kubectl, "b", good="1")
    said = kubectl.fails("patch", "configmap", "b", "-p", '{"data":{"unwanted":"1"}}')
    assert "denied the request" in said
    assert kubectl.json("get", "configmap", "b")["data"] == {"good": "1"}
    assert "denied" in kubectl.fails(
        "create", "configmap", "c", "--from-literal=unwanted=1", "--dry-run=server"
    )
    (asked,) = [one for one in webhook.asked if one["dryRun"]]
    assert asked["options"]["dryRun"] == ["All"]


def test_a_slow_webhook_is_given_up(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    configure("Validating", "slow", webhook.hook("/slow", kubectl, timeoutSeconds=1))
    said = kubectl.fails("create", "configmap", "a")
    assert (
        'failed calling webhook "slow.example.com": failed to call webhook: Post '
        f'"{webhook.server.url}/slow?timeout=1s": context deadline exceeded'
    ) in said
    kubectl("delete", "validatingwebhookconfiguration", "slow")
    configure("Validating", "slow", webhook.hook("/slow", kubectl, timeoutSeconds=1, failurePolicy="Ignore"))
    create(kubectl, "a", x="1")


def test_who_cannot_be_called_fails_closed(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    hook = webhook.hook("/allow", kubectl)
    del hook["clientConfig"]["caBundle"]
    configure("Validating", "closed", hook)
    said = kubectl.fails("create", "configmap", "a")
    assert "tls: failed to verify certificate: x509: certificate signed by unknown authority" in said
    assert webhook.asked == []


def test_configurations_are_never_judged(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    rules = [
        {
            "operations": ["*"],
            "apiGroups": ["admissionregistration.k8s.io"],
            "apiVersions": ["*"],
            "resources": ["*/*"],
        }
    ]
    about = {"rules": rules, "namespaceSelector": {}}
    configure("Validating", "deny-configurations", webhook.hook("/deny", kubectl, **about))
    configure("Mutating", "change-configurations", webhook.hook("/mark", kubectl, **about))
    configure("Validating", "other", webhook.hook("/allow", kubectl))
    kubectl("delete", "validatingwebhookconfiguration", "other")
    assert webhook.asked == []


def test_changes_are_made_in_order(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    configure("Mutating", "ordered", webhook.hook("/first", kubectl), webhook.hook("/second", kubectl))
    assert create(kubectl, "a", start="1") == {"start": "1", "first": "yes", "second": "yes"}


def test_updated_configurations_count(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    for kind, path in (("Mutating", "/mark"), ("Validating", "/deny")):
        hook = webhook.hook(path, kubectl)
        name, resource = f"changing-{kind.lower()}", f"{kind.lower()}webhookconfiguration"
        configure(kind, name, hook)
        update = '[{"op":"replace","path":"/webhooks/0/rules/0/operations","value":["UPDATE"]}]'
        kubectl("patch", resource, name, "--type=json", "-p", update)
        assert create(kubectl, f"{kind.lower()}-a", x="1") == {"x": "1"}
        kubectl("patch", resource, name, "--type=json", "-p", update.replace("UPDATE", "CREATE"))
        if kind == "Mutating":
            assert create(kubectl, "mutating-b", x="1") == {"x": "1", "marked": "yes"}
        else:
            assert "denied the request" in kubectl.fails("create", "configmap", "validating-b")
        kubectl("delete", resource, name)


@pytest.mark.parametrize("kind", ["Mutating", "Validating"])
def test_collections_of_configurations(
    kubectl: Kubectl, webhook: Webhook, python: client.ApiClient, kind: str
) -> None:
    path = {"Mutating": "/mark", "Validating": "/deny-unwanted"}[kind]
    api = client.AdmissionregistrationV1Api(python)
    make = getattr(api, f"create_{kind.lower()}_webhook_configuration")
    for number in range(10):
        metadata = {"name": f"many-{kind.lower()}-{number}", "labels": {"many": kind}}
        make({"metadata": metadata, "webhooks": [webhook.hook(path, kubectl)]})
    listed = getattr(api, f"list_{kind.lower()}_webhook_configuration")(label_selector=f"many={kind}")
    assert len(listed.items) == 10
    hook = listed.items[0].webhooks[0]
    assert (hook.failure_policy, hook.match_policy, hook.timeout_seconds) == ("Fail", "Equivalent", 10)
    assert hook.rules[0].scope == "*"
    if kind == "Mutating":
        assert create(kubectl, "a", x="1")["marked"] == "yes"
    else:
        assert "denied" in kubectl.fails("create", "configmap", "a", "--from-literal=unwanted=1")
    getattr(api, f"delete_collection_{kind.lower()}_webhook_configuration")(label_selector=f"many={kind}")
    assert create(kubectl, "b", unwanted="1") == {"unwanted": "1"}


def test_a_definition_is_denied(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    rules = [
        {
            "operations": ["CREATE"],
            "apiGroups": ["apiextensions.k8s.io"],
            "apiVersions": ["*"],
            "resources": ["customresourcedefinitions"],
        }
    ]
    chosen = {"matchLabels": {"judged": "yes"}}
    configure(
        "Validating",
        "no-crd",
        webhook.hook("/deny", kubectl, rules=rules, namespaceSelector={}, objectSelector=chosen),
    )
    schema = {"openAPIV3Schema": {"type": "object"}}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com", "labels": {"judged": "yes"}},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    assert "denied the request" in kubectl.fails("create", "-f", "-", stdin=json.dumps(body))


def test_attaching_is_denied(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    rules = [
        {"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/attach"]}
    ]
    configure("Validating", "no-attach", webhook.hook("/deny", kubectl, rules=rules))
    kubectl("create", "serviceaccount", "default")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    kubectl("create", "-f", "-", stdin=json.dumps(pod))
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/p/attach?stdout=true"
    said = kubectl.fails("get", "--raw", path)
    assert 'admission webhook "attach' in said or "denied the request" in said
    assert webhook.asked[-1]["kind"]["kind"] == "PodAttachOptions"


def test_warnings_reach_the_terminal(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    configure("Validating", "warn", webhook.hook("/warn", kubectl))
    done = kubectl.run("create", "configmap", "a")
    assert done.returncode == 0 and "Warning: think twice" in done.stderr


def test_judges_are_asked_side_by_side(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    webhook.expected = 4
    hooks = [
        {**webhook.hook("/together", kubectl), "name": f"together-{number}.example.com", "timeoutSeconds": 5}
        for number in range(4)
    ]
    configure("Validating", "together", *hooks)
    create(kubectl, "a")
    assert len(webhook.asked) == 4 and len({asked["uid"] for asked in webhook.asked}) == 4


def test_a_giant_answer_is_none(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    configure("Validating", "giant", webhook.hook("/giant", kubectl))
    assert "the answer is larger than 16777216 bytes" in kubectl.fails("create", "configmap", "a")
    kubectl("delete", "validatingwebhookconfiguration", "giant")
    configure("Validating", "giant", webhook.hook("/giant", kubectl, failurePolicy="Ignore"))
    create(kubectl, "a")


def test_a_service_reaches_the_webhook(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    """An ExternalName service leads to loopback, where endpoints may not; the certificate is the service's all the same."""
    if "webhooks" not in kubectl("get", "namespaces", "-o", "name"):
        kubectl("create", "namespace", "webhooks")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "judge", "namespace": "webhooks"},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    kubectl.within("webhooks")("apply", "-f", "-", stdin=json.dumps(service))
    where = {"namespace": "webhooks", "name": "judge", "path": "/mark", "port": webhook.server.port}
    config = {"service": where, "caBundle": webhook.server.ca_bundle}
    configure("Mutating", "by-service", webhook.hook("/mark", kubectl, clientConfig=config))
    assert create(kubectl, "a", x="1")["marked"] == "yes"
    kubectl("delete", "service", "judge", "--namespace=webhooks")
    with pytest.raises(KubectlError, match='service "judge" not found'):
        create(kubectl, "b", x="1")


def test_calls_are_counted(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    configure("Validating", "counted", webhook.hook("/deny", kubectl))
    kubectl.fails("create", "configmap", "a")
    lines = kubectl("get", "--raw", "/metrics")
    labels = 'name="deny.example.com",operation="CREATE",rejected="true",type="validating"'
    assert f"apiserver_admission_webhook_admission_duration_seconds_count{{{labels}}}" in lines
    assert 'apiserver_admission_webhook_request_total{code="200"' in lines
    assert (
        'apiserver_admission_webhook_rejection_count{error_type="no_error",name="deny.example.com"' in lines
    )


@pytest.mark.parametrize("kind", ["Mutating", "Validating"])
def test_match_conditions_choose(kubectl: Kubectl, webhook: Webhook, configure: Any, kind: str) -> None:
    conditions = [
        {"name": "marked", "expression": "object.metadata.?labels['ask'].orValue('no') == 'yes'"},
        {"name": "not-deleted", "expression": "request.operation != 'DELETE'"},
    ]
    configure(kind, "choosy", webhook.hook("/deny", kubectl, matchConditions=conditions))
    create(kubectl, "a", x="1")
    assert webhook.asked == []
    said = kubectl.fails("label", "configmap", "a", "ask=yes")
    assert 'admission webhook "deny.example.com" denied the request' in said
    assert len(webhook.asked) == 1


def test_match_conditions_that_fail(kubectl: Kubectl, webhook: Webhook, configure: Any) -> None:
    conditions = [{"name": "wrong", "expression": "object.data.nothing == '1'"}]
    configure("Validating", "failing", webhook.hook("/allow", kubectl, matchConditions=conditions))
    said = kubectl.fails("create", "configmap", "a", "--from-literal=x=1")
    assert 'configmaps "a" is forbidden: ' in said
    assert "expression 'object.data.nothing == '1'' resulted in error: no such key: nothing" in said
    kubectl("delete", "validatingwebhookconfiguration", "failing")
    hook = webhook.hook("/deny", kubectl, matchConditions=conditions, failurePolicy="Ignore")
    configure("Validating", "failing", hook)
    create(kubectl, "a", x="1")
    assert webhook.asked == []


def test_match_conditions_are_checked_when_they_are_written(
    kubectl: Kubectl, webhook: Webhook, configure: Any
) -> None:
    for expression, said in (
        ("... [] bad expression", "compilation failed: ERROR: <input>:1:2: Syntax error"),
        ("1", "must evaluate to bool"),
        ("namespaceObject == null", "undeclared reference to 'namespaceObject'"),
    ):
        hook = webhook.hook("/deny", kubectl, matchConditions=[{"name": "x", "expression": expression}])
        with pytest.raises(KubectlError) as raised:
            configure("Validating", "refused", hook)
        assert f'webhooks[0].matchConditions[0].expression: Invalid value: "{expression}": ' in str(
            raised.value
        )
        assert said in str(raised.value)


@pytest.fixture(scope="module")
def fish(private: PrivateApi) -> str:
    """A kind of somebody's own, whose schema knows three keys of its data. Returns its group."""
    admin = Kubectl(private.kubeconfig)
    keys = {name: {"type": "string"} for name in ("a", "marked", "unwanted")}
    data = {"type": "object", "properties": keys}
    schema = {"type": "object", "properties": {"data": data}}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "fish.webhooks.example.com"},
        "spec": {
            "group": "webhooks.example.com",
            "scope": "Namespaced",
            "names": {"plural": "fish", "singular": "fish", "kind": "Fish", "listKind": "FishList"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}},
                {"name": "v2", "served": True, "storage": False, "schema": {"openAPIV3Schema": schema}},
            ],
        },
    }
    admin("create", "-f", "-", stdin=json.dumps(body))
    admin("wait", "--for=condition=Established", "crd/fish.webhooks.example.com", "--timeout=20s")
    return "webhooks.example.com"


def a_fish(kubectl: Kubectl, name: str, version: str = "v1", **data: str) -> dict[str, Any]:
    body = {
        "apiVersion": f"webhooks.example.com/{version}",
        "kind": "Fish",
        "metadata": {"name": name},
        "data": data,
    }
    kubectl("create", "-f", "-", stdin=json.dumps(body))
    found: dict[str, Any] = kubectl.json("get", "fish", name)["data"]
    return found


def about_fish(*operations: str) -> dict[str, Any]:
    rule = {"apiGroups": ["webhooks.example.com"], "apiVersions": ["v1"], "resources": ["fish"]}
    return {"rules": [{"operations": list(operations), **rule}]}


def test_custom_resources_are_denied(kubectl: Kubectl, webhook: Webhook, configure: Any, fish: str) -> None:
    configure("Validating", "no-fish", webhook.hook("/deny-unwanted", kubectl, **about_fish("*")))
    with pytest.raises(KubectlError, match="denied the request: the configmap contains unwanted key"):
        a_fish(kubectl, "f", unwanted="1")
    a_fish(kubectl, "f", a="1")
    assert "denied" in kubectl.fails("patch", "fish", "f", "--type=merge", "-p", '{"data":{"unwanted":"1"}}')
    kubectl("delete", "validatingwebhookconfiguration", "no-fish")
    kubectl("patch", "fish", "f", "--type=merge", "-p", '{"data":{"unwanted":"1"}}')
    configure("Validating", "no-fish", webhook.hook("/deny-unwanted", kubectl, **about_fish("DELETE")))
    assert "denied the request" in kubectl.fails("delete", "fish", "f")
    kubectl("patch", "fish", "f", "--type=merge", "-p", '{"data":{"unwanted":null}}')
    kubectl("delete", "fish", "f")


def test_custom_resources_are_changed_and_pruned(
    kubectl: Kubectl, webhook: Webhook, configure: Any, fish: str
) -> None:
    """What the schema does not know of a webhook's additions is not stored; a request in v2 is shown as v1."""
    hooks = [webhook.hook(path, kubectl, **about_fish("CREATE")) for path in ("/mark", "/unknown")]
    configure("Mutating", "mark-fish", *hooks)
    assert a_fish(kubectl, "f", a="1") == {"a": "1", "marked": "yes"}
    assert a_fish(kubectl, "g", version="v2", a="1") == {"a": "1", "marked": "yes"}
    shown = webhook.asked[-1]
    assert (shown["kind"]["version"], shown["requestKind"]["version"]) == ("v1", "v2")
    assert shown["object"]["apiVersion"] == "webhooks.example.com/v1"

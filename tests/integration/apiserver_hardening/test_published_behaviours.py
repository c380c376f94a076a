"""Behaviours of v1.34's published list that need a few steps each, asked for as its tests ask for them."""

from __future__ import annotations

import json
from typing import Any

import kr8s
import pytest
from kubernetes import client, config, watch

from bamikube.api import table
from tests.support.kubectl import until
from tests.support.objects import example

from .conftest import Wire

MERGE = {"Content-Type": "application/merge-patch+json"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
OPERATIONS = {"Content-Type": "application/json-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}
POD = {"containers": [{"name": "c", "image": "i"}]}


# --- field validation -----------------------------------------------------------------------------------------------

_DEPLOYMENT = (
    b'{"metadata":{"name":"d"},"spec":{"unknownField":"foo","replicas":2,"replicas":3,"selector":{"matchLabels":{"a":'
    b'"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}'
)


def test_faults_of_fields_are_told_in_order(wire: Wire, namespace: str) -> None:
    """Unknown and duplicate fields of a typed object, of its YAML, and of an applied document."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    faults = 'strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas"'
    wire.send("POST", f"{path}?fieldValidation=Strict", _DEPLOYMENT).must(400, faults)
    text = b'\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  a: "1"\n  a: "2"\n'
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    line = 'yaml: unmarshal errors:\n  line 8: key "a" already set in map'
    yaml = {"Content-Type": "application/yaml"}
    wire.send("POST", f"{path}?fieldValidation=Strict", text, yaml).must(
        400, f"strict decoding error: {line}"
    )
    refused = wire.send("PATCH", f"{path}/c?fieldManager=m&fieldValidation=Strict", text, APPLY)
    refused.must(400, f"error strict decoding YAML: error converting YAML to JSON: {line}")
    warned = wire.send("POST", path, text, yaml)
    assert warned.status == 201 and r"line 8: key \"a\" already set in map" in warned.headers["Warning"]
    for parameter in ("fieldValidation=Some", "dryRun=Some"):
        name = parameter.partition("=")[0]
        wire.send("POST", f"{path}?{parameter}", {}).must(
            422, f'CreateOptions.meta.k8s.io "" is invalid: {name}'
        )


@pytest.mark.parametrize(
    ("headers", "patch", "value", "message"),
    [
        (STRATEGIC, {"spec": {"type": 7, "ports": [{"port": 1}]}}, '"map[spec:map[ports:[map[port:1]] type:7]]"', "unrecognized type: string"),
        (STRATEGIC, {"spec": {"selector": "a"}}, '"map[spec:map[selector:a]]"', "cannot restore map from string"),
        (MERGE, {"spec": {"ports": "a"}}, '"{', "json: cannot unmarshal string into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort"),
        (MERGE, {"spec": {"odd": 1}}, '"{', 'strict decoding error: unknown field "spec.odd"'),
        (OPERATIONS, [{"op": "add", "path": "/spec/odd", "value": 1, "much": 2}], '"{', 'strict decoding error: json patch unknown field "[0].much", unknown field "spec.odd"'),
    ],
)  # fmt: skip
def test_a_patch_whose_outcome_is_no_object(
    wire: Wire, namespace: str, headers: dict[str, str], patch: Any, value: str, message: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    wire.send("POST", path, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}).must(201)
    refused = wire.send("PATCH", f"{path}/s?fieldValidation=Strict", patch, headers)
    told = refused.must(422, f' "" is invalid: patch: Invalid value: {value}', message)
    assert told["details"]["causes"][0]["field"] == "patch" and "kind" not in told["details"]


# --- parts of objects -----------------------------------------------------------------------------------------------


def test_approvals_take_metadata_and_versions(wire: Wire) -> None:
    """CSR API operations: /approval is patched with an annotation and a condition, and updated with another."""
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    body = example(table.by_name("certificatesigningrequests.certificates.k8s.io"))
    body["metadata"] = {"generateName": "csr-"}
    made = wire.send("POST", path, body).must(201)
    path = f"{path}/{made['metadata']['name']}"
    condition = {"type": "ApprovalPatch", "status": "True", "reason": "e2e"}
    patch = {"metadata": {"annotations": {"patchedapproval": "true"}}, "status": {"conditions": [condition]}}
    patched = wire.send("PATCH", f"{path}/approval", patch, MERGE).must(200)
    assert patched["metadata"]["annotations"] == {"patchedapproval": "true"}
    assert [each["type"] for each in patched["status"]["conditions"]] == ["ApprovalPatch"]
    patched["status"]["conditions"].append({"type": "Approved", "status": "True", "reason": "E2E"})
    wire.send("PUT", f"{path}/approval", patched).must(200)
    wire.send("PUT", f"{path}/approval", patched).must(409, "the object has been modified")
    wire.send("DELETE", path).must(200)


def test_statuses_are_filled_in(wire: Wire, namespace: str) -> None:
    """A load balancer's addresses get their mode; a volume remembers when its phase changed."""
    path = f"/api/v1/namespaces/{namespace}/services"
    spec = {"type": "LoadBalancer", "loadBalancerClass": "example.com/vip", "ports": [{"port": 80}]}
    wire.send("POST", path, {"metadata": {"name": "s"}, "spec": spec}).must(201)
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}, {"hostname": "a.example.com"}]}}}
    patched = wire.send("PATCH", f"{path}/s/status", status, MERGE).must(200)
    first, second = patched["status"]["loadBalancer"]["ingress"]
    assert (first["ipMode"], "ipMode" in second) == ("VIP", False)
    path = "/api/v1/persistentvolumes"
    volume = example(table.by_name("persistentvolumes")) | {"metadata": {"name": "phases"}}
    made = wire.send("POST", path, volume).must(201)
    assert made["status"]["lastPhaseTransitionTime"] == made["metadata"]["creationTimestamp"]
    said = {"status": {"phase": "Available", "lastPhaseTransitionTime": "2026-01-02T03:04:05Z"}}
    patched = wire.send("PATCH", f"{path}/phases/status", said, MERGE).must(200)
    assert patched["status"]["lastPhaseTransitionTime"] == "2026-01-02T03:04:05Z"
    patched = wire.send("PATCH", f"{path}/phases/status", {"status": {"phase": "Failed"}}, MERGE).must(200)
    assert patched["status"]["lastPhaseTransitionTime"] > "2026-01-02T03:04:05Z"
    wire.send("DELETE", f"{path}/phases").must(200)


def test_scopes_that_count_nothing(wire: Wire, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    for hard, scope in (
        ("requests.cpu", "BestEffort"),
        ("services", "Terminating"),
        ("pods", "VolumeAttributesClass"),
    ):
        spec = {"hard": {hard: "1"}, "scopes": [scope]}
        answer = wire.send("POST", path, {"metadata": {"name": "q"}, "spec": spec})
        answer.must(422, "spec.scopes", "unsupported scope applied to resource")


# --- forms ----------------------------------------------------------------------------------------------------------


def test_forms_that_do_not_fit(wire: Wire, namespace: str) -> None:
    """Lists that are streamed are no tables; metadata of a list is not metadata of an object."""
    path = f"/api/v1/namespaces/{namespace}/secrets"
    wire.send("POST", path, {"metadata": {"name": "s"}}).must(201)
    table_only = "application/json;as=Table;v=v1;g=meta.k8s.io"
    stream = (
        f"{path}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    )
    wire.send("GET", stream, None, {"Accept": table_only}).must(406)
    lent = wire.send("GET", stream, None, {"Accept": f"{table_only},application/json"})
    assert json.loads(lent.body.partition(b"\n")[0])["object"]["kind"] == "Secret"
    one, many = (f"application/json;as={kind};g=meta.k8s.io;v=v1" for kind in ("PartialObjectMetadata", "PartialObjectMetadataList"))  # fmt: skip
    refused = "you requested PartialObjectMetadata, but the requested object is a list"
    wire.send("GET", path, None, {"Accept": one}).must(406, refused)
    wire.send("GET", f"{path}/s", None, {"Accept": many}).must(406, "is not a list (*core.Secret)")


# --- what controllers do --------------------------------------------------------------------------------------------


def test_a_namespace_loses_its_pods_first(wire: Wire, namespace: str) -> None:
    """OrderedNamespaceDeletion: while a pod is left, a config map stays."""
    path = f"/api/v1/namespaces/{namespace}"
    pod = {"metadata": {"name": "p", "finalizers": ["e2e.example.com/finalizer"]}, "spec": POD}
    until(lambda: wire.send("GET", f"{path}/serviceaccounts/default").status == 200)
    wire.send("POST", f"{path}/pods", pod).must(201)
    wire.send("POST", f"{path}/configmaps", {"metadata": {"name": "c"}}).must(201)
    wire.send("DELETE", path).must(200)

    def waits() -> bool:
        conditions = wire.send("GET", path).must(200)["status"].get("conditions") or []
        return any("pods. has 1 resource instances" in each["message"] for each in conditions)

    until(waits)
    assert "deletionTimestamp" not in wire.send("GET", f"{path}/configmaps/c").must(200)["metadata"]
    wire.send("PATCH", f"{path}/pods/p", {"metadata": {"finalizers": None}}, MERGE).must(200)
    until(lambda: wire.send("GET", path).status == 404)


def test_expressions_of_policies_are_typed(wire: Wire) -> None:
    """Type checking of a ValidatingAdmissionPolicy: none for what fits, one warning for each expression that does not."""
    root = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    definition = example(table.by_name("customresourcedefinitions.apiextensions.k8s.io"))
    spec = definition["spec"] | {"group": "typed.example.com"}
    schema = {"type": "object", "properties": {"size": {"type": "integer"}}}
    spec["versions"] = [spec["versions"][0] | {"schema": {"openAPIV3Schema": schema}}]
    definition |= {"metadata": {"name": "things.typed.example.com"}, "spec": spec}
    wire.send("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).must(201)

    def warnings(
        name: str, group: str, plural: str, expression: str, message: str = ""
    ) -> list[dict[str, str]]:
        rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [plural]}
        validation = {"expression": expression} | ({"messageExpression": message} if message else {})
        labels = {"matchLabels": {"never": "there"}}
        constraints = {"resourceRules": [rule], "namespaceSelector": labels}
        body = {
            "metadata": {"name": name},
            "spec": {"matchConstraints": constraints, "validations": [validation]},
        }
        wire.send("POST", root, body).must(201)
        checked = until(lambda: (wire.send("GET", f"{root}/{name}").json.get("status") or {}).get("typeChecking") is not None)  # fmt: skip
        status = wire.send("GET", f"{root}/{name}").must(200)["status"]
        wire.send("DELETE", f"{root}/{name}").must(200)
        assert (checked, status["observedGeneration"]) == (True, 1)
        found: list[dict[str, str]] = status["typeChecking"].get("expressionWarnings", [])
        return found

    assert warnings("right", "apps", "deployments", "object.spec.replicas > 1") == []
    confused = ("object.spec.replicas > '1'", "'wants replicas > 1, got ' + object.spec.replicas")
    first, second = warnings("confused", "apps", "deployments", *confused)
    assert first["fieldRef"] == "spec.validations[0].expression"
    assert first["warning"].startswith("apps/v1, Kind=Deployment: ERROR: <input>:1:22: ")
    assert "found no matching overload for '_>_' applied to '(int, string)'" in first["warning"]
    assert second["fieldRef"] == "spec.validations[0].messageExpression"
    assert "found no matching overload for '_+_' applied to '(string, int)'" in second["warning"]
    (custom,) = warnings("custom", "typed.example.com", "things", "object.size == 'large'")
    assert "typed.example.com/v1, Kind=Thing" in custom["warning"]


# --- clients --------------------------------------------------------------------------------------------------------


def test_the_official_watch_goes_on(wire: Wire, namespace: str) -> None:
    """It resumes where the last one ended, and its bookmarks move it on."""
    core = client.CoreV1Api(config.new_client_from_config(str(wire.api.kubeconfig)))
    made = core.create_namespaced_config_map(namespace, {"metadata": {"name": "w"}})
    selector = {"field_selector": "metadata.name=w"}
    follow = watch.Watch()
    for event in follow.stream(core.list_namespaced_config_map, namespace, **selector):
        assert (event["type"], event["object"].metadata.uid) == ("ADDED", made.metadata.uid)
        core.patch_namespaced_config_map("w", namespace, {"data": {"a": "b"}})
        break
    changed = watch.Watch().stream(
        core.list_namespaced_config_map, namespace, resource_version=follow.resource_version, **selector
    )
    assert next(iter(changed))["object"].data == {"a": "b"}


def test_verbs_of_kr8s(wire: Wire, namespace: str) -> None:
    """Objects of a client that is not of the project's family: label, annotate, scale, wait, adopt, delete."""
    api = kr8s.api(kubeconfig=str(wire.api.kubeconfig), namespace=namespace)
    until(lambda: wire.send("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/default").status == 200)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": POD}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    deployment = kr8s.objects.Deployment(body, api=api)
    deployment.create()
    deployment.label({"x": "y"})
    deployment.annotate({"n": "1"})
    deployment.scale(2)
    assert (deployment.labels["x"], deployment.annotations["n"], deployment.replicas) == ("y", "1", 2)
    pods = until(lambda: found if len(found := list(api.get("pods", namespace=namespace))) == 2 else None)
    assert {pod.labels["a"] for pod in pods} == {"b"}
    deployment.delete(propagation_policy="Foreground")
    until(lambda: not deployment.exists())
    assert not list(api.get("pods", namespace=namespace))

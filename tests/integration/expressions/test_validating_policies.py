"""ValidatingAdmissionPolicy as kubectl and the official client meet it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from kubernetes import client

from tests.support.kubectl import Kubectl

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: nginx}]}
"""


def deployment(replicas: int) -> str:
    return DEPLOYMENT.replace("REPLICAS", str(replicas))


class Policies:
    """Policies of one test: about its own namespace only, and gone afterwards."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        self.made: list[tuple[str, str]] = []

    def create(
        self, spec: dict[str, Any], binding: dict[str, Any] | None = None, resources: str = "apps/deployments"
    ) -> str:
        group, _, plural = resources.rpartition("/")
        name = f"policy-{self.kubectl.namespace}-{len(self.made)}"
        rule = {
            "apiGroups": [group],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": [plural],
        }
        policy = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {"matchConstraints": {"resourceRules": [rule]}, **spec},
        }
        bound = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": f"{name}-b"},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {
                    "namespaceSelector": {
                        "matchLabels": {"kubernetes.io/metadata.name": self.kubectl.namespace}
                    }
                },
                **(binding or {}),
            },
        }
        self.made += [("validatingadmissionpolicy", name), ("validatingadmissionpolicybinding", f"{name}-b")]
        self.kubectl("create", "-f", "-", stdin=yaml.safe_dump_all([policy, bound]))
        return name


@pytest.fixture
def policies(kubectl: Kubectl):  # type: ignore[no-untyped-def]
    held = Policies(kubectl)
    yield held
    for kind, name in held.made:
        kubectl("delete", "--ignore-not-found", kind, name)


def test_a_policy_denies(kubectl: Kubectl, policies: Policies, python: client.ApiClient) -> None:
    name = policies.create({"validations": [{"expression": "object.spec.replicas <= 5"}]})
    said = kubectl.fails("create", "-f", "-", stdin=deployment(6))
    assert said == (
        f"The deployments \"web\" is invalid: : ValidatingAdmissionPolicy '{name}' with binding '{name}-b' denied request: "
        "failed expression: object.spec.replicas <= 5\n"
    )
    kubectl("create", "-f", "-", stdin=deployment(5))
    with pytest.raises(client.ApiException) as raised:
        client.AppsV1Api(python).patch_namespaced_deployment(
            "web", kubectl.namespace, {"spec": {"replicas": 9}}
        )
    status = json.loads(raised.value.body)
    text = f"ValidatingAdmissionPolicy '{name}' with binding '{name}-b' denied request: failed expression: object.spec.replicas <= 5"
    assert (raised.value.status, status["reason"]) == (422, "Invalid")
    assert status["message"] == f'deployments.apps "web" is forbidden: {text}'
    assert status["details"]["causes"] == [{"message": text}]


def test_of_several_denials_the_first_is_the_answer(kubectl: Kubectl, policies: Policies) -> None:
    wrong = [{"expression": "false", "message": f"wrong {number}"} for number in range(3)]
    binding = {"validationActions": ["Deny", "Audit"]}
    first = policies.create({"validations": wrong}, binding)
    policies.create({"validations": [{"expression": "false", "message": "another policy"}]})
    said = kubectl.fails("create", "-f", "-", stdin=deployment(1))
    assert f"ValidatingAdmissionPolicy '{first}' with binding '{first}-b' denied request: wrong 0\n" in said


def test_messages_reasons_and_variables(kubectl: Kubectl, policies: Policies) -> None:
    policies.create(
        {
            "variables": [
                {"name": "replicas", "expression": "object.spec.replicas"},
                {
                    "name": "limit",
                    "expression": "int(namespaceObject.metadata.?labels['limit'].orValue('3'))",
                },
                {"name": "fits", "expression": "variables.replicas <= variables.limit"},
            ],
            "validations": [
                {
                    "expression": "variables.fits",
                    "messageExpression": "'at most ' + string(variables.limit) + ' replicas in ' + request.namespace",
                    "reason": "Forbidden",
                }
            ],
        }
    )
    said = kubectl.fails("create", "-f", "-", stdin=deployment(4))
    assert said.startswith("Error from server (Forbidden): ")
    assert 'deployments.apps "web" is forbidden: ValidatingAdmissionPolicy' in said
    assert f"denied request: at most 3 replicas in {kubectl.namespace}" in said
    kubectl("label", "namespace", kubectl.namespace, "limit=4")
    kubectl("create", "-f", "-", stdin=deployment(4))


def test_warnings_and_conditions(kubectl: Kubectl, policies: Policies) -> None:
    name = policies.create(
        {
            "matchConditions": [{"name": "big", "expression": "object.spec.replicas > 2"}],
            "validations": [{"expression": "false", "message": "think of the costs"}],
        },
        {"validationActions": ["Warn", "Audit"]},
    )
    done = kubectl.run("create", "-f", "-", stdin=deployment(3))
    assert done.returncode == 0
    where = f"ValidatingAdmissionPolicy '{name}' with binding '{name}-b'"
    assert done.stderr == f"Warning: Validation failed for {where}: think of the costs\n"
    quiet = kubectl.run("patch", "deployment", "web", "--type=merge", "-p", '{"spec":{"replicas":1}}')
    assert quiet.stderr == ""


def test_parameters_from_config_maps(kubectl: Kubectl, policies: Policies) -> None:
    policies.create(
        {
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "validations": [
                {"expression": "object.spec.replicas <= int(params.data.most)", "message": "too many"}
            ],
        },
        {
            "paramRef": {
                "selector": {"matchLabels": {"role": "limits"}},
                "parameterNotFoundAction": "Deny",
            }
        },
    )
    said = kubectl.fails("create", "-f", "-", stdin=deployment(1))
    assert "no params found for policy binding with `Deny` parameterNotFoundAction" in said
    kubectl("create", "configmap", "limits", "--from-literal=most=2")
    kubectl("label", "configmap", "limits", "role=limits")
    assert "denied request: too many" in kubectl.fails("create", "-f", "-", stdin=deployment(3))
    kubectl("create", "-f", "-", stdin=deployment(2))


def test_a_policy_that_fails_refuses_or_not(kubectl: Kubectl, policies: Policies) -> None:
    policies.create({"validations": [{"expression": "object.spec.nofield == 1"}]})
    said = kubectl.fails("create", "-f", "-", stdin=deployment(1))
    assert "expression 'object.spec.nofield == 1' resulted in error: no such key: nofield" in said
    for kind, name in policies.made:
        kubectl("delete", kind, name)
    policies.made.clear()
    policies.create({"failurePolicy": "Ignore", "validations": [{"expression": "object.spec.nofield == 1"}]})
    kubectl("create", "-f", "-", stdin=deployment(1))


def test_who_may_what(kubectl: Kubectl, policies: Policies) -> None:
    policies.create(
        {
            "validations": [
                {
                    "expression": "authorizer.group('').resource('secrets').namespace(request.namespace).check('get').allowed()",
                    "message": "who may not read secrets may not deploy",
                }
            ]
        }
    )
    kubectl("create", "role", "deployer", "--verb=*", "--resource=deployments.apps")
    kubectl("create", "rolebinding", "deployer", "--role=deployer", "--user=ann")
    said = kubectl.fails("create", "--as=ann", "-f", "-", stdin=deployment(1))
    assert "who may not read secrets may not deploy" in said
    kubectl("create", "-f", "-", stdin=deployment(1))


def test_policies_are_checked_when_they_are_written(kubectl: Kubectl, policies: Policies) -> None:
    def refused(**spec: Any) -> str:
        with pytest.raises(AssertionError) as raised:
            policies.create(spec)
        return str(raised.value)

    said = refused(validations=[{"expression": "object.spec.replicas"}])
    assert (
        'spec.validations[0].expression: Invalid value: "object.spec.replicas": must evaluate to bool' in said
    )
    said = refused(validations=[{"expression": "objekt.spec == 1"}])
    assert (
        "compilation failed: ERROR: <input>:1:1: undeclared reference to 'objekt' (in container '')" in said
    )
    said = refused(validations=[{"expression": "request.user == 'a'"}])
    assert "undefined field 'user'" in said
    assert "validations or auditAnnotations must be non-empty" in refused(validations=[])
    said = refused(
        variables=[{"name": "a-b", "expression": "1"}, {"name": "a", "expression": "variables.b"}],
        validations=[{"expression": "true"}],
    )
    assert "name is not a valid CEL identifier" in said
    said = refused(validations=[{"expression": "true", "reason": "Whatever"}])
    assert 'Unsupported value: "Whatever": supported values: "Forbidden", "Invalid"' in said


def test_policies_are_never_judged_by_policies(kubectl: Kubectl, policies: Policies) -> None:
    name = policies.create(
        {"validations": [{"expression": "false"}]},
        {"matchResources": {}},
        resources="admissionregistration.k8s.io/*",
    )
    kubectl("label", "validatingadmissionpolicy", name, "a=b")
    assert (
        json.loads(kubectl("get", "validatingadmissionpolicy", name, "-o", "json"))["metadata"]["labels"]["a"]
        == "b"
    )

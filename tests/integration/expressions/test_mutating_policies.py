"""MutatingAdmissionPolicy (v1beta1): objects applied, patches, and what both see of each other."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from kubernetes import client

from tests.support.kubectl import Kubectl

GROUP = "admissionregistration.k8s.io/v1beta1"


class Policies:
    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        self.made: list[tuple[str, str]] = []

    def create(self, name: str, mutations: list[tuple[str, str]], **spec: Any) -> None:
        name = f"{name}-{self.kubectl.namespace}"
        rule = {
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["pods", "configmaps"],
        }
        policy = {
            "apiVersion": GROUP,
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [rule]},
                "mutations": [
                    {
                        "patchType": kind,
                        "jsonPatch" if kind == "JSONPatch" else "applyConfiguration": {
                            "expression": expression
                        },
                    }
                    for kind, expression in mutations
                ],
                **spec,
            },
        }
        binding = {
            "apiVersion": GROUP,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "matchResources": {
                    "namespaceSelector": {
                        "matchLabels": {"kubernetes.io/metadata.name": self.kubectl.namespace}
                    }
                },
            },
        }
        self.made += [("mutatingadmissionpolicy", name), ("mutatingadmissionpolicybinding", name)]
        self.kubectl("create", "-f", "-", stdin=yaml.safe_dump_all([policy, binding]))


@pytest.fixture
def policies(kubectl: Kubectl):  # type: ignore[no-untyped-def]
    held = Policies(kubectl)
    yield held
    for kind, name in held.made:
        kubectl("delete", "--ignore-not-found", kind, name)


def test_an_object_is_applied(kubectl: Kubectl, policies: Policies) -> None:
    policies.create(
        "sidecar",
        [
            (
                "ApplyConfiguration",
                """
                Object{
                  metadata: Object.metadata{labels: {"mesh": "on"}},
                  spec: Object.spec{
                    initContainers: [
                      Object.spec.initContainers{
                        name: "proxy",
                        image: "proxy:1",
                        restartPolicy: "Always",
                        args: ["--for", object.metadata.name]
                      }
                    ]
                  }
                }
                """,
            )
        ],
        matchConditions=[
            {"name": "once", "expression": "request.resource.resource == 'pods'"},
            {
                "name": "no-proxy",
                "expression": "!object.spec.?initContainers.orValue([]).exists(c, c.name == 'proxy')",
            },
        ],
    )
    kubectl("create", "serviceaccount", "default")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "initContainers": [{"name": "first", "image": "busybox"}],
            "containers": [{"name": "c", "image": "nginx"}],
        },
    }
    kubectl("create", "-f", "-", stdin=json.dumps(pod))
    made = json.loads(kubectl("get", "pod", "web", "-o", "json"))
    assert made["metadata"]["labels"] == {"app": "web", "mesh": "on"}
    names = [each["name"] for each in made["spec"]["initContainers"]]
    assert sorted(names) == ["first", "proxy"]
    proxy = next(each for each in made["spec"]["initContainers"] if each["name"] == "proxy")
    assert proxy["args"] == ["--for", "web"]
    assert proxy["terminationMessagePath"] == "/dev/termination-log"  # defaults are filled in


def test_a_patch_is_made(kubectl: Kubectl, policies: Policies, python: client.ApiClient) -> None:
    policies.create(
        "stamp",
        [
            (
                "JSONPatch",
                """
                [
                  JSONPatch{op: "add", path: "/data", value: {}},
                  JSONPatch{op: "add", path: "/data/" + jsonpatch.escapeKey("who"), value: request.userInfo.username}
                ]
                """,
            ),
            ("JSONPatch", '[JSONPatch{op: "add", path: "/data/also", value: object.data.who + "!"}]'),
        ],
    )
    body = {"metadata": {"name": "one"}}
    made = client.CoreV1Api(python).create_namespaced_config_map(kubectl.namespace, body)
    assert made.data["also"] == made.data["who"] + "!"


def test_who_asks_to_is_asked_again(kubectl: Kubectl, policies: Policies) -> None:
    again = '[JSONPatch{op: "add", path: "/metadata/annotations", value: {"seen": object.?data.who.orValue("nobody")}}]'
    policies.create("a-first", [("JSONPatch", again)], reinvocationPolicy="IfNeeded")
    policies.create("b-second", [("ApplyConfiguration", 'Object{data: Object.data{who: "b"}}')])
    kubectl("create", "configmap", "one")
    made = json.loads(kubectl("get", "configmap", "one", "-o", "json"))
    assert made["data"] == {"who": "b"}
    assert made["metadata"]["annotations"] == {"seen": "b"}


def test_what_cannot_be_done_refuses_the_request(kubectl: Kubectl, policies: Policies) -> None:
    policies.create("broken", [("JSONPatch", '[JSONPatch{op: "remove", path: "/data/none"}]')])
    said = kubectl.fails("create", "configmap", "one")
    name = f"broken-{kubectl.namespace}"
    assert f"policy '{name}' with binding '{name}' denied request: " in said


def test_policies_are_checked_when_they_are_written(policies: Policies) -> None:
    def refused(kind: str, expression: str) -> str:
        with pytest.raises(AssertionError) as raised:
            policies.create("x", [(kind, expression)])
        return str(raised.value)

    assert "must evaluate to Object" in refused("ApplyConfiguration", "'text'")
    assert "undeclared reference to 'nobody'" in refused("ApplyConfiguration", "Object{data: nobody}")
    assert "Syntax error" in refused("JSONPatch", "[JSONPatch{")
    assert "spec.mutations[0].patchType: Unsupported value" in refused("Other", "Object{}")

"""Validation of webhook configurations and APIServices, in Kubernetes' words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bamikube.api import table, validation

HOOK: dict[str, Any] = {
    "name": "judge.example.com",
    "clientConfig": {"service": {"namespace": "web", "name": "judge", "port": 443}},
    "rules": [
        {
            "operations": ["CREATE"],
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": ["pods"],
            "scope": "*",
        }
    ],
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
}
MUTATING = table.by_name("mutatingwebhookconfigurations.admissionregistration.k8s.io")
API_SERVICE = table.by_name("apiservices.apiregistration.k8s.io")


def causes(*changes: tuple[str, Any]) -> list[str]:
    hook = copy.deepcopy(HOOK)
    for path, value in changes:
        *parents, last = path.split(".")
        target: Any = hook
        for step in parents:
            target = target[int(step)] if step.isdigit() else target[step]
        if value is None:
            target.pop(last, None)
        else:
            target[last] = value
    obj = {"metadata": {"name": "m"}, "webhooks": [hook]}
    return [f"{cause.field}: {cause.message}" for cause in validation.validate_create(MUTATING, obj)]


def test_a_right_one() -> None:
    assert causes() == []
    assert causes(("clientConfig", {"url": "https://judge.example.com/x"})) == []
    assert causes(("rules.0.resources", ["pods/*", "services", "*/scale"])) == []


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("name", "judge", 'name: Invalid value: "judge": should be a domain with at least three segments separated by dots'),
        ("name", None, "name: Required value"),
        ("sideEffects", None, "sideEffects: Required value: must specify one of None, NoneOnDryRun"),
        ("sideEffects", "Some", 'sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"'),
        ("admissionReviewVersions", None, "admissionReviewVersions: Required value: must specify one of v1, v1beta1"),
        ("admissionReviewVersions", ["v2"], 'admissionReviewVersions: Invalid value: ["v2"]: must include at least one of v1, v1beta1'),
        ("admissionReviewVersions", ["v1", "v1"], 'admissionReviewVersions[1]: Invalid value: "v1": duplicate version'),
        ("timeoutSeconds", 31, "timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"),
        ("failurePolicy", "Maybe", 'failurePolicy: Unsupported value: "Maybe": supported values: "Fail", "Ignore"'),
        ("clientConfig", {}, "clientConfig: Required value: exactly one of url or service is required"),
        (
            "clientConfig",
            {"url": "http://a"},
            "clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ),
        (
            "clientConfig",
            {"url": "https://a/?x=1"},
            'clientConfig.url: Invalid value: "x=1": query parameters are not permitted in the URL',
        ),
        ("clientConfig.service.port", 0, "clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive"),
        ("clientConfig.service.name", None, "clientConfig.service.name: Required value: service name is required"),
        ("clientConfig.service.path", "x", "clientConfig.service.path: Invalid value: \"x\": must start with a '/'"),
        ("clientConfig.service.path", "/a//b", 'clientConfig.service.path: Invalid value: "/a//b": segment[1] may not be empty'),
        ("rules.0.operations", ["*", "CREATE"], "rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations"),
        ("rules.0.operations", ["READ"], 'rules[0].operations[0]: Unsupported value: "READ": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"'),
        ("rules.0.apiGroups", [], "rules[0].apiGroups: Required value"),
        ("rules.0.apiVersions", [""], "rules[0].apiVersions[0]: Required value"),
        ("rules.0.resources", ["*/*", "pods"], "rules[0].resources: Invalid value: [\"*/*\",\"pods\"]: if '*/*' is present, must not specify other resources"),
        ("rules.0.resources", ["pods/*", "pods/log"], "rules[0].resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log"),
        ("rules.0.scope", "All", 'rules[0].scope: Unsupported value: "All": supported values: "*", "Cluster", "Namespaced"'),
        ("reinvocationPolicy", "Always", 'reinvocationPolicy: Unsupported value: "Always": supported values: "IfNeeded", "Never"'),
    ],
)  # fmt: skip
def test_what_is_wrong(path: str, value: Any, expected: str) -> None:
    assert causes((path, value)) == [f"webhooks[0].{expected}"]


def test_names_are_used_once() -> None:
    obj = {"metadata": {"name": "m"}, "webhooks": [HOOK, HOOK]}
    found = validation.validate_create(MUTATING, obj)
    assert [f"{cause.field}: {cause.message}" for cause in found] == [
        'webhooks[1].name: Duplicate value: "judge.example.com"'
    ]


@pytest.mark.parametrize(
    ("name", "spec", "expected"),
    [
        ("v1.example.com", {}, []),
        ("v1.", {"group": "", "service": None}, []),
        (
            "v2.example.com",
            {},
            ['metadata.name: Invalid value: "v2.example.com": must be `spec.version+"."+spec.group`: "v1.example.com"'],
        ),
        ("v1.example.com", {"versionPriority": 0}, ["spec.versionPriority: Invalid value: 0: must be positive and less than 1000"]),
        ("v1.example.com", {"service": {"name": "a"}}, ["spec.service.namespace: Required value"]),
        (
            "v1.example.com",
            {"insecureSkipTLSVerify": True, "caBundle": "QQ=="},
            ["spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present"],
        ),
        (
            "v1.example.com",
            {"service": None, "insecureSkipTLSVerify": True},
            ["spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify"],
        ),
    ],
)  # fmt: skip
def test_api_services(name: str, spec: dict[str, Any], expected: list[str]) -> None:
    full = {
        "group": "example.com",
        "version": "v1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "service": {"name": "a", "namespace": "b"},
    } | spec
    obj = {"metadata": {"name": name}, "spec": full}
    found = validation.validate_create(API_SERVICE, obj)
    assert [f"{cause.field}: {cause.message}" for cause in found] == expected

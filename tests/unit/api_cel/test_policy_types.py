"""Policies' expressions against the types of the kinds they name."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api.cel import typecheck

DEPLOYMENT = ("apps/v1, Kind=Deployment", typecheck.builtin_schema("io.k8s.api.apps.v1.Deployment"))


def warned(*expressions: str, **spec: Any) -> list[str]:
    validations = [{"expression": each} for each in expressions]
    return [
        each["warning"] for each in typecheck.warnings({"validations": validations, **spec}, [DEPLOYMENT])
    ]


@pytest.mark.parametrize(
    "expression",
    [
        "object.spec.template.spec.containers.all(c, c.image.startsWith('a') && has(c.resources.limits))",
        "object.metadata.?labels['x'].orValue('') == '' && object.metadata.namespace == request.namespace",
        "object.spec.strategy.rollingUpdate.maxSurge == 1 || oldObject == null",  # int or string
        "object.metadata.creationTimestamp < timestamp('2020-01-01T00:00:00Z')",
        "variables.n > 3 && authorizer.group('').resource('pods').check('get').allowed()",
        "params.anything == namespaceObject.metadata.name",
    ],
)
def test_what_fits(expression: str) -> None:
    variables = [{"name": "n", "expression": "object.spec.replicas"}]
    assert warned(expression, variables=variables, paramKind={"apiVersion": "a/v1", "kind": "B"}) == []


def test_what_does_not() -> None:
    variables = [{"name": "n", "expression": "object.spec.replicas"}, {"name": "odd", "expression": "1 +"}]
    unknown, number, composed = warned(
        "object.spec.foo > 1", "object.spec.replicas > '1'", "variables.n == 'x' && variables.odd == 1", variables=variables
    )  # fmt: skip
    assert unknown == (
        "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'foo'\n"
        " | object.spec.foo > 1\n | ...........^\n"
    )
    assert "found no matching overload for '_>_' applied to '(int, string)'" in number
    assert "found no matching overload for '_==_' applied to '(int, string)'" in composed


def test_only_what_rules_name_in_full_is_looked_at() -> None:
    def rule(groups: list[str], versions: list[str], resources: list[str]) -> dict[str, Any]:
        return {"apiGroups": groups, "apiVersions": versions, "resources": resources}

    rules = [
        rule(["apps", ""], ["v1"], ["pods", "deployments/scale", "*"]),
        rule(["*"], ["v1"], ["pods"]),
        rule(["apps"], ["*"], ["deployments"]),
    ]
    named = typecheck.resources_named({"matchConstraints": {"resourceRules": rules}})
    assert named == [[("", "v1", "pods"), ("apps", "v1", "pods")]]
    assert typecheck.resources_named({}) == []


def test_definitions_that_contain_themselves_are_open() -> None:
    schema = typecheck.builtin_schema("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition")  # fmt: skip
    spec = {
        "validations": [{"expression": "object.spec.versions[0].schema.openAPIV3Schema.not.anything == 1"}]
    }
    assert typecheck.warnings(spec, [("crd", schema)]) == []

"""Rules of schemas: what they say about objects, and what is said about them when they are written."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from bamikube.api.cel import declarations, rules

SCHEMA: dict[str, Any] = yaml.safe_load(
    """
type: object
x-kubernetes-validations:
- {rule: "self.metadata.name.startsWith('a')", message: name must start with a}
properties:
  spec:
    type: object
    x-kubernetes-validations:
    - {rule: self.replicas <= self.max}
    - {rule: self.replicas >= oldSelf.replicas, message: no shrinking}
    - rule: "!has(self.names) || self.names.all(n, n.size() < 5)"
      messageExpression: "'bad names: ' + self.names.join(',')"
      fieldPath: .names
    - {rule: "!has(self.when) || self.when < timestamp('2030-01-01T00:00:00Z')", reason: FieldValueForbidden, message: too late}
    - {rule: "!oldSelf.hasValue() || self.max == oldSelf.value().max", optionalOldSelf: true, message: max stays}
    properties:
      replicas: {type: integer}
      max: {type: integer}
      cpu: {type: number, x-kubernetes-validations: [{rule: self > 0.5}]}
      when: {type: string, format: date-time}
      size: {x-kubernetes-int-or-string: true}
      names: {type: array, maxItems: 10, x-kubernetes-list-type: set, items: {type: string, maxLength: 20}}
      big: {type: array, items: {type: string}}
      labels: {type: object, additionalProperties: {type: string, x-kubernetes-validations: [{rule: self != ''}]}}
      ports:
        type: array
        maxItems: 5
        x-kubernetes-list-type: map
        x-kubernetes-list-map-keys: [name]
        items:
          type: object
          properties:
            name: {type: string}
            port: {type: integer, x-kubernetes-validations: [{rule: self == oldSelf, message: immutable}]}
"""
)
GOOD: dict[str, Any] = {
    "metadata": {"name": "ax"},
    "spec": {
        "replicas": 1,
        "max": 2,
        "cpu": 1,
        "when": "2020-01-01T00:00:00Z",
        "names": ["to"],
        "labels": {"a": "b"},
        "ports": [{"name": "x", "port": 1}, {"name": "y", "port": 2}],
    },
}


def changed(**spec: Any) -> dict[str, Any]:
    return {**GOOD, "spec": {**GOOD["spec"], **spec}}


def judged(obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    judge = rules.compiled(SCHEMA)
    assert judge is not None
    return [(cause.field, cause.message) for cause in judge.check(obj, old)]


@pytest.mark.parametrize(
    ("obj", "old", "causes"),
    [
        (GOOD, None, []),
        (GOOD, GOOD, []),
        (
            {**GOOD, "metadata": {"name": "x"}},
            None,
            [("<nil>", 'Invalid value: "object": name must start with a')],
        ),
        (
            changed(replicas=3),
            None,
            [("spec", 'Invalid value: "object": failed rule: self.replicas <= self.max')],
        ),
        (changed(replicas=0), GOOD, [("spec", 'Invalid value: "object": no shrinking')]),
        (changed(max=5), GOOD, [("spec", 'Invalid value: "object": max stays')]),
        (changed(names=["toolong"]), None, [("spec.names", 'Invalid value: "object": bad names: toolong')]),
        (changed(cpu=0), None, [("spec.cpu", 'Invalid value: "number": failed rule: self > 0.5')]),
        (changed(when="2031-01-01T00:00:00Z"), None, [("spec", "Forbidden: too late")]),
        (
            changed(labels={"k": ""}),
            None,
            [("spec.labels[k]", "Invalid value: \"string\": failed rule: self != ''")],
        ),
        (
            changed(ports=[{"name": "y", "port": 2}, {"name": "x", "port": 3}, {"name": "z", "port": 1}]),
            GOOD,
            [("spec.ports[1].port", 'Invalid value: "integer": immutable')],
        ),
        (
            {"metadata": {"name": "a"}, "spec": {"replicas": 1}},
            None,
            [
                (
                    "spec",
                    'Invalid value: "object": no such key: max evaluating rule: self.replicas <= self.max',
                )
            ],
        ),
    ],
)
def test_what_rules_say(obj: Any, old: Any, causes: list[tuple[str, str]]) -> None:
    assert judged(obj, old) == causes


def test_what_was_wrong_and_stays_is_let_through() -> None:
    old = changed(cpu=0, labels={"k": ""})
    assert judged(changed(cpu=0, labels={"k": ""}, replicas=2), old) == []
    assert judged(changed(cpu=0.1, labels={"k": ""}), old) == [
        ("spec.cpu", 'Invalid value: "number": failed rule: self > 0.5')
    ]
    judge, kept = rules.compiled(SCHEMA), list[str]()
    assert judge is not None and judge.check(changed(cpu=0, replicas=2), changed(cpu=0), kept) == []
    assert kept == ['spec.cpu: Invalid value: "number": failed rule: self > 0.5']


def test_elements_that_cannot_be_told_apart_stay_with_their_list() -> None:
    item = {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'foo'"}]}
    schema = {"type": "object", "properties": {"list": {"type": "array", "items": item}}}
    judge = rules.compiled(schema)
    assert judge is not None
    old, kept = {"list": ["foo", "bar"]}, list[str]()
    assert judge.check({**old, "other": 1}, old, kept) == []
    assert kept == ["list[0]: Invalid value: \"string\": failed rule: self != 'foo'"]
    assert [each.field for each in judge.check({"list": ["foo", "bar", "baz"]}, old)] == ["list[0]"]


def test_a_budget_ends_the_rules_of_an_object() -> None:
    schema = {
        "type": "object",
        "properties": {
            "list": {
                "type": "array",
                "items": {"type": "integer"},
                "x-kubernetes-validations": [
                    {"rule": "self.all(x, self.all(y, self.all(z, x + y + z > 0)))"}
                ],
            }
        },
    }
    judge = rules.compiled(schema)
    assert judge is not None
    causes = judge.check({"list": list(range(1, 200))})
    assert [cause.field for cause in causes] == ["list"]
    assert "actual cost limit exceeded" in causes[0].message


def written(rule: str, **more: Any) -> list[tuple[str, str]]:
    schema = copy.deepcopy(SCHEMA)
    schema["properties"]["spec"]["x-kubernetes-validations"] = [{"rule": rule, **more}]
    path = "spec.versions[0].schema.openAPIV3Schema"
    start = f"{path}.properties[spec].x-kubernetes-validations[0]"
    return [
        (cause.field.removeprefix(start), cause.message) for cause in declarations.violations(schema, path)
    ]


@pytest.mark.parametrize(
    ("rule", "more", "field", "message"),
    [
        ("self.nofield", {}, ".rule", "compilation failed: ERROR: <input>:1:5: undefined field 'nofield'"),
        ("self.replicas", {}, ".rule", "cel expression must evaluate to a bool"),
        (" ", {}, ".rule", "Required value: rule is not specified"),
        ("true", {"message": "a\nb"}, ".message", "message must not contain line breaks"),
        ("true &&\ntrue", {}, ".message", "message must be specified if rule contains line breaks"),
        (
            "true",
            {"reason": "Nonsense"},
            ".reason",
            'Unsupported value: "Nonsense": supported values: "FieldValueDuplicate"',
        ),
        ("true", {"fieldPath": ".nowhere"}, ".fieldPath", "fieldPath must be a valid path"),
        (
            "true",
            {"messageExpression": "1"},
            ".messageExpression",
            "messageExpression must evaluate to a string",
        ),
        (
            "true",
            {"optionalOldSelf": True},
            ".optionalOldSelf",
            "may not be set if oldSelf is not used in rule",
        ),
        (
            "self.big.all(x, self.big.all(y, x == y))",
            {},
            ".rule",
            "Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding "
            "maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
        ),
    ],
)
def test_what_is_said_about_rules(rule: str, more: dict[str, Any], field: str, message: str) -> None:
    causes = written(rule, **more)
    assert causes and causes[0][0] == field
    assert message in causes[0][1]


@pytest.mark.parametrize(
    "rule",
    [
        "self.names.all(x, self.names.all(y, x == y))",
        "self.names.map(x, x + 'a').filter(y, y == 'b').size() > 0",
        "type(self.size) == string ? self.size == 'x' : self.size > 1",
        "self.names == self.names && self.ports.exists(p, p.port == 1)",
    ],
)
def test_bounded_rules_are_kept(rule: str) -> None:
    assert written(rule) == []


def test_changes_cannot_be_judged_in_lists_without_keys() -> None:
    schema = copy.deepcopy(SCHEMA)
    schema["properties"]["spec"]["properties"]["big"]["items"]["x-kubernetes-validations"] = [
        {"rule": "self == oldSelf"}
    ]
    causes = declarations.violations(schema, "s")
    text = "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec].properties[big]"
    assert any(text in cause.message for cause in causes)


def test_all_rules_of_a_schema_share_a_budget() -> None:
    schema = copy.deepcopy(SCHEMA)
    big = schema["properties"]["spec"]["properties"]["big"]
    big["x-kubernetes-validations"] = [{"rule": "self.all(x, x.size() > 0)"}] * 40
    causes = declarations.violations(schema, "s")
    assert causes[-1].field == "s"
    assert "cost total for entire OpenAPIv3 schema exceeds budget by factor of" in causes[-1].message

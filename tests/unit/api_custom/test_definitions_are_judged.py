"""CustomResourceDefinitions: schemas that are not structural, names, versions, paths; which names are accepted."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bamikube.api import defaults, schema, table, validation
from bamikube.api.custom import naming, structural
from bamikube.api.custom.family import family_of
from bamikube.api.custom.published import list_of, name_of, schema_of

ROW = table.by_name("customresourcedefinitions.apiextensions.k8s.io")
TEXT = {"type": "string"}


def crd(**spec: Any) -> dict[str, Any]:
    obj: dict[str, Any] = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "tabs.example.com", "uid": "1", "resourceVersion": "7"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "tabs", "kind": "Tab"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        }
        | spec,
    }
    defaults.apply(ROW, obj)
    return obj


def causes(obj: dict[str, Any]) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in validation.validate_create(ROW, obj)]


def with_version(**version: Any) -> dict[str, Any]:
    one = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    return crd(versions=[one | version])


def judged(inner: dict[str, Any]) -> list[str]:
    found = structural.validate({"type": "object", "properties": {"spec": inner}}, "s")
    return [f"{cause.field}: {cause.message}" for cause in found]


@pytest.mark.parametrize(
    ("inner", "wanted"),
    [
        ({"type": "object"}, []),
        ({}, ["s.properties[spec].type: Required value: must not be empty for specified object fields"]),
        ({"x-kubernetes-int-or-string": True}, []),
        ({"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}, []),
        ({"x-kubernetes-preserve-unknown-fields": True}, []),
        ({"type": "array"}, ["s.properties[spec].items: Required value: must be specified"]),
        (
            {"type": "array", "items": {}},
            ["s.properties[spec].items.type: Required value: must not be empty for specified array items"],
        ),
        (
            {"type": "object", "properties": {"a": TEXT}, "additionalProperties": TEXT},
            [
                "s.properties[spec].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"
            ],
        ),
        (
            {"type": "object", "anyOf": [{"properties": {"a": {"minimum": 1}}}]},
            [
                "s.properties[spec].properties[a]: Required value: because it is defined in "
                "s.properties[spec].anyOf[0].properties[a]"
            ],
        ),
        (
            {
                "type": "string",
                "allOf": [{"type": "string", "default": "x", "nullable": True, "description": "d"}],
            },
            [
                "s.properties[spec].allOf[0].type: Forbidden: must be empty to be structural",
                "s.properties[spec].allOf[0].description: Forbidden: must be empty to be structural",
                "s.properties[spec].allOf[0].default: Forbidden: must be undefined to be structural",
                "s.properties[spec].allOf[0].nullable: Forbidden: must be false to be structural",
            ],
        ),
        (
            {"type": "array", "items": TEXT, "uniqueItems": True},
            [
                "s.properties[spec].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime "
                "complexity becomes quadratic"
            ],
        ),
        (
            {"type": "string", "pattern": "("},
            [
                's.properties[spec].pattern: Invalid value: "(": must be a valid regular expression, but isn\'t: '
                "error parsing regexp: missing ): ("
            ],
        ),
        ({"type": "string", "$ref": "#/x"}, ["s.properties[spec].$ref: Forbidden: $ref is not supported"]),
        (
            {"type": "text"},
            [
                's.properties[spec].type: Unsupported value: "text": supported values: "array", "boolean", "integer", '
                '"number", "object", "string"'
            ],
        ),
        (
            {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"},
            [
                "s.properties[spec].x-kubernetes-list-map-keys: Required value: must not be empty if "
                "x-kubernetes-list-type is map"
            ],
        ),
        (
            {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": TEXT}},
            },
            [
                "s.properties[spec].items.properties[name].default: Required value: this property is in "
                "x-kubernetes-list-map-keys, so it must have a default or be a required property"
            ],
        ),
        (
            {"type": "object", "x-kubernetes-embedded-resource": True},
            [
                "s.properties[spec].properties: Required value: must not be empty if x-kubernetes-embedded-resource is "
                "true without x-kubernetes-preserve-unknown-fields"
            ],
        ),
        (
            {"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}},
            [
                's.properties[spec].properties[a].default: Invalid value: "string": '
                's.properties[spec].properties[a].default in body must be of type integer: "string"'
            ],
        ),
        (
            {"type": "object", "properties": {"a": TEXT}, "default": {"b": 1}},
            ['s.properties[spec].default: Invalid value: {"b":1}: must not have unknown fields'],
        ),
        (
            {"type": "object", "x-kubernetes-preserve-unknown-fields": False},
            [
                "s.properties[spec].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"
            ],
        ),
    ],
)
def test_structural_rules(inner: dict[str, Any], wanted: list[str]) -> None:
    assert judged(inner) == wanted


def test_metadata_may_only_be_restricted_by_name() -> None:
    named = {
        "type": "object",
        "properties": {
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}
        },
    }
    assert structural.validate(named, "s") == []
    named["properties"]["metadata"]["properties"]["labels"] = {"type": "object"}
    (cause,) = structural.validate(named, "s")
    assert cause.message.startswith("Forbidden: must not specify anything other than name and generateName")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, []),
        (
            {"group": "example"},
            ['spec.group: Invalid value: "example": should be a domain with at least one dot'],
        ),
        ({"scope": ""}, ["spec.scope: Required value"]),
        (
            {"scope": "Global"},
            ['spec.scope: Unsupported value: "Global": supported values: "Cluster", "Namespaced"'],
        ),
        (
            {"versions": []},
            ["spec.versions: Invalid value: []: must have exactly one version marked as storage version"],
        ),
        (
            {"preserveUnknownFields": True},
            [
                "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set "
                "x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
            ],
        ),
        (
            {"names": {"plural": "tabs", "kind": "Tab", "listKind": "Tab"}},
            ['spec.names.listKind: Invalid value: "Tab": kind and listKind may not be the same'],
        ),
        (
            {"conversion": {"strategy": "Magic"}},
            ['spec.conversion.strategy: Unsupported value: "Magic": supported values: "None", "Webhook"'],
        ),
        (
            {
                "conversion": {
                    "strategy": "Webhook",
                    "webhook": {"clientConfig": {"url": "http://x"}, "conversionReviewVersions": ["v9"]},
                }
            },
            [
                "spec.conversion.webhookClientConfig.url: Invalid value: \"http://x\": 'https' is the only allowed URL scheme",
                'spec.conversion.conversionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1',
            ],
        ),
    ],
)
def test_rules_of_definitions(change: dict[str, Any], wanted: list[str]) -> None:
    obj = crd(**change)
    if "group" in change:
        obj["metadata"]["name"] = "tabs.example"
    assert causes(obj) == wanted


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ({"schema": None}, ["spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"]),
        (
            {"subresources": {"scale": {"specReplicasPath": ".status.x", "statusReplicasPath": "status.x"}}},
            [
                'spec.versions[0].subresources.scale.specReplicasPath: Invalid value: ".status.x": should be a json path under .spec',
                'spec.versions[0].subresources.scale.statusReplicasPath: Invalid value: "status.x": must be a simple json path starting with .',
            ],
        ),
        (
            {"additionalPrinterColumns": [{"name": "A", "type": "text", "jsonPath": ".spec.a[0"}]},
            [
                'spec.versions[0].additionalPrinterColumns[0].type: Invalid value: "text": must be one of '
                "boolean,date,integer,number,string",
                'spec.versions[0].additionalPrinterColumns[0].jsonPath: Invalid value: ".spec.a[0": is an invalid '
                "JSONPath: unterminated array",
            ],
        ),
        (
            {"selectableFields": [{"jsonPath": ".spec.a"}]},
            [
                'spec.versions[0].selectableFields[0].jsonPath: Invalid value: ".spec.a": is an invalid path: '
                "does not refer to a valid field"
            ],
        ),
        (
            {"deprecationWarning": "old"},
            [
                'spec.versions[0].deprecationWarning: Invalid value: "old": can only be set for deprecated versions'
            ],
        ),
    ],
)
def test_rules_of_versions(version: dict[str, Any], wanted: list[str]) -> None:
    assert causes(with_version(**version)) == wanted


def test_protected_groups_need_an_approval() -> None:
    obj = crd(group="x.k8s.io")
    obj["metadata"]["name"] = "tabs.x.k8s.io"
    assert "protected groups must have approval annotation" in causes(obj)[0]
    obj["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, testing"}
    assert causes(obj) == []
    status = naming.status_of(obj, [], "now")
    assert status["conditions"][-1]["reason"] == "UnapprovedAnnotation"


def test_what_never_changes() -> None:
    old = crd()
    old["status"] = {"storedVersions": ["v1"], "conditions": [{"type": "Established", "status": "True"}]}
    new = copy.deepcopy(old)
    new["spec"]["scope"] = "Cluster"
    new["spec"]["names"]["kind"] = "Other"
    found = [cause.field for cause in validation.validate_update(ROW, new, old)]
    assert found == ["spec.scope", "spec.names.kind"]
    old["status"]["conditions"] = []
    assert validation.validate_update(ROW, new, old) == []


def test_a_schema_within_a_schema_is_checked() -> None:
    obj = with_version(
        schema={
            "openAPIV3Schema": {
                "type": "object",
                "properties": {
                    "a": {"type": "array", "items": {"type": 5}},
                    "b": {"type": "object", "additionalProperties": "yes"},
                    "c": {"type": "array", "items": {"tpye": "string", "type": "string"}},
                },
            }
        }
    )
    report = schema.check(ROW, obj)
    assert len(report.errors) == 2
    assert report.unknown == ["spec.versions[0].schema.openAPIV3Schema.properties.c.items.tpye"]


def test_names_are_accepted_one_by_one() -> None:
    first = crd()
    first["spec"]["names"] |= {"shortNames": ["t"]}
    first["status"] = naming.status_of(first, [], "t0")
    second = crd()
    second["metadata"]["name"] = "tubs.example.com"
    second["spec"]["names"] = {
        "plural": "tubs",
        "singular": "tub",
        "kind": "Tub",
        "listKind": "TubList",
        "shortNames": ["t", "u"],
    }
    second["status"] = naming.status_of(second, [first], "t1")
    accepted = second["status"]["acceptedNames"]
    assert accepted == {"plural": "tubs", "singular": "tub", "kind": "Tub", "listKind": "TubList"}
    names, established = second["status"]["conditions"]
    assert (names["reason"], names["message"]) == ("ShortNamesConflict", '"t" is already in use')
    assert (established["status"], established["reason"]) == ("False", "NotAccepted")
    second["status"] = naming.status_of(second, [], "t2")
    assert second["status"]["acceptedNames"]["shortNames"] == ["t", "u"]
    assert [(each["status"], each["lastTransitionTime"]) for each in second["status"]["conditions"]] == [
        ("True", "t2"),
        ("True", "t2"),
    ]
    assert naming.status_of(second, [], "t3") == second["status"]


def test_what_clients_see() -> None:
    inner = {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {"n": {"type": "string", "nullable": True}, "i": {"x-kubernetes-int-or-string": True}},
    }
    obj = with_version(
        schema={
            "openAPIV3Schema": {
                "type": "object",
                "properties": {"spec": inner, "n": TEXT | {"nullable": True}},
            }
        }
    )
    row = family_of(obj).storage
    assert name_of(row) == "com.example.v1.Tab"
    third, second = schema_of(row), schema_of(row, v2=True)
    assert third["properties"]["spec"] == inner
    assert third["x-kubernetes-group-version-kind"] == [
        {"group": "example.com", "version": "v1", "kind": "Tab"}
    ]
    assert second["properties"]["spec"] == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    assert second["properties"]["n"] == {}
    assert list_of(row)["properties"]["items"]["items"] == {"$ref": "#/definitions/com.example.v1.Tab"}

"""Values against schemas: every keyword, in the words people know."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api.custom import embedded, lists, values
from bamikube.api.custom.formats import FORMATS


def found(schema: dict[str, Any], value: Any, old: Any = ...) -> list[str]:
    """``field: message`` of everything that is wrong with ``value`` in ``spec``."""
    whole = {"type": "object", "properties": {"spec": schema}}
    check = values.compiled(whole)
    faults = (check({"spec": value}) if check is not None else None) or []
    if old is not ...:
        faults = values.changed_only(whole, faults, {"spec": value}, {"spec": old})
    return [f"{cause.field}: {cause.message}" for cause in values.causes_of(faults)]


INTEGER, TEXT = {"type": "integer"}, {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "value", "wanted"),
    [
        (INTEGER, 1, []),
        (INTEGER, 1.0, []),
        (INTEGER, True, ['spec: Invalid value: "boolean": spec in body must be of type integer: "boolean"']),
        (INTEGER, 1.5, ['spec: Invalid value: "number": spec in body must be of type integer: "number"']),
        (INTEGER, None, ['spec: Invalid value: "null": spec in body must be of type integer: "null"']),
        (INTEGER | {"nullable": True}, None, []),
        (TEXT, {}, ['spec: Invalid value: "object": spec in body must be of type string: "object"']),
        ({"type": "number"}, 3, []),
        (
            {"x-kubernetes-int-or-string": True},
            [],
            ['spec: Invalid value: "array": spec in body must be of type integer,string: "array"'],
        ),
        ({"x-kubernetes-int-or-string": True}, "50%", []),
        (
            INTEGER | {"minimum": 1},
            0,
            ["spec: Invalid value: 0: spec in body should be greater than or equal to 1"],
        ),
        (
            INTEGER | {"minimum": 1, "exclusiveMinimum": True},
            1,
            ["spec: Invalid value: 1: spec in body should be greater than 1"],
        ),
        (
            INTEGER | {"maximum": 10},
            11,
            ["spec: Invalid value: 11: spec in body should be less than or equal to 10"],
        ),
        (
            {"type": "number", "maximum": 1.5, "exclusiveMaximum": True},
            1.5,
            ["spec: Invalid value: 1.5: spec in body should be less than 1.5"],
        ),
        (
            INTEGER | {"multipleOf": 5},
            7,
            ["spec: Invalid value: 7: spec in body should be a multiple of 5"],
        ),
        ({"type": "number", "multipleOf": 0.1}, 0.3, []),
        (
            INTEGER | {"format": "int32"},
            2**31,
            ['<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec'],
        ),
        (TEXT | {"maxLength": 2}, "abc", ["spec: Too long: may not be more than 2 bytes"]),
        (
            TEXT | {"minLength": 2},
            "a",
            ['spec: Invalid value: "a": spec in body should be at least 2 chars long'],
        ),
        (
            TEXT | {"pattern": "^a+$"},
            "b",
            ["spec: Invalid value: \"b\": spec in body should match '^a+$'"],
        ),
        (TEXT | {"pattern": "a"}, "bab", []),
        (
            TEXT | {"format": "date-time"},
            "soon",
            ['spec: Invalid value: "soon": spec in body must be of type date-time: "soon"'],
        ),
        (TEXT | {"format": "nobody-knows"}, "x", []),
        (
            TEXT | {"enum": ["a", "b"]},
            "c",
            ['spec: Unsupported value: "c": supported values: "a", "b"'],
        ),
        (
            INTEGER | {"enum": [1]},
            True,
            [
                'spec: Invalid value: "boolean": spec in body must be of type integer: "boolean"',
                'spec: Unsupported value: true: supported values: "1"',
            ],
        ),
        (
            {"type": "array", "items": INTEGER, "minItems": 2},
            [1],
            ["spec: Invalid value: 1: spec in body should have at least 2 items"],
        ),
        (
            {"type": "array", "items": INTEGER, "maxItems": 1},
            [1, 2],
            ["spec: Too many: 2: must have at most 1 items"],
        ),
        (
            {"type": "array", "items": INTEGER},
            [1, "x"],
            ['spec[1]: Invalid value: "string": spec[1] in body must be of type integer: "string"'],
        ),
        (
            {"type": "object", "minProperties": 1},
            {},
            ["spec: Invalid value: 0: spec in body should have at least 1 properties"],
        ),
        (
            {"type": "object", "maxProperties": 1, "additionalProperties": TEXT},
            {"a": "", "b": ""},
            ["spec: Too many: 2: must have at most 1 items"],
        ),
        (
            {"type": "object", "required": ["a"], "properties": {"a": TEXT}},
            {},
            ["spec.a: Required value"],
        ),
        (
            {"type": "object", "additionalProperties": INTEGER},
            {"a": "x"},
            ['spec.a: Invalid value: "string": spec.a in body must be of type integer: "string"'],
        ),
        (
            {"type": "object", "not": {"required": ["a"]}},
            {"a": 1},
            ['<nil>: Invalid value: "": "spec" must not validate the schema (not)'],
        ),
        (
            {"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {},
            [
                '<nil>: Invalid value: "": "spec" must validate at least one schema (anyOf)',
                "spec.a: Required value",
            ],
        ),
        (
            {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {"a": 1, "b": 1},
            [
                '<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). '
                "Found 2 valid alternatives"
            ],
        ),
        (
            {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {},
            [
                '<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid',
                "spec.a: Required value",
            ],
        ),
        (
            INTEGER | {"allOf": [{"minimum": 1}, {"maximum": 5}]},
            9,
            [
                "spec: Invalid value: 9: spec in body should be less than or equal to 5",
                '<nil>: Invalid value: "": "spec" must validate all the schemas (allOf)',
            ],
        ),
    ],
)
def test_keywords(schema: dict[str, Any], value: Any, wanted: list[str]) -> None:
    assert found(schema, value) == wanted


LIMITED = {
    "type": "object",
    "required": ["a"],
    "properties": {
        "a": INTEGER | {"maximum": 5},
        "b": INTEGER,
        "plain": {"type": "array", "items": INTEGER | {"maximum": 5}},
        "keyed": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "properties": {"name": TEXT, "n": INTEGER | {"maximum": 5}, "m": INTEGER},
            },
        },
    },
}


@pytest.mark.parametrize(
    ("old", "new", "fields"),
    [
        ({"a": 9}, {"a": 9, "b": 1}, []),  # what was wrong may stay
        ({"a": 9}, {"a": 8}, ["spec.a"]),  # not become wrong in another way
        ({"b": 1}, {"b": 2}, ["spec.a"]),  # a missing field is missed again when its object changes
        ({"b": 1}, {"b": 1}, []),
        ({"a": 1, "plain": [9]}, {"a": 2, "plain": [9]}, []),
        (
            {"a": 1, "plain": [9]},
            {"a": 1, "plain": [9, 1]},
            ["spec.plain[0]"],
        ),  # elements cannot be told apart
        (
            {"a": 1, "keyed": [{"name": "x", "n": 9}]},
            {"a": 1, "keyed": [{"name": "w"}, {"name": "x", "n": 9, "m": 1}]},
            [],
        ),
        (
            {"a": 1, "keyed": [{"name": "x", "n": 9}]},
            {"a": 1, "keyed": [{"name": "y", "n": 9}]},
            ["spec.keyed[0].n"],
        ),
        ({"a": 1.0}, {"a": 9}, ["spec.a"]),
        ({"a": "x"}, {"a": "x", "b": 3}, []),
        ({"a": 1, "plain": [1]}, {"a": True, "plain": [1]}, ["spec.a"]),  # True is not 1
    ],
)
def test_only_what_an_update_changed_is_held_against_it(old: Any, new: Any, fields: list[str]) -> None:
    assert [each.partition(": ")[0] for each in found(LIMITED, new, old)] == fields


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("byte", ["aGk=", ""], ["a", "!!!!"]),
        ("cidr", ["10.0.0.0/8", "fd00::/8", "10.1.2.3/24"], ["10.0.0.0", "10.0.0.0/33", "x/8"]),
        ("date", ["2024-02-29"], ["2023-02-29", "2024-2-29", "20240229"]),
        (
            "date-time",
            ["2024-01-01T00:00:00Z", "2024-01-01t00:00:00.5+02:00"],
            ["2024-01-01", "2024-01-01T25:00:00Z"],
        ),
        ("duration", ["1h30m", "100ms", "2 days"], ["1x", "", "h"]),
        ("email", ["a@b.example"], ["a", "a@", "a b@c"]),
        ("hostname", ["a.example", "a"], ["-a", "a..b", "a b"]),
        ("ipv4", ["10.0.0.1"], ["::1", "10.0.0", "010.0.0.1"]),
        ("ipv6", ["::1", "fd00::2"], ["10.0.0.1", "fe80::1%eth0"]),
        ("mac", ["00:11:22:33:44:55", "00-11-22-33-44-55"], ["00:11:22:33:44", "00:11-22:33:44:55"]),
        ("uri", ["https://a/b?c", "/path"], ["a b", "no"]),
        ("uuid", ["d9e2d0d5-2f4b-4c1d-9e57-6f2b3f9d1a11"], ["d9e2", "g9e2d0d5-2f4b-4c1d-9e57-6f2b3f9d1a11"]),
        ("uuid4", ["d9e2d0d5-2f4b-4c1d-9e57-6f2b3f9d1a11"], ["d9e2d0d5-2f4b-3c1d-9e57-6f2b3f9d1a11"]),
        ("hexcolor", ["#fff", "#00ff00"], ["#ff", "red"]),
        ("isbn", ["978-3-16-148410-0", "0-306-40615-2"], ["978-3-16-148410-1"]),
        ("creditcard", ["4111 1111 1111 1111"], ["4111 1111 1111 1112"]),
        ("k8s-short-name", ["a-b"], ["A", "a.b"]),
        ("k8s-long-name", ["a.b"], ["A"]),
        ("bsonobjectid", ["507f1f77bcf86cd799439011"], ["507f"]),
    ],
)
def test_formats(form: str, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not FORMATS[form](text)] == []
    assert [text for text in bad if FORMATS[form](text)] == []


def test_sets_and_maps_hold_nothing_twice() -> None:
    schema = {
        "type": "object",
        "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": TEXT},
            "keyed": LIMITED["properties"]["keyed"],
            "plain": {"type": "array", "items": TEXT},
        },
    }
    check = lists.compiled({"type": "object", "properties": {"spec": schema}})
    assert check is not None
    value = {
        "set": ["a", "b", "a", "a"],
        "keyed": [{"name": "x"}, {}, {"name": "x", "n": 1}, {}],
        "plain": ["a", "a"],
    }
    assert [(cause.field, cause.message) for cause in check({"spec": value}, "")] == [
        ("spec.set[2]", 'Duplicate value: "a"'),
        ("spec.keyed[2]", 'Duplicate value: {"name":"x"}'),
        ("spec.keyed[3]", "Duplicate value: {}"),
    ]
    assert lists.compiled({"type": "object", "properties": {"a": TEXT}}) is None


def test_embedded_objects_are_objects() -> None:
    schema = {
        "type": "object",
        "properties": {
            "inner": {
                "type": "object",
                "x-kubernetes-embedded-resource": True,
                "x-kubernetes-preserve-unknown-fields": True,
            }
        },
    }
    check = embedded.compiled(schema)
    assert check is not None
    assert (
        check({"inner": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}}}, "")
        == []
    )
    wrong = check({"inner": {"kind": "Pod", "metadata": {"labels": {"-": "x"}}}}, "")
    assert [cause.field for cause in wrong] == ["inner.apiVersion", "inner.metadata.labels"]

"""Definitions and objects nobody would write: judged, compiled, printed and published without an accident."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bamikube.api import columns, conversion, defaults, schema, selectable, table, validation
from bamikube.api.custom.family import family_of
from bamikube.api.custom.published import schema_of

ROW = table.by_name("customresourcedefinitions.apiextensions.k8s.io")
WRONG = [None, True, 0, -1, 1.5, 2**63, "", "x", [], [None], {}, {"": None}, {"a": {"b": []}}]
NAMES = ["a", "b", "metadata", "kind", "spec", "status", "x.y", ""]
WORDS = [
    "minimum", "maximum", "exclusiveMinimum", "multipleOf", "minLength", "maxLength", "pattern", "format", "enum", "minItems",
    "maxItems", "minProperties", "maxProperties", "required", "default", "nullable", "allOf", "anyOf", "oneOf", "not", "items",
    "properties", "additionalProperties", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
    "uniqueItems", "description", "title", "id", "$ref", "definitions", "dependencies", "example",
]  # fmt: skip


def value(random: Random, depth: int = 3) -> Any:
    kind = random.randrange(8) if depth else random.randrange(6)
    if kind == 6:
        return [value(random, depth - 1) for _ in range(random.randrange(3))]
    if kind == 7:
        return {random.choice(NAMES): value(random, depth - 1) for _ in range(random.randrange(4))}
    return copy.deepcopy(random.choice(WRONG))


def word(random: Random, name: str, depth: int) -> Any:
    if random.random() < 0.03:
        return value(random)
    if name in ("allOf", "anyOf", "oneOf"):
        return [strange(random, depth - 1, random.random() < 0.2) for _ in range(random.randrange(3))]
    if name in ("properties", "definitions"):
        return {random.choice(NAMES): strange(random, depth - 1) for _ in range(random.randrange(4))}
    if name in ("not", "items", "additionalProperties"):
        return (
            random.choice([strange(random, depth - 1), True])
            if name[0] == "a"
            else strange(random, depth - 1)
        )
    if name in ("default", "example"):
        return value(random)
    if name == "enum":
        return [value(random, 1) for _ in range(random.randrange(3))]
    if name == "pattern":
        return random.choice(["a", "^x$", "(", "[[:alpha:]]+", "(a+)+$", "(?i)x"])
    if name == "format":
        return random.choice(["date-time", "int32", "int64", "byte", "uuid", "email", "cidr", "nothing"])
    if name in ("required", "x-kubernetes-list-map-keys"):
        return random.sample(NAMES, random.randrange(3))
    if name.endswith("-type"):
        return random.choice(["set", "map", "atomic", "granular"])
    if name in ("description", "title", "id", "$ref"):
        return "x"
    if name.startswith("x-") or name in ("nullable", "uniqueItems") or name.startswith("exclusive"):
        return random.random() < 0.8
    return random.choice([0, 1, 2, 5]) if name != "dependencies" else {}


def strange(random: Random, depth: int = 4, typed: bool = True) -> dict[str, Any]:
    """A schema that is structural more often than not."""
    made: dict[str, Any] = {}
    if typed:
        made["type"] = random.choice(["object"] * 4 + ["array", "string", "integer", "number", "boolean"])
        if made["type"] == "array":
            made["items"] = strange(random, max(depth - 1, 0))
        if made["type"] == "object" and depth > 0 and random.random() < 0.8:
            made["properties"] = word(random, "properties", depth)
    for name in random.sample(WORDS, random.choice([0, 0, 1, 1, 2, 4])):
        if depth > 0 or name not in ("allOf", "anyOf", "oneOf", "properties", "definitions", "not", "items"):
            made[name] = word(random, name, max(depth, 1))
    return made


def definition(random: Random) -> dict[str, Any]:
    whole = strange(random)
    whole["type"] = "object"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "tabs.example.com", "uid": "1", "resourceVersion": "1"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "tabs", "kind": "Tab"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": whole},
                    "additionalPrinterColumns": [
                        {
                            "name": "A",
                            "type": random.choice(["string", "integer", "date"]),
                            "jsonPath": ".a..b[*]",
                        }
                    ],
                    "selectableFields": [{"jsonPath": ".a.b"}] if random.random() < 0.1 else [],
                }
            ],
        },
    }


accepted = 0


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_no_accident(seed: int) -> None:
    global accepted
    random = Random(seed)
    crd = definition(random)
    if schema.check(ROW, crd).errors:
        return
    defaults.apply(ROW, crd)
    if validation.validate_create(ROW, crd):
        return
    accepted += 1
    row = family_of(crd).storage
    for _ in range(3):
        obj = value(random)
        obj = (obj if isinstance(obj, dict) else {}) | {"kind": "Tab", "apiVersion": "example.com/v1"}
        obj["metadata"] = {"name": "x", "namespace": "y", "labels": {"a": "b"}}
        if schema.check(row, obj).errors:
            continue
        defaults.apply(row, obj)
        before = copy.deepcopy(obj)
        assert schema.check(row, obj).unknown == []
        defaults.apply(row, obj)
        assert obj == before  # pruned and defaulted once is enough
        validation.validate_create(row, obj)
        assert (
            validation.validate_update(row, copy.deepcopy(obj), obj) == []
        )  # what did not change is never wrong
        columns.row(row, obj, 0.0)
        selectable.values(row, obj)
        assert conversion.to_storage(row, obj) is obj
    schema_of(row)
    schema_of(row, v2=True)


def test_that_enough_were_accepted() -> None:
    assert accepted > 60, accepted

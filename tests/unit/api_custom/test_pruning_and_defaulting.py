"""What is dropped, what is filled in, and that doing either twice is doing it once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.api.custom.defaulting import defaulter
from bamikube.api.custom.pruning import pruner

TEXT = {"type": "string"}


def pruned(schema: dict[str, Any], value: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    prune = pruner(schema, root=True)
    value = copy.deepcopy(value)
    issues = (prune(value) if prune is not None else None) or []
    return value, [issue.path for issue in issues if issue.unknown]


@pytest.mark.parametrize(
    ("schema", "value", "left", "dropped"),
    [
        ({"type": "object", "properties": {"a": TEXT}}, {"a": "x", "b": 1}, {"a": "x"}, ["b"]),
        (
            {"type": "object"},
            {"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n", "nose": 1}},
            {"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}},
            ["metadata.nose"],
        ),
        (
            {
                "type": "object",
                "properties": {
                    "a": {"type": "array", "items": {"type": "object", "properties": {"b": TEXT}}}
                },
            },
            {"a": [{"b": "x"}, {"c": 1}]},
            {"a": [{"b": "x"}, {}]},
            ["a[1].c"],
        ),
        (
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            {"x": {"y": 1}},
            {"x": {"y": 1}},
            [],
        ),
        (
            {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {"a": {"type": "object", "properties": {"b": TEXT}}},
            },
            {"x": 1, "a": {"b": "x", "c": 2}},
            {"x": 1, "a": {"b": "x"}},
            ["a.c"],
        ),
        (
            {
                "type": "object",
                "properties": {"m": {"type": "object", "additionalProperties": {"type": "object"}}},
            },
            {"m": {"k": {"x": 1}}},
            {"m": {"k": {}}},
            ["m.k.x"],
        ),
        (
            {"type": "object", "properties": {"m": {"type": "object", "additionalProperties": True}}},
            {"m": {"k": {"x": 1}}},
            {"m": {"k": {"x": 1}}},
            [],
        ),
        (
            {
                "type": "object",
                "properties": {
                    "e": {
                        "type": "object",
                        "x-kubernetes-embedded-resource": True,
                        "properties": {"spec": {"type": "object"}},
                    }
                },
            },
            {
                "e": {
                    "kind": "Pod",
                    "apiVersion": "v1",
                    "metadata": {"name": "a", "odd": 1},
                    "spec": {},
                    "x": 1,
                }
            },
            {"e": {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {}}},
            ["e.metadata.odd", "e.x"],
        ),
    ],
)
def test_pruning(schema: dict[str, Any], value: Any, left: Any, dropped: list[str]) -> None:
    assert pruned(schema, value) == (left, dropped)


def test_defaults_and_nulls() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "default": 1},
            "b": {"type": "string", "nullable": True},
            "c": {"type": "string"},
            "d": {"type": "object", "default": {}, "properties": {"e": {"type": "string", "default": "x"}}},
            "f": {
                "type": "array",
                "items": {"type": "object", "properties": {"g": {"type": "boolean", "default": True}}},
            },
            "h": {"type": "string", "nullable": True, "default": "y"},
            "m": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "properties": {"n": {"type": "integer", "default": 0}},
                },
            },
        },
    }
    fill = defaulter(schema)
    assert fill is not None
    value: dict[str, Any] = {
        "a": None,
        "b": None,
        "c": None,
        "f": [{}, {"g": False}],
        "h": None,
        "m": {"k": {}, "null": None},
    }
    assert fill(value)
    assert value == {
        "a": 1,
        "b": None,
        "d": {"e": "x"},
        "f": [{"g": True}, {"g": False}],
        "h": None,
        "m": {"k": {"n": 0}},
    }
    assert not fill(value)
    other: dict[str, Any] = {}
    fill(other)
    other["d"]["e"] = "mine"
    third: dict[str, Any] = {}
    fill(third)
    assert third["d"] == {"e": "x"}  # defaults are not shared
    assert defaulter({"type": "string"}) is None


def schemas(depth: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    leaf = st.sampled_from(
        [{"type": "string"}, {"type": "integer", "default": 3}, {"type": "boolean", "nullable": True}]
    )
    if not depth:
        return leaf
    inner = schemas(depth - 1)
    names = st.sampled_from(["a", "b", "c", "d"])
    return st.one_of(
        leaf,
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda each: {"type": "object", "additionalProperties": each}, inner),
        st.builds(
            lambda fields, keep: (
                {"type": "object", "properties": fields}
                | ({"x-kubernetes-preserve-unknown-fields": True} if keep else {})
            ),
            st.dictionaries(names, inner, max_size=3),
            st.booleans(),
        ),
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c", "z"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(schemas(), st.dictionaries(st.sampled_from(["a", "b", "z"]), json_values, max_size=3))
def test_twice_is_once(inner: dict[str, Any], value: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": inner, "b": inner}}
    once, _ = pruned(schema, value)
    assert pruned(schema, once) == (once, [])
    fill = defaulter(schema)
    assert fill is not None
    before = copy.deepcopy(once)
    changed = fill(once)
    assert changed == (before != once or str(before) != str(once))
    after = copy.deepcopy(once)
    assert not fill(once) and once == after

"""JSON patch (RFC 6902) and merge patch (RFC 7396), and field paths."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.api.fieldpath import ROOT, extract, subscript
from bamikube.api.patches import PatchError, json_patch, merge_patch


def test_merge_patch_follows_the_rfc() -> None:
    doc = {"a": "b", "c": {"d": "e", "f": "g"}, "l": [1, 2]}
    patch = {"a": "z", "c": {"f": None}, "l": [3], "n": {"x": {"y": None, "z": 1}}}
    assert merge_patch(doc, patch) == {"a": "z", "c": {"d": "e"}, "l": [3], "n": {"x": {"z": 1}}}
    assert doc["a"] == "b"
    with pytest.raises(PatchError, match="must be a JSON object"):
        merge_patch({}, [])


def test_json_patch_operations() -> None:
    doc = {"spec": {"a": [1, 2], "b": "x"}}
    operations = [
        {"op": "test", "path": "/spec/b", "value": "x"},
        {"op": "add", "path": "/spec/a/-", "value": 3},
        {"op": "replace", "path": "/spec/b", "value": "y"},
        {"op": "copy", "from": "/spec/b", "path": "/spec/c"},
        {"op": "move", "from": "/spec/b", "path": "/spec/d~1e"},
        {"op": "remove", "path": "/spec/a/0"},
    ]
    assert json_patch(doc, operations) == {"spec": {"a": [2, 3], "c": "y", "d/e": "y"}}
    assert doc == {"spec": {"a": [1, 2], "b": "x"}}


@pytest.mark.parametrize(
    ("operations", "malformed"),
    [
        ([{"op": "test", "path": "/a", "value": True}], False),
        ([{"op": "test", "path": "/missing", "value": 1}], False),
        ([{"op": "remove", "path": "/missing"}], False),
        ([{"op": "replace", "path": "/missing", "value": 1}], False),
        ([{"op": "add", "path": "/l/9", "value": 1}], False),
        ([{"op": "add", "path": "", "value": 1}], False),
        ([{"op": "copy", "from": "/l/-", "path": "/b"}], False),
        ([{"op": "move", "from": "/l/-", "path": "/b"}], False),
        ([{"op": "add", "path": "/b"}], True),
        ([{"op": "fly", "path": "/b"}], True),
        ([{"path": "/b"}], True),
        ([5], True),
        ({"op": "add"}, True),
    ],
)
def test_json_patches_that_do_not_go(operations: Any, malformed: bool) -> None:
    with pytest.raises(PatchError) as caught:
        json_patch({"a": 1, "l": []}, operations)
    assert caught.value.malformed is malformed


def test_costly_json_patches_are_refused() -> None:
    doubling = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 200
    with pytest.raises(PatchError) as caught:
        json_patch({"a": ["x" * 100]}, doubling)
    assert caught.value.too_large
    with pytest.raises(
        PatchError, match="The allowed maximum operations in a JSON patch is 10000, got 10001"
    ):
        json_patch({}, [{"op": "test", "path": "", "value": {}}] * 10_001)


POINTERS = st.sampled_from(["", "/a", "/a/0", "/a/-", "/b/c", "/b", "b", "/a/x", 5, None])
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"]), "path": POINTERS},
        optional={"from": POINTERS, "value": st.sampled_from([1, {}, [], "s", None])},
    ),
    max_size=4,
)


@given(OPERATIONS)
def test_any_json_patch_applies_or_is_refused(operations: list[dict[str, Any]]) -> None:
    with contextlib.suppress(PatchError):
        assert isinstance(json_patch({"a": [1], "b": {"c": "d"}}, operations), dict)


def test_paths_of_fields() -> None:
    assert str(ROOT.child("spec", "containers").index(0).child("name")) == "spec.containers[0].name"
    assert str(ROOT.child("metadata", "labels").key("app")) == "metadata.labels[app]"
    assert subscript("metadata.labels['a.b/c']") == ("metadata.labels", "a.b/c")
    pod = {"metadata": {"name": "web", "labels": {"b": 'x"y', "a": "1"}}}
    assert extract(pod, "metadata.labels") == 'a="1"\nb="x\\"y"'
    assert extract(pod, "metadata.labels['a']") == "1"
    assert extract(pod, "metadata.annotations['none']") == ""
    assert extract(pod, "metadata.name") == "web"
    with pytest.raises(ValueError, match="unsupported fieldPath: spec"):
        extract(pod, "spec.x")

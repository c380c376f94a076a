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
    with pytest.raises(PatchError, match="cannot unmarshal array into Go value of type map"):
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


def test_operations_that_only_kubernetes_allows() -> None:
    doc = {"a": {"x": 1}, "l": [1, 2]}
    operations = [
        {"op": "replace", "path": "/a/new", "value": 2},
        {"op": "add", "path": "/l/-1", "value": 3},
        {"op": "remove", "path": "/l/-3"},
        {"op": "test", "path": "/a/none", "value": None},
        {"op": "test", "path": "/a/none"},
        {"op": "copy", "from": "/a/none", "path": "/b"},
        {"op": "add", "path": "odd/c"},
        {"op": "move", "from": "/l/1", "path": "/a/l"},
    ]
    assert json_patch(doc, operations) == {"a": {"x": 1, "new": 2, "l": 3}, "l": [2], "b": None, "c": None}
    assert json_patch(doc, [{"op": "replace", "path": "", "value": {"b": 1}}]) == {"b": 1}


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"op": "test", "path": "/a", "value": True}, "testing value /a failed: test failed"),
        ({"op": "test", "path": "/missing", "value": 1}, "testing value /missing failed: test failed"),
        ({"op": "test", "path": "/x/y", "value": 1}, "test operation does not apply: is missing path: /x/y: missing value"),
        ({"op": "test", "path": "/l/0", "value": 1}, "error in test for path: '/l/0': Unable to access invalid index: 0: invalid index referenced"),
        ({"op": "remove", "path": "/b"}, "error in remove for path: '/b': Unable to remove nonexistent key: b: missing value"),
        ({"op": "remove", "path": "/x/y"}, 'remove operation does not apply: doc is missing path: "/x/y": missing value'),
        ({"op": "remove", "path": ""}, 'remove operation does not apply: doc is missing path: "": missing value'),
        ({"op": "remove", "path": "/l/-"}, "error in remove for path: '/l/-': strconv.Atoi: parsing \"-\": invalid syntax"),
        ({"op": "replace", "path": "/x/y", "value": 1}, "replace operation does not apply: doc is missing path: /x/y: missing value"),
        ({"op": "replace", "path": "/l/0", "value": 1}, "replace operation does not apply: doc is missing key: /l/0: missing value"),
        ({"op": "replace"}, "replace operation failed to decode path: operation missing path field: missing value"),
        ({"op": "add", "path": "/a/b", "value": 1}, 'add operation does not apply: doc is missing path: "/a/b": missing value'),
        ({"op": "add", "path": "/l/9", "value": 1}, "error in add for path: '/l/9': Unable to access invalid index: 9: invalid index referenced"),
        ({"op": "add", "path": "/l/x", "value": 1}, "error in add for path: '/l/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax"),
        ({"op": "add", "path": "/l/9999999999999999999", "value": 1}, "value out of range"),
        ({"op": "add", "path": "/l/" + "9" * 5000, "value": 1}, "value out of range"),
        ({"op": "add"}, "add operation failed to decode path: missing value"),
        ({"op": "copy", "path": "/b"}, "copy operation failed to decode from: operation, missing from field: missing value"),
        ({"op": "copy", "from": "/l/-", "path": "/b"}, "error in copy for from: '/l/-': strconv.Atoi"),
        ({"op": "copy", "from": "/a", "path": "/x/y"}, "copy operation does not apply: doc is missing destination path: /x/y: missing value"),
        ({"op": "copy", "from": "/a", "path": "/l/7"}, "error while adding value during copy: Unable to access invalid index: 7"),
        ({"op": "move", "from": "/b", "path": "/c"}, "error in move for path: 'b': Unable to remove nonexistent key: b: missing value"),
        ({"op": "move", "from": "/x/y", "path": "/c"}, "move operation does not apply: doc is missing from path: /x/y: missing value"),
        ({"op": "move", "from": "/a", "path": "/a/b"}, "move operation does not apply: doc is missing destination path: /a/b: missing value"),
        ({"op": "fly", "path": "/b"}, "Unexpected kind: fly"),
        ({"path": "/b"}, "Unexpected kind: unknown"),
        (None, "Unexpected kind: unknown"),
    ],
)  # fmt: skip
def test_json_patches_that_do_not_go(operation: Any, words: str) -> None:
    with pytest.raises(PatchError) as caught:
        json_patch({"a": 1, "l": []}, [operation])
    assert words in str(caught.value) and not caught.value.malformed


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        ([5], "cannot unmarshal number into Go value of type handlers.jsonPatchOp"),
        ({"op": "add"}, "cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
        ([{"op": "add", "path": 7}], "cannot unmarshal number into Go struct field jsonPatchOp.path of type string"),
        ([{"op": ["add"]}], "cannot unmarshal array into Go struct field jsonPatchOp.op of type string"),
    ],
)  # fmt: skip
def test_texts_that_are_no_json_patch(operations: Any, words: str) -> None:
    with pytest.raises(PatchError) as caught:
        json_patch({}, operations)
    assert str(caught.value) == f"error decoding patch: json: {words}" and caught.value.malformed


def test_costly_json_patches_are_refused() -> None:
    doubling = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 200
    with pytest.raises(
        PatchError, match=r"accumulated size increase of copy is \d+, exceeding the limit 3145728"
    ):
        json_patch({"a": ["x" * 100]}, doubling)
    with pytest.raises(
        PatchError, match="The allowed maximum operations in a JSON patch is 10000, got 10001"
    ) as caught:
        json_patch({}, [{"op": "test", "path": "", "value": {}}] * 10_001)
    assert caught.value.too_large


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


@pytest.mark.parametrize(
    "last", [{"op": "test", "path": "/a", "value": {}}, {"op": "copy", "from": "/a", "path": "/b"}]
)
def test_what_operations_nest_too_deep_is_refused(last: dict[str, Any]) -> None:
    nested: dict[str, Any] = {}
    for _ in range(200):
        nested = {"a": nested}
    grow = [{"op": "add", "path": "/a" * depth, "value": nested} for depth in (1, 201)]
    with pytest.raises(PatchError) as refused:
        json_patch({}, [*grow, last])
    assert refused.value.malformed


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

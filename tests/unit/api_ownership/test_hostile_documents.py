"""Whatever somebody applies or writes into managedFields: an answer of 4xx at worst, and sets that stay sets."""

from __future__ import annotations

import copy
from typing import Any

import orjson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bamikube.api import table
from bamikube.api.errors import ApiError
from bamikube.api.fields import elements, sets
from bamikube.api.ownership import Author
from bamikube.apiserver.registry import ownership
from bamikube.apiserver.registry.applying import applied, check_document, parse_document

NOW = "2026-01-01T00:00:00Z"
PODS = table.by_name("pods")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "image",
                    "ports",
                    "containerPort",
                    "protocol",
                    "env",
                    "value",
                    "limits",
                    "f:x",
                    "$patch",
                    "",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
PLACES = st.sampled_from(
    [
        ("metadata",),
        ("metadata", "labels"),
        ("metadata", "finalizers"),
        ("metadata", "ownerReferences"),
        ("metadata", "generation"),
        ("spec",),
        ("spec", "containers"),
        ("spec", "tolerations"),
        ("spec", "nodeSelector"),
        ("spec", "imagePullSecrets"),
        ("spec", "topologySpreadConstraints"),
        ("spec", "overhead"),
        ("status", "conditions"),
    ]
)


def pod() -> dict[str, Any]:
    container = {
        "name": "c",
        "image": "i",
        "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "value": "b"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["x/y"]},
        "spec": {"containers": [container]},
    }


def put(obj: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    *way, last = place
    inner = obj
    for name in way:
        inner = inner.setdefault(name, {})
    inner[last] = value
    return obj


def apply(live: dict[str, Any] | None, doc: Any) -> dict[str, Any]:
    parsed, _ = parse_document(orjson.dumps(doc), "Warn")
    document = check_document(PODS, parsed, "default", "p")
    return applied(PODS, live, document, Author("me", "Apply", "v1"), NOW, True)


@settings(deadline=None)
@given(PLACES, JSON)
def test_any_document_is_applied_or_refused(place: tuple[str, ...], value: Any) -> None:
    live = apply(None, pod())
    try:
        doc = put(pod(), place, value)
        orjson.dumps(doc)
    except TypeError:
        return  # no JSON can say that: an integer of more than 64 bits
    before = copy.deepcopy(live)
    try:
        new = apply(live, doc)
    except ApiError as error:
        assert error.code in (400, 409), error.message
    else:
        again = apply(new, doc)
        assert (
            again["metadata"]["managedFields"][0]["fieldsV1"]
            == new["metadata"]["managedFields"][0]["fieldsV1"]
        )
    assert live == before, "what stands is never changed in place"


@settings(deadline=None)
@given(PLACES, JSON, PLACES, JSON)
@example(("metadata", "labels"), None, ("spec", "containers"), [{"name": {"name": None, "image": None}}])
def test_any_object_is_tracked(one: tuple[str, ...], first: Any, two: tuple[str, ...], second: Any) -> None:
    """Plain writes are tracked whatever they hold: they have been checked, or will be, by others."""
    if (one[0] == "metadata" and len(one) == 1) or (two[0] == "metadata" and len(two) == 1):
        return  # the registry makes sure that metadata is an object
    old, new = put(pod(), one, first), put(pod(), two, second)
    ownership.track(PODS, None, old, "a", "", NOW)
    ownership.track(PODS, old, new, "b", "", NOW)
    for entry in new["metadata"].get("managedFields") or ():
        assert sets.ordered(sets.canonical(entry["fieldsV1"])) == entry["fieldsV1"]


@settings(deadline=None)
@given(JSON)
def test_any_managed_fields_are_taken_or_left(raw: Any) -> None:
    live = apply(None, pod())
    managed = live["metadata"]["managedFields"]
    names = ("manager", "operation", "apiVersion", "time", "subresource", "fieldsType", "fieldsV1")
    for foreign in (raw, [raw], *([{**managed[0], name: raw}, managed[0]] for name in names)):
        new = pod()
        new["metadata"]["managedFields"] = foreign
        ownership.track(PODS, live, new, "b", "", NOW)
        for entry in new["metadata"].get("managedFields") or ():
            assert sets.ordered(sets.canonical(entry["fieldsV1"])) == entry["fieldsV1"]


def test_an_element_may_be_named_by_a_number_beyond_64_bits() -> None:
    for step in (
        elements.by_keys({"containerPort": 2**70, "protocol": "TCP"}),
        elements.by_value({"a": [-(2**70)]}),
    ):
        assert elements.canonical(step) == step and elements.rank(step)

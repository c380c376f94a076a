"""What must hold for all documents: apply twice is apply once, strangers do not meet, nothing said is lost."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bamikube.api.fields import object_type, sets
from bamikube.api.fields.lists import interleave
from bamikube.api.fields.types import Map, Type
from bamikube.api.schema.source import definition
from tests.unit.api_ownership.people import Stage

SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "size": {"type": "integer"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "args": {"type": "array", "items": {"type": "string"}},
                "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["port", "protocol"],
                    "items": {
                        "type": "object",
                        "properties": {
                            "port": {"type": "integer"},
                            "protocol": {"type": "string", "default": "TCP"},
                            "name": {"type": "string"},
                            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    },
                },
                "ref": {
                    "type": "object",
                    "x-kubernetes-map-type": "atomic",
                    "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                },
            },
        }
    },
}
KIND = object_type(SCHEMA)
WORDS = st.sampled_from(["a", "b", "c", "d"])


def documents(words: st.SearchStrategy[str] = WORDS) -> st.SearchStrategy[dict[str, Any]]:
    """Documents whose every name comes from ``words``: what two sets of words do not share, nor do their documents."""
    free = st.dictionaries(
        words, st.integers(0, 2) | st.dictionaries(words, st.integers(0, 2), max_size=2), max_size=2
    )
    port = st.fixed_dictionaries(
        {"port": words.map(lambda word: ord(word[0]))},
        optional={"protocol": st.sampled_from(["TCP", "UDP"]), "name": words, "free": free},
    )
    ports = st.lists(port, max_size=3, unique_by=lambda one: (one["port"], one.get("protocol", "TCP")))
    spec = st.fixed_dictionaries(
        {},
        optional={
            "labels": st.dictionaries(words, WORDS, max_size=3),
            "tags": st.lists(words, max_size=3, unique=True),
            "ports": ports,
        },
    )
    return spec.map(_document)


def _document(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "x/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec}


def everything() -> st.SearchStrategy[dict[str, Any]]:
    """Documents that may also say what only one manager can own."""
    more = st.fixed_dictionaries(
        {},
        optional={
            "size": st.integers(0, 3),
            "args": st.lists(WORDS, max_size=3),
            "ref": st.dictionaries(WORDS, WORDS, max_size=2),
        },
    )
    return st.builds(lambda doc, add: _document({**doc["spec"], **add}), documents(), more)


def stage(*first: dict[str, Any]) -> Stage:
    made = Stage(api_version="x/v1", kind=KIND)
    for number, doc in enumerate(first):
        made.update(f"first-{number}", doc)
    return made


@settings(deadline=None)
@given(everything(), everything(), st.booleans())
def test_apply_twice_is_apply_once(live: dict[str, Any], doc: dict[str, Any], fresh: bool) -> None:
    scene = stage() if fresh else stage(live)
    scene.apply("me", doc, force=True)
    once = copy.deepcopy(scene.obj)
    scene.apply("me", doc)
    assert scene.obj == once


@settings(deadline=None)
@given(documents(st.sampled_from(["a", "b"])), documents(st.sampled_from(["c", "d"])), documents(WORDS))
def test_managers_of_disjoint_fields_never_conflict(
    one: dict[str, Any], two: dict[str, Any], again: dict[str, Any]
) -> None:
    scene = stage()
    scene.apply("one", one)
    scene.apply("two", two)
    scene.apply("one", one)
    scene.apply("two", {**two, "spec": {}})
    left = scene.apply("one", one)
    # What two brought is gone with him, and only that.
    alone = stage()
    assert left == alone.apply("one", one)
    scene.apply("two", again, force=True)
    scene.apply("two", again)


@settings(deadline=None)
@given(everything(), everything())
def test_everything_said_is_there_afterwards(live: dict[str, Any], doc: dict[str, Any]) -> None:
    scene = stage(live)
    merged = scene.apply("me", doc, force=True)
    assert KIND.merge(merged, doc) == merged
    mine = KIND.stated(doc)
    assert sets.difference(mine, KIND.whole(merged)) == {} or _says_empty(doc)
    assert scene.obj is not None
    entry = next(
        (one for one in scene.obj["metadata"]["managedFields"] if one["operation"] == "Apply"),
        {"fieldsV1": {}},
    )
    assert entry["fieldsV1"] == mine


def _says_empty(doc: dict[str, Any]) -> bool:
    """An empty map or list in a document is owned as such, and may be filled by others."""
    spec = doc["spec"]
    return not spec or any(value in ({}, []) for value in spec.values()) or "free" in str(spec)


@settings(deadline=None)
@given(everything(), everything())
def test_what_an_apply_brought_goes_with_it(live: dict[str, Any], doc: dict[str, Any]) -> None:
    """The fields nobody else had are taken out again; those that were there before stay with their values."""
    scene = stage(live)
    before = copy.deepcopy(scene.obj)
    if scene.try_apply("me", doc).conflicts:
        return
    scene.apply("me", doc)
    after = scene.apply("me", {**doc, "spec": {}})
    assert before is not None
    assert sets.difference(KIND.whole(live), KIND.whole(after)) == {}
    assert KIND.compare(live, after)[1] is None


@settings(deadline=None)
@given(st.lists(everything(), min_size=1, max_size=5))
def test_every_field_a_plain_write_leaves_has_at_most_one_updater(docs: list[dict[str, Any]]) -> None:
    scene = stage(*docs)
    assert scene.obj is not None
    owners = [list(sets.paths(one["fieldsV1"])) for one in scene.obj["metadata"]["managedFields"]]
    every = [path for paths in owners for path in paths]
    assert len(every) == len(set(every))
    assert set(every) <= set(sets.paths(KIND.whole(docs[-1])))


@settings(deadline=None)
@given(st.lists(WORDS, unique=True), st.lists(WORDS, unique=True))
def test_lists_interleave(live: list[str], doc: list[str]) -> None:
    result = [step for step, _ in interleave([(one, one) for one in live], [(one, one) for one in doc])]
    assert sorted(result) == sorted({*live, *doc})
    assert [one for one in result if one in doc] == doc, "the document's order stands"
    others = [one for one in live if one not in doc]
    assert [one for one in result if one not in doc] == others


def test_the_example_of_interleaving() -> None:
    pairs = [[(one, one) for one in text] for text in ("axb", "bac")]
    assert "".join(step for step, _ in interleave(*pairs)) == "xbac"


def test_a_document_that_says_nothing_new_gives_the_live_object_itself() -> None:
    kind = object_type(definition("io.k8s.api.core.v1.Pod"), "io.k8s.api.core.v1.Pod")
    container: dict[str, Any] = {"name": "c", "args": ["x"]}
    live = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container | {"image": "i"}]}}
    said = {"spec": {"containers": [container]}}
    assert kind.merge(live, said) is live
    container["args"] = ["y"]
    assert kind.merge(live, said) is not live


def test_values_that_only_python_calls_equal_are_written_anew() -> None:
    kind = Map(rest=Type(""))
    for there, value in ((1, True), ([1], [True]), ({"a": 0}, {"a": False})):
        assert repr(kind.merge({"x": there}, {"x": value})) == repr({"x": value})

"""Strategic merge patch: every directive, and the patches client-side apply computes."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.api.patches import PatchError, strategic_merge_patch, three_way, two_way


@dataclass(frozen=True)
class Known:
    type: str = ""
    ref: str = ""
    items_ref: str = ""
    patch_strategy: str = ""
    patch_merge_key: str = ""


SCHEMA: dict[tuple[str, str], Known] = {
    ("Pod", "spec"): Known("object", ref="Spec"),
    ("Spec", "containers"): Known(
        "array", items_ref="Container", patch_strategy="merge", patch_merge_key="name"
    ),
    ("Spec", "volumes"): Known(
        "array", items_ref="Volume", patch_strategy="merge,retainKeys", patch_merge_key="name"
    ),
    ("Spec", "finalizers"): Known("array", patch_strategy="merge"),
    ("Spec", "args"): Known("array"),
    ("Spec", "strategy"): Known("object", ref="Strategy", patch_strategy="retainKeys"),
    ("Spec", "whole"): Known("object", ref="Strategy", patch_strategy="replace"),
    ("Container", "env"): Known("array", items_ref="Env", patch_strategy="merge", patch_merge_key="name"),
}


def lookup(definition: str, field: str) -> Known | None:
    return SCHEMA.get((definition, field))


def merged(spec: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    return strategic_merge_patch({"spec": spec}, {"spec": patch}, "Pod", lookup)["spec"]


WEB = {"name": "web", "image": "a", "env": [{"name": "X", "value": "1"}]}
LOG = {"name": "log", "image": "b"}


def test_lists_with_a_merge_key_merge_element_by_element() -> None:
    patch = {"containers": [{"name": "web", "image": "c", "env": [{"name": "Y", "value": "2"}]}]}
    assert merged({"containers": [WEB, LOG]}, patch) == {
        "containers": [
            {"name": "web", "image": "c", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
            LOG,
        ]
    }


def test_new_elements_come_first_and_lists_without_strategy_are_replaced() -> None:
    assert merged({"containers": [LOG], "args": ["a"]}, {"containers": [{"name": "n"}], "args": ["b"]}) == {
        "containers": [{"name": "n"}, LOG],
        "args": ["b"],
    }


@pytest.mark.parametrize(
    ("spec", "patch", "result"),
    [
        # null removes, also inside what is not there
        ({"a": 1, "b": {"c": 1}}, {"a": None, "b": {"c": None}}, {"b": {}}),
        ({}, {"b": {"c": None, "d": 1}}, {"b": {"d": 1}}),
        # $patch in a map
        ({"b": {"c": 1}}, {"b": {"$patch": "replace", "d": 1}}, {"b": {"d": 1}}),
        ({"b": {"c": 1}}, {"b": {"$patch": "delete"}}, {"b": {}}),
        # $patch as a list element
        (
            {"containers": [WEB, LOG]},
            {"containers": [{"name": "web", "$patch": "delete"}]},
            {"containers": [LOG]},
        ),
        ({"containers": [WEB]}, {"containers": [{"$patch": "replace"}, LOG]}, {"containers": [LOG]}),
        ({}, {"containers": [{"name": "web", "$patch": "delete"}, LOG]}, {"containers": [LOG]}),
        # plain values
        ({"finalizers": ["a", "b"]}, {"finalizers": ["b", "c"]}, {"finalizers": ["a", "b", "c"]}),
        ({"finalizers": ["a", "b"]}, {"$deleteFromPrimitiveList/finalizers": ["a"]}, {"finalizers": ["b"]}),
        (
            {"finalizers": ["a", "b", "x"]},
            {
                "$deleteFromPrimitiveList/finalizers": ["a"],
                "$setElementOrder/finalizers": ["c", "b"],
                "finalizers": ["c"],
            },
            {"finalizers": ["c", "b", "x"]},
        ),
        # $retainKeys
        (
            {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}},
            {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}},
            {"strategy": {"type": "Recreate"}},
        ),
        (
            {"volumes": [{"name": "v", "emptyDir": {}}]},
            {"volumes": [{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}]},
            {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
        ),
        # strategy replace on a map
        ({"whole": {"a": 1}}, {"whole": {"b": 1}}, {"whole": {"b": 1}}),
        # $setElementOrder
        (
            {"containers": [WEB, LOG]},
            {"$setElementOrder/containers": [{"name": "log"}, {"name": "web"}]},
            {"containers": [LOG, WEB]},
        ),
        # other types are taken as they come
        ({"a": {"b": 1}}, {"a": 5}, {"a": 5}),
        ({"a": [1]}, {"a": {"b": None}}, {"a": {}}),
    ],
)
def test_directives(spec: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]) -> None:
    before = repr(spec)
    assert merged(spec, patch) == result
    assert repr(spec) == before


@pytest.mark.parametrize(
    ("spec", "patch", "message"),
    [
        ({}, {"$patch": "nonsense"}, "unknown patch type: nonsense in map: map[$patch:nonsense]"),
        (
            {"containers": [WEB]},
            {"containers": [{"image": "x"}]},
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            {"containers": [WEB]},
            {"containers": [{"$patch": "delete"}]},
            "does not contain declared merge key: name",
        ),
        (
            {"containers": [WEB]},
            {"containers": [{"name": "a", "$patch": "merge"}]},
            "merging lists cannot yet",
        ),
        (
            {"strategy": {}},
            {"strategy": {"$retainKeys": ["a"], "b": 1}},
            "invalid patch format of retainKeys",
        ),
        (
            {"containers": [WEB]},
            {
                "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                "containers": [{"name": "a"}, {"name": "b"}],
            },
            "doesn't match",
        ),
    ],
)
def test_faulty_patches(spec: dict[str, Any], patch: dict[str, Any], message: str) -> None:
    with pytest.raises(PatchError, match=re.escape(message)):
        merged(spec, patch)


def test_live_only_elements_keep_their_place_when_order_is_set() -> None:
    spec = {"containers": [{"name": "a"}, {"name": "x"}, {"name": "b"}]}
    patch = {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}
    assert [one["name"] for one in merged(spec, patch)["containers"]] == ["x", "b", "a"]


def test_apply_sets_removes_and_leaves_alone() -> None:
    last = {"spec": {"containers": [WEB, LOG], "args": ["a"], "replicas": 2}}
    now = {"spec": {"containers": [{"name": "web", "image": "z"}], "args": ["b"]}}
    live = {
        "spec": {"containers": [{**WEB, "pull": "Always"}, LOG], "args": ["a"], "replicas": 2, "x": 1},
        "status": {},
    }
    patch = three_way(last, now, live, "Pod", lookup)
    assert patch == {
        "spec": {
            "$setElementOrder/containers": [{"name": "web"}],
            "containers": [{"name": "web", "image": "z", "env": None}, {"$patch": "delete", "name": "log"}],
            "args": ["b"],
            "replicas": None,
        }
    }
    result = strategic_merge_patch(live, patch, "Pod", lookup)
    assert result == {
        "spec": {"containers": [{"name": "web", "image": "z", "pull": "Always"}], "args": ["b"], "x": 1},
        "status": {},
    }
    assert three_way(now, now, result, "Pod", lookup) == {}


def test_unions_are_switched_with_retain_keys() -> None:
    live = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = three_way(None, {"spec": {"strategy": {"type": "Recreate"}}}, live, "Pod", lookup)
    assert patch == {"spec": {"strategy": {"type": "Recreate", "$retainKeys": ["type"]}}}
    live = {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}
    wanted = {"spec": {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}}
    patch = three_way(None, wanted, live, "Pod", lookup)
    assert strategic_merge_patch(live, patch, "Pod", lookup) == wanted


def test_a_list_with_repeated_keys_is_left_alone_when_it_agrees_and_replaced_when_not() -> None:
    live = {
        "spec": {"containers": [{"name": "a", "proto": "TCP", "x": 1}, {"name": "a", "proto": "UDP", "x": 1}]}
    }
    same = {"spec": {"containers": [{"name": "a", "proto": "TCP"}, {"name": "a", "proto": "UDP"}]}}
    assert three_way(same, same, live, "Pod", lookup) == {}
    other = {"spec": {"containers": [{"name": "a", "proto": "SCTP"}, {"name": "a", "proto": "UDP"}]}}
    assert strategic_merge_patch(live, three_way(same, other, live, "Pod", lookup), "Pod", lookup) == other


def test_without_a_schema_the_patch_is_a_plain_merge_patch() -> None:
    assert three_way({"a": [1], "b": 1}, {"a": [2]}, {"a": [1], "b": 1, "c": 1}) == {"a": [2], "b": None}


SCALARS = st.one_of(st.integers(0, 2), st.booleans(), st.sampled_from(["x", "y"]))
NAMES = st.sampled_from(["a", "b", "c", "d"])
ENV = st.lists(
    st.fixed_dictionaries({"name": NAMES, "value": SCALARS}), max_size=3, unique_by=lambda item: item["name"]
)
CONTAINERS = st.lists(
    st.fixed_dictionaries({"name": NAMES}, optional={"image": SCALARS, "env": ENV}),
    max_size=4,
    unique_by=lambda item: item["name"],
)
STRATEGY = st.fixed_dictionaries(
    {}, optional={"type": SCALARS, "rolling": st.fixed_dictionaries({"max": SCALARS})}
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "containers": CONTAINERS,
        "volumes": CONTAINERS,
        "finalizers": st.lists(NAMES, max_size=3, unique=True),
        "args": st.lists(SCALARS, max_size=3),
        "strategy": STRATEGY,
        "whole": STRATEGY,
        "other": st.dictionaries(NAMES, SCALARS, max_size=3),
    },
)
DOCUMENTS = st.fixed_dictionaries({"spec": SPECS})


@given(DOCUMENTS, DOCUMENTS)
def test_a_two_way_patch_leads_to_the_other_document(one: dict[str, Any], two: dict[str, Any]) -> None:
    patch = two_way(one, two, "Pod", lookup)
    result = strategic_merge_patch(one, patch, "Pod", lookup)
    assert result == two and repr(result) != "" and two_way(result, two, "Pod", lookup) == {}
    plain = two_way(one, two)
    assert strategic_merge_patch(one, plain, "", lookup) == two


def _says(live: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return all(key in live and _says(live[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and wanted and isinstance(wanted[0], dict):
        by_name = {item["name"]: item for item in live}
        return all(_says(by_name[item["name"]], item) for item in wanted)
    if isinstance(wanted, list):
        return all(item in live for item in wanted)
    return bool(live == wanted)


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_applying_makes_the_live_object_say_what_is_wanted_and_is_done_once(
    last: dict[str, Any], wanted: dict[str, Any], live: dict[str, Any]
) -> None:
    result = strategic_merge_patch(live, three_way(last, wanted, live, "Pod", lookup), "Pod", lookup)
    assert _says(result, wanted)
    assert three_way(wanted, wanted, result, "Pod", lookup) == {}


JSON = st.recursive(
    st.none() | SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "spec",
                    "containers",
                    "finalizers",
                    "strategy",
                    "name",
                    "$patch",
                    "$retainKeys",
                    "$setElementOrder/containers",
                    "$deleteFromPrimitiveList/finalizers",
                    "$setElementOrder/finalizers",
                ]
            ),
            inner | st.sampled_from(["replace", "delete", "merge"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON, JSON, st.sampled_from(["Pod", "Spec"]))
def test_any_patch_merges_or_is_refused(doc: Any, patch: Any, definition: str) -> None:
    with contextlib.suppress(PatchError):
        strategic_merge_patch(doc if isinstance(doc, dict) else {}, patch, definition, lookup)

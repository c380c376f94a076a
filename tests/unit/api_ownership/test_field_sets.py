"""Sets of field paths: algebra, order, and what comes from outside."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bamikube.api.fields import elements, sets

STEPS = st.one_of(
    st.sampled_from(["f:a", "f:b", "f:spec", "f:app.kubernetes.io/name"]),
    st.builds(lambda name: elements.by_text_key("name", name), st.sampled_from(["x", "y", 'q"u'])),
    st.builds(lambda port: elements.by_keys({"port": port, "protocol": "TCP"}), st.sampled_from([80, 443])),
    st.builds(elements.by_value, st.sampled_from(["v", 3, True])),
)
PATHS = st.lists(st.lists(STEPS, min_size=1, max_size=4).map(tuple), max_size=8)


def of(paths: list[tuple[str, ...]]) -> sets.FieldSet:
    return sets.of_paths(*paths)


@settings(deadline=None)
@given(PATHS, PATHS)
def test_sets_behave_as_sets_of_their_paths(
    left: list[tuple[str, ...]], right: list[tuple[str, ...]]
) -> None:
    one, two = of(left), of(right)
    assert set(sets.paths(one)) == set(left)
    assert set(sets.paths(sets.union(one, two))) == {*left, *right}
    assert set(sets.paths(sets.difference(one, two))) == {*left} - {*right}
    assert set(sets.paths(sets.intersection(one, two))) == {*left} & {*right}
    kept = {path for path in left if not any(path[: len(other)] == other for other in right)}
    assert set(sets.paths(sets.without_subtrees(one, two))) == kept
    assert all(sets.has(one, path) == (path in left) for path in [*left, *right])


@settings(deadline=None)
@given(PATHS)
def test_what_is_written_is_read_again(paths: list[tuple[str, ...]]) -> None:
    fields = of(paths)
    written = orjson.loads(orjson.dumps(sets.ordered(fields)))
    assert set(sets.paths(sets.canonical(written))) == set(paths)
    assert sets.ordered(written) == written


def test_the_order_is_kubernetes_own() -> None:
    ports = [elements.by_keys({"containerPort": port, "protocol": "TCP"}) for port in (8080, 443, 80)]
    fields = of([("f:b",), ("f:a", "f:z"), ("f:a",), *(("f:ports", port) for port in ports)])
    assert orjson.dumps(sets.ordered(fields)).decode() == (
        '{"f:a":{".":{},"f:z":{}},"f:b":{},"f:ports":{'
        '"k:{\\"containerPort\\":80,\\"protocol\\":\\"TCP\\"}":{},'
        '"k:{\\"containerPort\\":443,\\"protocol\\":\\"TCP\\"}":{},'
        '"k:{\\"containerPort\\":8080,\\"protocol\\":\\"TCP\\"}":{}}}'
    )


def test_paths_as_people_read_them() -> None:
    path = ("f:spec", elements.by_keys({"port": 80, "protocol": "TCP"}), "f:name")
    assert elements.text(path) == '.spec[port=80,protocol="TCP"].name'
    assert elements.text(("f:finalizers", elements.by_value("x/y"), "i:3")) == '.finalizers[="x/y"][3]'


def test_steps_from_outside_come_into_our_form() -> None:
    raw = {"f:ports": {'k:{"protocol": "TCP", "port": 80}': {".": {}, "f:port": {}}, "i:03": {}}}
    canonical = sets.canonical(raw)
    assert list(canonical["f:ports"]) == ['k:{"port":80,"protocol":"TCP"}', "i:3"]


@pytest.mark.parametrize(
    "raw",
    [
        [],
        {"f:a": 1},
        {"x:a": {}},
        {"nothing": {}},
        {"k:{": {}},
        {"k:[]": {}},
        {"i:x": {}},
        {".": {"f:a": {}}},
    ],
)
def test_nonsense_is_refused(raw: Any) -> None:
    with pytest.raises(ValueError, match="fieldsV1"):
        sets.canonical(raw)


def test_bottomless_nesting_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(2000):
        deep = {"f:a": deep}
    with pytest.raises(ValueError, match="too deep"):
        sets.canonical(deep)

"""Pod specs of one series: what is remembered of one must be what the next would have been told anyway."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.api import schema, table
from bamikube.api.fields import compile as fields
from bamikube.api.fields.series import PodSpecs
from bamikube.api.fields.types import Map, Unfit
from bamikube.api.series import POD_SPEC, mark_but_images

PODS = table.by_name("pods")
IMAGES = st.sampled_from(["a:1", "a:2", "b", "", None, 3, True, {"a": 1}])
NAMES = st.sampled_from(["web", "log", "db"])


@st.composite
def containers(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for name in draw(st.lists(NAMES, max_size=3)):
        one: dict[str, Any] = {"name": name}
        if draw(st.booleans()):
            one["image"] = draw(IMAGES)
        if draw(st.booleans()):
            port: dict[str, Any] = {"containerPort": draw(st.sampled_from([80, 81]))}
            one["ports"] = [port | ({"protocol": "TCP"} if draw(st.booleans()) else {})]
        if draw(st.booleans()):
            one["env"] = [{"name": "A", "value": draw(st.sampled_from(["1", "2"]))}]
        if draw(st.booleans()):
            one["resources"] = {"limits": {"cpu": draw(st.sampled_from(["1", "1000m", 1]))}}
        found.append(one)
    return found


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    for kind in draw(st.sets(st.sampled_from(["containers", "initContainers"]))):
        spec[kind] = draw(containers())
    if draw(st.booleans()):
        spec["restartPolicy"] = draw(st.sampled_from(["Always", "", "Never", 5]))
    return spec


def plain() -> Map:
    """The same type without a memory."""
    kind = fields._defined(POD_SPEC)
    assert isinstance(kind, PodSpecs)
    return Map(kind.rest, kind.fields, nulls=kind.nulls)


SERIES, PLAIN = fields._defined(POD_SPEC), plain()


@given(specs(), specs())
def test_a_memory_changes_no_answer(live: dict[str, Any], doc: dict[str, Any]) -> None:
    for one in (live, doc):
        try:
            expected = PLAIN.stated(one)
        except Unfit:
            with pytest.raises(Unfit):
                SERIES.stated(one)
        else:
            assert SERIES.stated(one) == expected
    before = copy.deepcopy((live, doc))
    merged = SERIES.merge(live, doc)
    assert merged == PLAIN.merge(live, doc)
    assert list(map(list, merged.get("containers", ()))) == list(
        map(list, PLAIN.merge(live, doc).get("containers", ()))
    )
    assert (live, doc) == before
    if merged == live and PLAIN.merge(live, doc) is live:
        assert merged is live


@given(specs(), st.lists(st.sampled_from(["a:1", "a:2", "c:3"]), min_size=6, max_size=6))
def test_the_next_of_a_series_is_merged_as_the_first(spec: dict[str, Any], images: list[str]) -> None:
    live, doc = copy.deepcopy(spec), copy.deepcopy(spec)
    SERIES.merge(live, doc)
    following = iter(images)
    for kind in ("containers", "initContainers"):
        for one in doc.get(kind, ()):
            if one.get("image"):
                one["image"] = next(following)
    assert SERIES.merge(live, doc) == PLAIN.merge(live, doc)


@given(specs())
def test_what_was_found_good_is_so_for_its_series_only(spec: dict[str, Any]) -> None:
    def report(spec: dict[str, Any]) -> tuple[Any, Any]:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": copy.deepcopy(spec)}
        found = schema.check(PODS, pod)
        return [(each.field, each.message) for each in found.errors], pod

    first = report(spec)
    assert report(spec) == first
    good = copy.deepcopy(spec)
    for kind in ("containers", "initContainers"):
        for one in good.get(kind, ()):
            one["image"] = "good:1"
    report(good)
    assert report(spec) == first


def test_a_mark_tells_all_but_the_texts_of_images() -> None:
    def spec(image: Any) -> dict[str, Any]:
        return {"containers": [{"name": "web", "image": image}]}

    assert mark_but_images(spec("web:1")) == mark_but_images(spec("web:2"))
    others = [
        spec(""),
        spec(None),
        spec(1),
        spec(True),
        {"containers": [{"name": "web"}]},
        {"containers": None},
        {},
    ]
    marks = {mark_but_images(each) for each in [spec("web:1"), *others]}
    assert len(marks) == len(others) + 1


def test_a_document_that_brings_another_field_is_merged_anew() -> None:
    live = {"containers": [{"name": "web", "image": "web:1", "imagePullPolicy": "Always"}]}
    doc = {"containers": [{"name": "web", "image": "web:2"}]}
    assert SERIES.merge(live, doc)["containers"][0] == {
        "name": "web",
        "image": "web:2",
        "imagePullPolicy": "Always",
    }
    doc["containers"][0]["tty"] = True
    assert SERIES.merge(live, doc)["containers"][0]["tty"] is True
    assert "tty" not in live["containers"][0]

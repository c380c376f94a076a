"""The type of pod specs: what is known of one is known of the next of its series (:mod:`bamikube.api.series`).

What a spec states does not depend on its images. And when a document has said nothing new to a spec but its images, the
next pair that differs from this one in images only is merged by setting those::

    live A + document a -> A with other images      remembered: A and a are alike
    live A'+ document a'                            A' with the images of a', without looking at anything else
"""

from __future__ import annotations

from typing import Any

from bamikube.api.fields.sets import FieldSet
from bamikube.api.fields.types import Map
from bamikube.api.series import KINDS, mark_but_images

REMEMBERED = 256

# For one list of containers: its name, and which element of the live spec is which one of the document.
Places = list[tuple[str, list[tuple[int, int]]]]


class PodSpecs(Map):
    """A struct of which a series is remembered."""

    def __init__(self, like: Map) -> None:
        super().__init__(like.rest, like.fields, nulls=like.nulls)
        self._states: dict[bytes, FieldSet] = {}
        self._alike: dict[tuple[bytes, bytes], Places] = {}

    def stated(self, value: Any) -> FieldSet:
        mark = mark_but_images(value) if type(value) is dict else b""
        known = self._states.get(mark)
        if known is None:
            known = super().stated(value)
            if mark:
                _keep(self._states, mark, known)
        return known

    def merge(self, live: Any, doc: Any) -> Any:
        if type(live) is not dict or type(doc) is not dict:
            return doc
        pair = (mark_but_images(live), mark_but_images(doc))
        places = self._alike.get(pair)
        if places is not None:
            return _with_images(live, doc, places)
        merged = super().merge(live, doc)
        if all(pair) and type(merged) is dict and mark_but_images(merged) == pair[0]:
            places = _places(live, doc)
            if places is not None:
                _keep(self._alike, pair, places)
        return merged


def _keep(memory: dict[Any, Any], key: Any, value: Any) -> None:
    if len(memory) >= REMEMBERED:
        del memory[next(iter(memory))]
    memory[key] = value


def _places(live: dict[str, Any], doc: dict[str, Any]) -> Places | None:
    """Where the containers with an image are; None when they cannot be told apart by their names."""
    found: Places = []
    for kind in KINDS:
        here, said = live.get(kind) or [], doc.get(kind) or []
        at = {each.get("name"): index for index, each in enumerate(here)}
        if len(at) < len(here) or len({each.get("name") for each in said}) < len(said):
            return None
        pairs = [(at[each.get("name")], index) for index, each in enumerate(said) if each.get("image")]
        if pairs:
            found.append((kind, pairs))
    return found


def _with_images(live: dict[str, Any], doc: dict[str, Any], places: Places) -> dict[str, Any]:
    """``live`` with the document's images: ``live`` itself when it has them."""
    result = live
    for kind, pairs in places:
        here, said = live[kind], doc[kind]
        changed: list[Any] | None = None
        for at, index in pairs:
            image = said[index]["image"]
            if here[at]["image"] != image:
                changed = list(here) if changed is None else changed
                changed[at] = {**here[at], "image": image}
        if changed is not None:
            result = dict(result) if result is live else result
            result[kind] = changed
    return result

"""Sets of field paths, in the very form in which ``fieldsV1`` is written.

A set is a tree of dictionaries; a key is one step of a path (:mod:`bamikube.api.fields.elements`). A step without
anything below it belongs to the set; a step with something below it belongs to it only when ``.`` is there too::

    {"f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}}}

holds two paths: the element ``.spec.ports[port=80,protocol="TCP"]`` itself, and its ``port``. It does not hold ``.spec``
or ``.spec.ports``. The root is no path: ``{}`` as a whole is the empty set.

So reading and writing ``managedFields`` costs nothing, and most sets of a write are never looked into: they are
compared, united and taken apart only where something changed. Sets are values: nothing here changes its arguments, and
results share parts with them.

Source: structured-merge-diff's ``fieldpath.Set`` and the API reference of ``FieldsV1``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import orjson

from bamikube.api.fields import elements

FieldSet = dict[str, Any]

SELF = "."
LEAF: FieldSet = {}  # one path and nothing below it; shared, never to be changed
EMPTY: FieldSet = {}

SERIAL = 64 * 1024  # bytes of a set that is worth remembering
MAX_DEPTH = 500

_NUMBERS = re.compile(rb'(?:\\":|"v:|"i:)[-\d]')


def is_member(node: FieldSet) -> bool:
    """Whether the path that leads to this node belongs to the set."""
    return not node or SELF in node


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """Paths of either set."""
    if not left or left is right:
        return right
    if not right:
        return left
    result = dict(left)
    for step, node in right.items():
        other = result.get(step)
        result[step] = node if other is None else _union(other, node)
    return result


def _union(left: FieldSet, right: FieldSet) -> FieldSet:
    if left is right or left == right:
        return left
    member = is_member(left) or is_member(right)
    result = dict(left)
    for step, node in right.items():
        other = result.get(step)
        result[step] = node if other is None or step == SELF else _union(other, node)
    if member:
        result[SELF] = LEAF
    return result


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """Paths of ``left`` that are not in ``right``; what lies below a path of ``right`` stays."""
    return _difference(left, right, deep=False)


def without_subtrees(left: FieldSet, right: FieldSet) -> FieldSet:
    """Paths of ``left`` that are neither in ``right`` nor below a path of ``right``."""
    return _difference(left, right, deep=True)


def _difference(left: FieldSet, right: FieldSet, deep: bool) -> FieldSet:
    if not left or not right:
        return left
    result: FieldSet = {}
    for step, node in left.items():
        if step == SELF:
            continue
        other = right.get(step)
        if other is None:
            result[step] = node
        elif (rest := _rest(node, other, deep)) is not None:
            result[step] = rest
    return result


def _rest(node: FieldSet, other: FieldSet, deep: bool) -> FieldSet | None:
    """What is left of a node; None when that is nothing."""
    taken = is_member(other)
    if taken and deep:
        return None
    below = _difference(node, other, deep)
    member = is_member(node) and not taken
    if not below:
        return LEAF if member else None
    if member:
        return {SELF: LEAF, **{step: each for step, each in below.items() if step != SELF}}
    if SELF in below:
        return {step: each for step, each in below.items() if step != SELF} or None
    return below


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """Paths of both sets."""
    result: FieldSet = {}
    for step, node in left.items():
        other = right.get(step)
        if other is None or step == SELF:
            continue
        below = intersection(node, other)
        if is_member(node) and is_member(other):
            result[step] = {SELF: LEAF, **below} if below else LEAF
        elif below:
            result[step] = below
    return result


def has(fields: FieldSet, path: tuple[str, ...]) -> bool:
    """Whether a path belongs to the set."""
    node: FieldSet | None = fields
    for step in path:
        node = node.get(step) if node is not None else None
    return bool(path) and node is not None and is_member(node)


def paths(fields: FieldSet, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of a set, in order: shorter ones first where one begins with the other."""
    for step in sorted((each for each in fields if each != SELF), key=elements.rank):
        node = fields[step]
        path = (*before, step)
        if is_member(node):
            yield path
        yield from paths(node, path)


def of_paths(*many: tuple[str, ...]) -> FieldSet:
    """The set of some paths, each a tuple of steps."""
    result: FieldSet = {}
    for path in many:
        one: FieldSet = LEAF
        for step in reversed(path):
            one = {step: one}
        result = union(result, one)
    return result


def ordered(fields: FieldSet) -> FieldSet:
    """A copy that shares nothing, its steps in Kubernetes' order: ``.``, fields, keys, values, indices."""
    text = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    # As text 443 comes before 80; where there are numbers, or indices, the order is made by hand.
    if _NUMBERS.search(text):
        text = _ranked_text(text) if len(text) <= SERIAL else orjson.dumps(_ranked(orjson.loads(text)))
    result: FieldSet = orjson.loads(text)
    return result


@functools.lru_cache(maxsize=512)
def _ranked_text(text: bytes) -> bytes:
    """The text in the right order. Objects come in series (the pods of a set), so the last ones are remembered."""
    return orjson.dumps(_ranked(orjson.loads(text)))


def _ranked(fields: FieldSet) -> FieldSet:
    return {step: _ranked(fields[step]) for step in sorted(fields, key=elements.rank)}


def canonical(raw: Any, depth: int = 0) -> FieldSet:
    """A set that somebody else has written, checked and put into our form. Raises ValueError."""
    if not isinstance(raw, dict):
        raise ValueError("fieldsV1 must be made of objects")
    if depth > MAX_DEPTH:
        raise ValueError("fieldsV1 is nested too deep")
    result: FieldSet = {}
    for step, node in raw.items():
        below = canonical(node, depth + 1)
        if step == SELF:
            if below:
                raise ValueError("fieldsV1: nothing may lie below .")
            if depth:
                result[SELF] = LEAF
            continue
        result[elements.canonical(step)] = below
    if len(result) == 1 and SELF in result:
        return {}
    return result

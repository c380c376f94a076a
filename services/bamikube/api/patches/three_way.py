"""The patch that leads from one document to another: client-side apply.

``apply`` remembers, in an annotation, the document applied last time. A new document is then compared with two others:

* what it says and the live object does not say like that -- set it;
* what the *last* document said and it no longer says -- remove it;
* everything else of the live object (defaults, status, what controllers and other people set) -- leave it alone.

>>> three_way({"a": 1, "b": 2}, {"a": 5}, {"a": 1, "b": 2, "c": 3})
{'a': 5, 'b': None}

With a ``definition`` the patch is a strategic merge patch: lists with a merge key are compared element by element,
and the order of elements is sent along. Without one it is a plain merge patch, for custom resources.
The patch is empty when nothing is to be done.
"""

from __future__ import annotations

from typing import Any

from bamikube.api.patches.errors import MAX_DEPTH, PatchError, too_deep
from bamikube.api.patches.strategic import (
    DELETE_FROM,
    ELEMENT_ORDER,
    PATCH,
    RETAIN_KEYS,
    Lookup,
    Map,
    Property,
    below,
    identity,
    strategies,
)


def _no_schema(definition: str, field: str) -> Property | None:
    return None


def three_way(
    original: Map | None, modified: Map, current: Map, definition: str = "", lookup: Lookup = _no_schema
) -> Map:
    """The patch for ``current`` (live) so that it follows ``modified``; ``original`` is the last applied document.

    Raises :class:`PatchError` when a list element lacks its merge key.
    """
    return _map(original or {}, modified, current, definition, lookup, 0)


def two_way(original: Map, modified: Map, definition: str = "", lookup: Lookup = _no_schema) -> Map:
    """The patch that turns ``original`` into ``modified``: what ``modified`` does not say goes."""
    return _map(original, modified, original, definition, lookup, 0)


def _map(
    original: Map,
    modified: Map,
    current: Map,
    definition: str,
    lookup: Lookup,
    depth: int,
    values_of: str = "",
) -> Map:
    if depth > MAX_DEPTH:
        raise too_deep()
    patch: Map = {}
    for key, wanted in modified.items():
        if wanted is None:
            if current.get(key) is not None:
                patch[key] = None
            continue
        present = current.get(key)
        found = None if values_of else lookup(definition, key)
        if isinstance(wanted, dict) and isinstance(present, dict):
            last = original.get(key)
            last = last if isinstance(last, dict) else {}
            patch |= _inner(key, last, wanted, present, found, values_of, lookup, depth)
        elif isinstance(wanted, list) and isinstance(present, list) and "merge" in strategies(found):
            last = original.get(key)
            patch |= _list(key, last if isinstance(last, list) else [], wanted, present, found, lookup, depth)
        elif identity(wanted) != identity(present) and not _equal(wanted, present):
            patch[key] = wanted
    for key in original:
        if key not in modified and current.get(key) is not None:
            patch[key] = None
    return patch


def _equal(one: Any, two: Any) -> bool:
    """Equal as JSON: numbers by value, but true is not 1."""
    if isinstance(one, bool) or isinstance(two, bool):
        return one is two
    return bool(one == two)


def _inner(
    key: str,
    last: Map,
    wanted: Map,
    present: Map,
    found: Property | None,
    values_of: str,
    lookup: Lookup,
    depth: int,
) -> Map:
    if "replace" in strategies(found):
        return {} if wanted == present else {key: wanted}
    if values_of:
        inner = _map(last, wanted, present, values_of, lookup, depth + 1)
    elif found and found.items_ref and not found.ref:
        inner = _map(last, wanted, present, "", lookup, depth + 1, values_of=found.items_ref)
    else:
        inner = _map(last, wanted, present, found.ref if found else "", lookup, depth + 1)
    if inner and "retainKeys" in strategies(found):
        inner[RETAIN_KEYS] = sorted(name for name, value in wanted.items() if value is not None)
    return {key: inner} if inner else {}


def _list(
    key: str,
    last: list[Any],
    wanted: list[Any],
    present: list[Any],
    found: Property | None,
    lookup: Lookup,
    depth: int,
) -> Map:
    merge_key = found.patch_merge_key if found else ""
    if not merge_key or not all(isinstance(item, dict) for item in [*last, *wanted, *present]):
        return _values(key, last, wanted, present)
    mine, live, before = (_by_key(items, merge_key) for items in (wanted, present, last))
    if len(mine) != len(wanted) or len(live) != len(present):
        return _whole(key, wanted, present)
    changes: list[Map] = []
    for name, item in mine.items():
        if name not in live:
            changes.append(item)
            continue
        inner = _map(before.get(name, {}), item, live[name], below(found), lookup, depth + 1)
        if inner:
            changes.append({merge_key: item[merge_key], **inner})
    changes += [
        {PATCH: "delete", merge_key: before[name][merge_key]}
        for name in before
        if name not in mine and name in live
    ]
    order_of_live = [name for name in live if name in mine]
    if not changes and order_of_live == list(mine):
        return {}
    patch: Map = {ELEMENT_ORDER + key: [{merge_key: item[merge_key]} for item in wanted]}
    if changes:
        patch[key] = changes
    if changes and "retainKeys" in strategies(found):
        patch[key] = [_retain(change, mine, merge_key) for change in changes]
    return patch


def _by_key(items: list[Map], merge_key: str) -> dict[Any, Map]:
    found: dict[Any, Map] = {}
    for item in items:
        if merge_key not in item:
            raise PatchError(
                f"map: {item!r:.200} does not contain declared merge key: {merge_key}", malformed=True
            )
        found[identity(item[merge_key])] = item
    return found


def _retain(change: Map, mine: dict[Any, Map], merge_key: str) -> Map:
    """An element that is a union (a volume) names the keys it means to have, so that the old source goes."""
    if PATCH in change:
        return change
    item = mine[identity(change[merge_key])]
    return {**change, RETAIN_KEYS: sorted(name for name, value in item.items() if value is not None)}


def _whole(key: str, wanted: list[Map], present: list[Map]) -> Map:
    """Lists with repeated merge keys (a port over TCP and UDP) cannot be merged; replace them unless they agree."""
    if len(wanted) == len(present) and all(map(_contains, present, wanted)):
        return {}
    return {key: [{PATCH: "replace"}, *wanted]}


def _contains(present: Any, wanted: Any) -> bool:
    """Whether the live value says all that is wanted; more is fine."""
    if isinstance(present, dict) and isinstance(wanted, dict):
        return all(name in present and _contains(present[name], value) for name, value in wanted.items())
    return _equal(present, wanted)


def _values(key: str, last: list[Any], wanted: list[Any], present: list[Any]) -> Map:
    """A list of plain values that merges as a set: finalizers."""
    add = [value for value in wanted if value not in present]
    drop = [value for value in last if value not in wanted and value in present]
    if not add and not drop and [value for value in present if value in wanted] == wanted:
        return {}
    patch: Map = {ELEMENT_ORDER + key: wanted}
    if add:
        patch[key] = add
    if drop:
        patch[DELETE_FROM + key] = drop
    return patch

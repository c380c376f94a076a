"""Strategic merge patch: a merge patch that knows which lists are sets and which are tables.

A plain merge patch replaces lists whole. Kubernetes' schemas say of many lists how they merge, and by which key, so
that a patch may name one container and leave the others alone::

    containers: [{name: web, image: a}, {name: log, image: b}]       the object
    containers: [{name: web, image: c}]                              the patch (merge key: name)
    containers: [{name: web, image: c}, {name: log, image: b}]       the result

Elements that only the patch has come *before* those that only the object has, as in Kubernetes.

Directives in the patch say what data cannot:

``$patch: replace``                 (in a map) take the patch's map as it is; (as a list element) the patch's list
``$patch: delete``                  (in a map) empty it; (in a list element, beside the merge key) drop that element
``$retainKeys: [a, b]``             drop all other keys of this map (unions: a volume has one source)
``$deleteFromPrimitiveList/x: [v]`` drop values from the list ``x`` of plain values
``$setElementOrder/x: [...]``       the order of the list ``x``; elements only the object has keep their places between

Fields unknown to the schema merge as in a plain merge patch. Source: the documents *strategic-merge-patch* of the
Kubernetes community and the behaviour of ``k8s.io/apimachinery/pkg/util/strategicpatch``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from bamikube.api.gojson import go_map
from bamikube.api.patches.errors import MAX_DEPTH, PatchError, no_object, too_deep

DELETE_FROM = "$deleteFromPrimitiveList/"
ELEMENT_ORDER = "$setElementOrder/"
RETAIN_KEYS = "$retainKeys"
PATCH = "$patch"

Map = dict[str, Any]


class Property(Protocol):
    """What the schema knows about a field (see ``bamikube.api.schema.Property``)."""

    @property
    def type(self) -> str: ...
    @property
    def ref(self) -> str: ...
    @property
    def items_ref(self) -> str: ...
    @property
    def patch_strategy(self) -> str: ...
    @property
    def patch_merge_key(self) -> str: ...


# Definition and field to the property; None for what the schema does not know.
Lookup = Callable[[str, str], Property | None]


def strategic_merge_patch(doc: Map, patch: Any, definition: str, lookup: Lookup) -> Map:
    """``doc`` with ``patch`` merged into it, by the rules of ``definition``.

    Raises :class:`PatchError`.
    """
    if not isinstance(patch, dict):
        raise no_object(patch)
    return _merge_map(doc, patch, definition, lookup, 0)


def strategies(found: Property | None) -> tuple[str, ...]:
    """The declared strategies: any of merge, replace and retainKeys."""
    return tuple(found.patch_strategy.split(",")) if found and found.patch_strategy else ()


def below(found: Property | None) -> str:
    """The definition of what is inside a field: of the object itself, or of a list's elements or a map's values."""
    return (found.ref or found.items_ref) if found else ""


def _merge_map(
    original: Any, patch: Map, definition: str, lookup: Lookup, depth: int, values_of: str = ""
) -> Map:
    """One object. ``values_of`` is the definition of the values when this is a map and not a struct."""
    if depth > MAX_DEPTH:
        raise too_deep()
    if PATCH in patch:
        return _directive(patch, depth)
    result: Map = dict(original) if isinstance(original, dict) else {}
    patch = dict(patch)
    _retain(result, patch)
    _ordered_lists(result, patch, definition, lookup, depth)
    for key, value in patch.items():
        if key.startswith(DELETE_FROM):
            _delete_values(result, key.removeprefix(DELETE_FROM), value)
            continue
        if value is None:
            result.pop(key, None)
            continue
        found = None if values_of else lookup(definition, key)
        present = result.get(key)
        if isinstance(value, dict) and isinstance(present, dict):
            result[key] = _merge_value(present, value, found, values_of, lookup, depth)
        elif isinstance(value, list) and isinstance(present, list) and "merge" in strategies(found):
            result[key] = _merge_list(present, value, found, lookup, depth)
        else:
            result[key] = plain(value, depth + 1)
    return result


def _merge_value(
    present: Map, value: Map, found: Property | None, values_of: str, lookup: Lookup, depth: int
) -> Map:
    if "replace" in strategies(found):
        replaced: Map = plain(value, depth + 1)
        return replaced
    if values_of:
        return _merge_map(present, value, values_of, lookup, depth + 1)
    if found and found.items_ref and not found.ref:
        return _merge_map(present, value, "", lookup, depth + 1, values_of=found.items_ref)
    return _merge_map(present, value, found.ref if found else "", lookup, depth + 1)


def _directive(patch: Map, depth: int) -> Map:
    match patch[PATCH]:
        case "replace":
            rest = {key: value for key, value in patch.items() if key != PATCH}
            replaced: Map = plain(rest, depth + 1)
            return replaced
        case "delete":
            return {}
        case other:
            raise PatchError(f"unknown patch type: {other} in map: {_short(patch)}", malformed=True)


def _retain(result: Map, patch: Map) -> None:
    """Carry out ``$retainKeys``: keys not named go."""
    if RETAIN_KEYS not in patch:
        return
    keys = patch.pop(RETAIN_KEYS)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise PatchError("invalid patch format of retainKeys", malformed=True)
    retained = set(keys)
    for key, value in patch.items():
        if value is not None and not key.startswith((DELETE_FROM, ELEMENT_ORDER)) and key not in retained:
            raise PatchError("invalid patch format of retainKeys", malformed=True)
    for key in list(result):
        if key not in retained:
            del result[key]


def _delete_values(result: Map, key: str, values: Any) -> None:
    if not isinstance(values, list):
        raise PatchError("invalid patch format of primitive list", malformed=True)
    if isinstance(result.get(key), list):
        result[key] = [value for value in result[key] if value not in values]


# --- lists ---------------------------------------------------------------------------------------------------------


def _merge_list(
    present: list[Any], patch: list[Any], found: Property | None, lookup: Lookup, depth: int
) -> list[Any]:
    if not present and not patch:
        return present
    key = found.patch_merge_key if found else ""
    if not any(isinstance(item, dict) for item in [*present, *patch]):
        return order(_unique([*present, *patch]), patch, present, "")
    if not key:
        raise PatchError("cannot merge lists without merge key", malformed=True)
    merged, patch = _carry_out_elements(list(present), patch, key)
    places = {identity(item.get(key)): index for index, item in enumerate(merged) if isinstance(item, dict)}
    for item in patch:
        place = places.get(identity(item[key]))
        if place is None:
            places[identity(item[key])] = len(merged)
            merged.append(plain(item, depth + 1))
        else:
            merged[place] = _merge_map(merged[place], item, below(found), lookup, depth + 1)
    return order(merged, patch, present, key)


def _carry_out_elements(merged: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """Do what elements with ``$patch`` say; the list to merge into, and the elements left to merge."""
    rest: list[Any] = []
    replace = False
    for item in patch:
        if not isinstance(item, dict):
            raise PatchError("a patch's list mixes objects and plain values", malformed=True)
        directive = item.get(PATCH)
        if directive is None:
            if key not in item:
                raise PatchError(
                    f"map: {_short(item)} does not contain declared merge key: {key}", malformed=True
                )
            rest.append(item)
        elif directive == "delete":
            if key not in item:
                raise PatchError(
                    f"map: {_short(item)} does not contain declared merge key: {key}", malformed=True
                )
            merged = [one for one in merged if not (isinstance(one, dict) and one.get(key) == item[key])]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise PatchError("merging lists cannot yet be specified in the patch", malformed=True)
        else:
            raise PatchError(f"unknown patch type: {directive} in map: {_short(item)}", malformed=True)
    # A replacing list is taken as it is, even where it repeats a merge key.
    return (plain(rest, 0), []) if replace else (merged, rest)


def _ordered_lists(result: Map, patch: Map, definition: str, lookup: Lookup, depth: int) -> None:
    """Merge the lists that come with ``$setElementOrder``, and put them into that order."""
    for directive in [key for key in patch if key.startswith(ELEMENT_ORDER)]:
        wanted = patch.pop(directive)
        name = directive.removeprefix(ELEMENT_ORDER)
        if not isinstance(wanted, list):
            raise PatchError("invalid patch format of setElementOrder list", malformed=True)
        found = lookup(definition, name)
        key = found.patch_merge_key if found else ""
        present, changes = result.get(name), patch.get(name)
        if isinstance(changes, list):
            _check_order(changes, wanted, key, directive)
        if name in patch and changes is None:
            continue  # the list itself goes; that is no business of its order
        if changes is not None:
            del patch[name]
        if isinstance(present, list) and isinstance(changes, list) and "merge" in strategies(found):
            merged = _merge_list(present, changes, found, lookup, depth)
        elif isinstance(changes, list):
            merged = plain(changes, depth + 1)
        elif isinstance(present, list):
            merged = present
        else:
            continue
        result[name] = order(merged, wanted, present if isinstance(present, list) else [], key)


def _check_order(changes: list[Any], wanted: list[Any], key: str, directive: str) -> None:
    """The elements of a patch's list must appear in its ``$setElementOrder`` list, in the same order."""
    kept = [item for item in changes if not (isinstance(item, dict) and PATCH in item)]
    positions = iter([_element(item, key) for item in wanted])
    for item in kept:
        if not any(position == _element(item, key) for position in positions):
            raise PatchError(
                f"The order in patch list:\n{_short(kept)}\n doesn't match {ELEMENT_ORDER.rstrip('/')} list:\n"
                f"{_short(wanted)}\n",
                malformed=True,
            )


def _element(item: Any, key: str) -> Any:
    return identity(item.get(key)) if isinstance(item, dict) else identity(item)


def identity(value: Any) -> Any:
    """Something hashable that is equal for equal JSON values only (``1`` and ``true`` differ)."""
    return (type(value).__name__, value) if not isinstance(value, dict | list) else ("json", repr(value))


def order(merged: list[Any], wanted: Sequence[Any], present: Sequence[Any], key: str) -> list[Any]:
    """``merged`` in the ``wanted`` order; elements it does not name keep their place among the ``present`` ones.

    Worked example: present ``a x b``, wanted ``b a``. ``x`` is not named, so the named ones become ``b a``, and ``x``
    goes in before the first of them that stood behind it: ``x b a``.
    """
    rank = {_element(item, key): index for index, item in reversed(list(enumerate(wanted)))}
    place = {_element(item, key): index for index, item in reversed(list(enumerate(present)))}
    named = sorted(
        (item for item in merged if _element(item, key) in rank), key=lambda item: rank[_element(item, key)]
    )
    others = sorted(
        (item for item in merged if _element(item, key) not in rank),
        key=lambda item: place.get(_element(item, key), len(place)),
    )
    result: list[Any] = []
    left, right = 0, 0
    while left < len(others) and right < len(named):
        mine, theirs = place.get(_element(others[left], key)), place.get(_element(named[right], key))
        if mine is not None and theirs is not None and mine < theirs:
            result.append(others[left])
            left += 1
        else:
            result.append(named[right])
            right += 1
    return [*result, *others[left:], *named[right:]]


def _unique(values: list[Any]) -> list[Any]:
    first: dict[Any, Any] = {}
    for value in values:
        first.setdefault(identity(value), value)
    return list(first.values())


def plain(value: Any, depth: int) -> Any:
    """A patch's value as data: without directives and without nulls, for places where there was nothing."""
    if depth > MAX_DEPTH:
        raise too_deep()
    if isinstance(value, dict):
        return {
            key: plain(inner, depth + 1)
            for key, inner in value.items()
            if inner is not None
            and key not in (PATCH, RETAIN_KEYS)
            and not key.startswith((DELETE_FROM, ELEMENT_ORDER))
        }
    if isinstance(value, list):
        return [plain(inner, depth + 1) for inner in value if not _is_directive(inner)]
    return value


def _is_directive(item: Any) -> bool:
    return isinstance(item, dict) and (item.get(PATCH) == "delete" or item == {PATCH: "replace"})


def _short(value: Any) -> str:
    text = go_map(value)
    return text if len(text) <= 200 else text[:200] + "..."

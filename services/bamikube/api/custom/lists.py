"""Lists that are sets, and lists that are maps: no element, no key may come twice.

Source: Kubernetes' "Server-Side Apply", merge strategy markers, and ``schema/listtype`` (behaviour). A compiled check
is given the value and its path and returns what is wrong; None when a schema has no such lists.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from bamikube.api.errors import Cause
from bamikube.api.validation.rules import duplicate, invalid

Schema = dict[str, Any]
Check = Callable[[Any, str], list[Cause]]


def compiled(schema: Schema) -> Check | None:
    """The check of a structural schema."""
    if schema.get("type") == "array":
        return _list(schema)
    properties = {
        name: found
        for name, each in (schema.get("properties") or {}).items()
        if (found := compiled(each)) is not None
    }
    extra = schema.get("additionalProperties")
    others = compiled(extra) if isinstance(extra, dict) else None
    if not properties and others is None:
        return None

    def check(value: Any, path: str) -> list[Cause]:
        if type(value) is not dict:
            return []
        causes: list[Cause] = []
        if others is not None:
            for name, each in value.items():
                causes += others(each, f"{path}[{name}]")
            return causes
        for name, inner in properties.items():
            if name in value:
                causes += inner(value[name], f"{path}.{name}" if path else name)
        return causes

    return check


def _list(schema: Schema) -> Check | None:
    items = schema.get("items")
    inner = compiled(items) if isinstance(items, dict) else None
    kind = schema.get("x-kubernetes-list-type")
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    if inner is None and kind not in ("set", "map"):
        return None

    def check(value: Any, path: str) -> list[Cause]:
        if type(value) is not list:
            return []
        causes: list[Cause] = []
        if kind == "map":
            causes += _map(value, path, keys)
        elif kind == "set":
            causes += _repeated(value, path)
        if inner is not None:
            for index, each in enumerate(value):
                causes += inner(each, f"{path}[{index}]")
        return causes

    return check


def _map(value: list[Any], path: str, keys: tuple[str, ...]) -> list[Cause]:
    for index, each in enumerate(value):
        if each is not None and not isinstance(each, dict):
            text = "must be an object for an array of list-type map"
            return [invalid(f"{path}[{index}]", each, text)]
    return _repeated(
        [{key: each[key] for key in keys if key in each} if each else {} for each in value], path
    )


def _repeated(value: list[Any], path: str) -> list[Cause]:
    """Every value that comes again, named at its second place."""
    seen: dict[bytes, int] = {}
    causes: list[Cause] = []
    for index, each in enumerate(value):
        text = orjson.dumps(each, option=orjson.OPT_SORT_KEYS)
        seen[text] = seen.get(text, 0) + 1
        if seen[text] == 2:
            causes.append(duplicate(f"{path}[{index}]", each))
    return causes

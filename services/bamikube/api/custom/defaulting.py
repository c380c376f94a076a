"""Defaulting: values that the schema gives to fields nobody set, and what becomes of ``null``.

A ``null`` in a field that is not nullable means "not given": it makes room for the default, or goes when there is
none. Defaults of a default's own fields are filled in, too, since a filled-in object is visited like any other.

Worked example: with ``a: {default: 1}, b: {nullable: true}, c: {}`` the object ``{"a": null, "b": null, "c": null}``
becomes ``{"a": 1, "b": null}``.

A compiled defaulter works in place and says whether it changed anything; objects that come out of the store are
looked at with the same closures. Source: Kubernetes' CustomResourceDefinition page, "Defaulting and Nullable".
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]
Defaulter = Callable[[Any], bool]


def defaulter(schema: Schema) -> Defaulter | None:
    """The defaulter of a structural schema; None when there is nothing it could ever do."""
    if schema.get("type") == "array":
        return _list(schema)
    if schema.get("properties") or isinstance(schema.get("additionalProperties"), dict):
        return _object(schema)
    return None


def _list(schema: Schema) -> Defaulter | None:
    items = schema.get("items")
    inner = defaulter(items) if isinstance(items, dict) else None
    if inner is None:
        return None

    def fill(value: Any) -> bool:
        if type(value) is not list:
            return False
        changed = False
        for each in value:
            changed = inner(each) or changed
        return changed

    return fill


def _object(schema: Schema) -> Defaulter:
    properties: dict[str, Schema] = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    defaults = [(name, each["default"]) for name, each in properties.items() if "default" in each]
    nullable = {name for name, each in properties.items() if each.get("nullable")}
    inner = {name: found for name, each in properties.items() if (found := defaulter(each)) is not None}
    others = defaulter(extra) if isinstance(extra, dict) else None
    drops_others = isinstance(extra, dict) and not extra.get("nullable")

    def fill(value: Any) -> bool:
        if type(value) is not dict:
            return False
        changed = False
        if None in value.values():
            for name in [name for name, each in value.items() if each is None]:
                if (name in properties and name not in nullable) or (name not in properties and drops_others):
                    del value[name]
                    changed = True
        for name, default in defaults:
            if name not in value:
                value[name] = copy.deepcopy(default) if isinstance(default, (dict, list)) else default
                changed = True
        if others is not None:
            for name, each in value.items():
                within = inner.get(name) if name in properties else others
                if within is not None:
                    changed = within(each) or changed
            return changed
        for name, within in inner.items():
            each = value.get(name)
            if each is not None:
                changed = within(each) or changed
        return changed

    return fill

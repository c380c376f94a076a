"""Structural schemas as types, sizes and values of CEL.

:func:`declare` gives what an expression may know of a schema: a :class:`Decl`, with the type for the checker and, for
the cost estimate, how large a value may be at most. :func:`converter` gives the function that turns JSON into the
values of those types; most JSON is its own value, and then there is nothing to convert and the function is None::

    {type: number}                    1 becomes 1.0
    {type: string, format: date-time} a timestamp
    {type: string, format: byte}      bytes
    {x-kubernetes-list-type: set}     a list that is equal whatever the order

Sizes that a schema does not bound follow from the largest request: 3 MiB cannot hold more than so many elements of at
least so many characters each.

Source: KEP-2876 ("Type integration", "Resource constraints").
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bamikube.api.cel import moments
from bamikube.api.cel.environment import ObjectType
from bamikube.api.cel.names import escape
from bamikube.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    CelError,
    MapList,
    SetList,
    Type,
    list_of,
    map_of,
)

Schema = dict[str, Any]
LARGEST_REQUEST = 3 * 1024 * 1024

# format of a string: its type, the least characters it takes in JSON, and how long it may be
_FORMATS: dict[str, tuple[Type, int, int]] = {
    "byte": (BYTES, 2, LARGEST_REQUEST - 2),
    "duration": (DURATION, 5, 32),
    "date": (TIMESTAMP, 12, 12),
    "date-time": (TIMESTAMP, 21, 37),
}
_METADATA: Schema = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}},
}


@dataclass(slots=True)
class Decl:
    """``most``: elements, entries or characters at most. ``least``: characters of JSON that a value takes at least."""

    type: Type
    most: int = 1
    least: int = 1
    fields: dict[str, Decl] = field(default_factory=dict)
    item: Decl | None = None
    key: Decl | None = None

    def step(self, name: str) -> Decl | None:
        """The part that a path leads to: a field, ``@items``, ``@values`` or ``@keys``."""
        if name in ("@items", "@values"):
            return self.item
        return self.key if name == "@keys" else self.fields.get(name)


def rooted(schema: Schema) -> Schema:
    """The schema of a whole object: its type and the two names of its metadata are always there."""
    properties = {
        **(schema.get("properties") or {}),
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": _METADATA,
    }
    return {**schema, "type": schema.get("type") or "object", "properties": properties}


def declare(schema: Schema, name: str, root: bool = False) -> Decl | None:
    """What expressions may know of values of ``schema``; None when nothing. ``name`` names its object types."""
    if schema.get("x-kubernetes-int-or-string"):
        return Decl(DYN, LARGEST_REQUEST - 2, 1)
    if root or schema.get("x-kubernetes-embedded-resource"):
        schema = rooted(schema)
    match schema.get("type"):
        case "array":
            item = declare(schema["items"], f"{name}_items") if schema.get("items") else None
            if item is None:
                return None
            most = schema.get("maxItems")
            bound = (LARGEST_REQUEST - 2) // (item.least + 1) if most is None else max(0, int(most))
            return Decl(list_of(item.type), bound, 2, item=item)
        case "object":
            return _declare_object(schema, name)
        case "string":
            return _declare_string(schema)
        case "boolean":
            return Decl(BOOL, 1, 4)
        case "number":
            return Decl(DOUBLE)
        case "integer":
            return Decl(INT)
    return None


def _declare_object(schema: Schema, name: str) -> Decl | None:
    inner = schema.get("additionalProperties")
    if isinstance(inner, dict):
        item = declare(inner, f"{name}_values")
        if item is None:
            return None
        most = schema.get("maxProperties")
        bound = (LARGEST_REQUEST - 2) // (item.least + 6) if most is None else max(0, int(most))
        key = Decl(STRING, LARGEST_REQUEST - 2, 2)
        return Decl(map_of(STRING, item.type), bound, 2, item=item, key=key)
    declared = Decl(Type("object", (), name), 1, 2)
    required = frozenset(schema.get("required") or ())
    for prop, part in (schema.get("properties") or {}).items():
        identifier = escape(prop)
        decl = declare(part, f"{name}_{identifier or 'x'}")
        if decl is None:
            continue
        if identifier is not None:
            declared.fields[identifier] = decl
        if prop in required and "default" not in part:
            declared.least += len(prop) + decl.least + 4
    declared.most = max(1, len(declared.fields))
    return declared


def _declare_string(schema: Schema) -> Decl:
    form, longest = schema.get("format"), schema.get("maxLength")
    if form in _FORMATS:
        kind, least, most = _FORMATS[form]
        return Decl(kind, max(0, int(longest)) if form == "byte" and longest is not None else most, least)
    if longest is not None:
        return Decl(STRING, max(0, int(longest)) * 4, 2)  # a character takes up to four bytes
    words = [len(word.encode()) for word in schema.get("enum") or () if isinstance(word, str)]
    return Decl(STRING, max(words) if words else LARGEST_REQUEST - 2, 2)


def object_types(*decls: Decl) -> tuple[ObjectType, ...]:
    """Every object type in ``decls``, once."""
    found: dict[str, ObjectType] = {}
    waiting = list(decls)
    while waiting:
        decl = waiting.pop()
        if decl.type.kind == "object" and decl.type.name not in found:
            found[decl.type.name] = ObjectType(
                decl.type.name, {name: part.type for name, part in decl.fields.items()}
            )
        waiting.extend(decl.fields.values())
        if decl.item is not None:
            waiting.append(decl.item)
    return tuple(found.values())


# -- values ----------------------------------------------------------------------------------------------------------

Converter = Callable[[Any], Any]


def converter(schema: Schema) -> Converter | None:
    """From JSON to values; None when they are the same. The function raises CelError for texts of a wrong format."""
    if schema.get("x-kubernetes-int-or-string"):
        return None
    match schema.get("type"):
        case "number":
            return lambda value: float(value) if type(value) is int else value
        case "string":
            return _TEXTS.get(str(schema.get("format")))
        case "array":
            return _list(schema)
        case "object":
            return _object(schema)
    return None


def _list(schema: Schema) -> Converter | None:
    item = converter(schema["items"]) if schema.get("items") else None
    kind = schema.get("x-kubernetes-list-type")
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    if item is None and kind not in ("set", "map"):
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        items = value if item is None else [item(each) for each in value]
        if kind == "set":
            return SetList(items)
        return MapList(items, keys) if kind == "map" else items

    return convert


def _object(schema: Schema) -> Converter | None:
    inner = schema.get("additionalProperties")
    if isinstance(inner, dict):
        item = converter(inner)
        if item is None:
            return None
        each = item
        return lambda value: (
            {name: each(part) for name, part in value.items()} if isinstance(value, dict) else value
        )
    parts = {
        name: convert
        for name, convert in (
            (name, converter(part)) for name, part in (schema.get("properties") or {}).items()
        )
        if convert is not None
    }
    if not parts:
        return None

    def convert_object(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        made = dict(value)
        for name, convert in parts.items():
            if name in made:
                made[name] = convert(made[name])
        return made

    return convert_object


def _bytes(value: Any) -> Any:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else value
    except (binascii.Error, ValueError):
        raise CelError("illegal base64 data") from None


def _date(value: Any) -> Any:
    return moments.parse_timestamp(f"{value}T00:00:00Z") if isinstance(value, str) else value


_TEXTS: dict[str, Converter] = {
    "byte": _bytes,
    "date": _date,
    "date-time": lambda value: moments.parse_timestamp(value) if isinstance(value, str) else value,
    "duration": lambda value: moments.parse_duration(value) if isinstance(value, str) else value,
}

"""Types made from OpenAPI schemas, those of the built-in kinds and any others with the same extensions.

What decides how a value is owned:

- ``x-kubernetes-list-type``: ``map`` (with ``x-kubernetes-list-map-keys``), ``set`` or ``atomic``; without it, a list with the
  patch strategy ``merge`` is a map by its merge key (or a set), and any other is atomic;
- ``x-kubernetes-map-type: atomic`` on a field or on the definition it refers to;
- ``x-kubernetes-preserve-unknown-fields``: what the schema does not name is of a :class:`Deduced` type;
- ``x-kubernetes-int-or-string``, quantities, times: scalars.

``type_of`` takes any schema (a CustomResourceDefinition's structural schema has no references and needs no resolver);
``object_type`` is the type of whole objects: their metadata is ObjectMeta, whatever the schema says.
"""

from __future__ import annotations

import functools
from typing import Any

from bamikube.api.fields.lists import ListMap, ListSet
from bamikube.api.fields.presence import KEY_DEFAULTS, UNTRACKED
from bamikube.api.fields.series import PodSpecs
from bamikube.api.fields.types import Deduced, Deferred, Faults, Field, Map, Object, Type
from bamikube.api.omitted import left_out
from bamikube.api.schema.source import INT_OR_STRING, MICRO_TIME, QUANTITY, REF, TIME, definition
from bamikube.api.schema.written import zeros
from bamikube.api.series import POD_SPEC

_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_SCALARS = {"string": "string", "integer": "numeric", "number": "numeric", "boolean": "boolean"}
_SPECIAL = {INT_OR_STRING: "scalar", QUANTITY: "scalar", TIME: "string", MICRO_TIME: "string"}
_DEDUCED = Deduced()

Schema = dict[str, Any]


def type_of(schema: Schema, name: str = "") -> Type:
    """The type of a schema; ``name`` is the definition's, where it has one."""
    ref = schema.get("$ref")
    if ref:
        return _referred(str(ref).removeprefix(REF), schema)
    if schema.get("x-kubernetes-int-or-string"):
        return Type("scalar")
    kind = schema.get("type")
    if kind == "array":
        return _list(schema)
    if kind == "object" or "properties" in schema:
        return _object(schema, name)
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return _DEDUCED
    return Type(_SCALARS.get(str(kind), ""))


def _referred(name: str, schema: Schema) -> Type:
    special = _SPECIAL.get(name)
    if special is not None:
        return Type(special)
    inner = definition(name)
    if _atomic(schema) or _atomic(inner):
        return _object(inner, name, atomic=True)
    if "properties" not in inner:
        return type_of(inner, name)
    return Deferred(functools.partial(_defined, name))


@functools.cache
def _defined(name: str) -> Type:
    made = type_of(definition(name), name)
    return PodSpecs(made) if name == POD_SPEC and isinstance(made, Map) else made


def _atomic(schema: Schema) -> bool:
    return schema.get("x-kubernetes-map-type") == "atomic"


def _object(schema: Schema, name: str, atomic: bool = False) -> Type:
    open_ended = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    inner = schema.get("additionalProperties")
    if "properties" not in schema and not isinstance(inner, dict):
        if atomic or _atomic(schema) or not open_ended:
            return Type("map" if "type" in schema else "")
        return _DEDUCED
    made = Map(
        _DEDUCED if open_ended else type_of(inner) if isinstance(inner, dict) else None,
        _fields(schema, name),
        nulls=not name,
    )
    return Atomic(made) if atomic or _atomic(schema) else made


class Atomic(Type):
    """A map or list that is owned as a whole; what is inside is still checked."""

    def __init__(self, inner: Type) -> None:
        super().__init__(inner.expects)
        self._inner = inner

    def check(self, value: Any) -> Faults | None:
        return self._inner.check(value)


class _Plain(Type):
    """The elements of an atomic list, by position; only ever checked."""

    def __init__(self, items: Type) -> None:
        super().__init__("list")
        self._items = items

    def check(self, value: Any) -> Faults | None:
        faults = super().check(value)
        if faults or value is None:
            return faults
        faults = []
        for index, item in enumerate(value):
            if found := self._items.check(item):
                faults += [(f"[{index}]{path}", what) for path, what in found]
        return faults or None


def _fields(schema: Schema, name: str) -> dict[str, Field]:
    always = {*schema.get("required", ()), *zeros(name), "metadata"}
    embedded = schema.get("x-kubernetes-embedded-resource")
    fields = {
        field: Field(
            f"f:{field}",
            type_of(inner),
            field in always,
            silent=field not in always and _silent(name, field, inner),
        )
        for field, inner in schema.get("properties", {}).items()
    }
    if embedded:
        fields["apiVersion"] = Field("f:apiVersion", Type("string"))
        fields["kind"] = Field("f:kind", Type("string"))
        fields["metadata"] = Field("f:metadata", _defined(_META), True)
    return fields


def _silent(name: str, field: str, schema: Schema) -> bool:
    return bool(name) and left_out(name, field, schema) in (str, bool, int)


def _list(schema: Schema) -> Type:
    list_type = schema.get("x-kubernetes-list-type")
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    if list_type is None and "merge" in str(schema.get("x-kubernetes-patch-strategy") or "").split(","):
        merge_key = schema.get("x-kubernetes-patch-merge-key")
        list_type, keys = ("map", (merge_key,)) if merge_key else ("set", ())
    items = schema.get("items") or {}
    if list_type == "map" and keys:
        return ListMap(type_of(items), keys, _key_defaults(items, keys))
    if list_type == "set":
        return ListSet(type_of(items))
    return _Plain(type_of(items))


def _key_defaults(items: Schema, keys: tuple[str, ...]) -> dict[str, Any]:
    name = str(items.get("$ref", "")).removeprefix(REF)
    short = name.rpartition(".")[2]
    properties = (definition(name) if name else items).get("properties", {})
    found: dict[str, Any] = {}
    for key in keys:
        default = properties.get(key, {}).get("default", KEY_DEFAULTS.get((short, key)))
        if default is not None:
            found[key] = default
    return found


def _untracked_metadata() -> Type:
    """ObjectMeta of whole objects: nobody owns what the server keeps or the path says."""
    meta = _defined(_META)
    assert isinstance(meta, Map)
    fields = {
        name: Field(field.step, field.type, field.always, name not in UNTRACKED, field.silent)
        for name, field in meta.fields.items()
    }
    return Map(None, fields, nulls=False)


def object_type(schema: Schema, name: str = "") -> Object:
    """The type of whole objects. ``apiVersion``, ``kind`` and what the server writes into metadata has no owner."""
    inner = type_of(schema, name)
    if isinstance(inner, Deferred):
        inner = inner.made
    rest = inner.rest if isinstance(inner, Map) else _DEDUCED
    fields = dict(inner.fields) if isinstance(inner, Map) else {}
    fields["apiVersion"] = Field("f:apiVersion", Type("string"), True, tracked=False)
    fields["kind"] = Field("f:kind", Type("string"), True, tracked=False)
    fields["metadata"] = Field("f:metadata", _metadata(), True)
    return Object(rest, fields, nulls=not name)


_metadata = functools.cache(_untracked_metadata)


@functools.cache
def defined_object_type(name: str) -> Object:
    """The type of a built-in kind by its definition; "" for objects without a schema."""
    if not name:
        return object_type({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    return object_type(definition(name), name)

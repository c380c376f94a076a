"""Schemas of CustomResourceDefinitions: are they structural?

A structural schema says for every field which type it has, outside of ``allOf``, ``anyOf``, ``oneOf`` and ``not``;
those may only narrow values down. That is what makes pruning, defaulting and publishing possible.

Worked example: ``{"type": "object", "anyOf": [{"properties": {"a": {"minimum": 1}}}]}`` is not structural, since ``a``
is spoken of in ``anyOf`` and has no type outside: ``properties[a]: Required value: because it is defined in
anyOf[0].properties[a]``.

Source: Kubernetes' CustomResourceDefinition page, "Specifying a structural schema"; wording of its validation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from bamikube.api.cel.presence import VALIDATIONS, has_rules
from bamikube.api.custom import embedded, lists, patterns, values
from bamikube.api.custom.defaulting import defaulter
from bamikube.api.custom.pruning import EMBEDDED, PRESERVE, pruner
from bamikube.api.custom.values import INT_OR_STRING
from bamikube.api.errors import Cause
from bamikube.api.validation.rules import forbidden, invalid, not_supported, required

Schema = dict[str, Any]
Rules = Callable[[Schema, str, Schema], list[Cause]]

LIST_TYPE, LIST_KEYS, MAP_TYPE = (
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
)
_MISSING_TYPE = {
    "root": "must not be empty at the root",
    "items": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}
_UNSUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_NESTED_EMPTY = ("type", "title", "description", LIST_KEYS, VALIDATIONS)
_NESTED_UNDEFINED = ("additionalProperties", "default", "externalDocs", LIST_TYPE, MAP_TYPE)
_NESTED_FALSE = ("nullable", PRESERVE, EMBEDDED, INT_OR_STRING)
_TYPES = ("object", "array", "string", "integer", "number", "boolean")


def validate(schema: Schema, path: str) -> list[Cause]:
    """What is wrong with the schema of a version, which stands at ``path``."""
    causes = _everywhere(schema, path)
    causes += _invariants(schema, path, "root")
    causes += _completeness(schema, path)
    if not causes:
        causes += _defaults(schema, path, "root")
    if not causes and has_rules(schema):
        from bamikube.api.cel.declarations import violations  # the CEL library is loaded by the first rule

        causes += violations(schema, path)
    return causes


# --- what no schema may say -----------------------------------------------------------------------------------------


def _everywhere(schema: Schema, path: str) -> list[Cause]:
    causes = [
        forbidden(f"{path}.{name}", f"{name} is not supported") for name in _UNSUPPORTED if schema.get(name)
    ]
    kind = schema.get("type")
    if kind == "null":
        causes.append(forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative"))
    elif kind and kind not in _TYPES:
        causes.append(not_supported(f"{path}.type", kind, sorted(_TYPES)))
    if schema.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        causes.append(forbidden(f"{path}.uniqueItems", text))
    if isinstance(schema.get("items"), list):
        causes.append(forbidden(f"{path}.items", "items must be a schema object and not an array"))
    extra = schema.get("additionalProperties")
    if schema.get("properties") and (isinstance(extra, dict) or extra is False):
        causes.append(
            forbidden(
                f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive"
            )
        )
    if schema.get(PRESERVE) is False:
        causes.append(invalid(f"{path}.{PRESERVE}", False, "must be true or undefined"))
    causes += _list_rules(schema, path)
    causes += _map_rules(schema, path)
    causes += _numbers(schema, path)
    if schema.get("pattern"):
        try:
            patterns.compiled(schema["pattern"])
        except patterns.PatternError as error:
            text = f"must be a valid regular expression, but isn't: error parsing regexp: {error}"
            causes.append(invalid(f"{path}.pattern", schema["pattern"], text))
    for inner, where in _children(schema, path):
        causes += _everywhere(inner, where)
    return causes


def _children(schema: Schema, path: str) -> list[tuple[Schema, str]]:
    """All schemas inside, with their paths."""
    found: list[tuple[Schema, str]] = []
    for name, each in (schema.get("properties") or {}).items():
        found.append((each, f"{path}.properties[{name}]"))
    for name in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(name), dict):
            found.append((schema[name], f"{path}.{name}"))
    for name in ("allOf", "anyOf", "oneOf"):
        found += [(each, f"{path}.{name}[{index}]") for index, each in enumerate(schema.get(name) or ())]
    return found


def _numbers(schema: Schema, path: str) -> list[Cause]:
    causes = []
    for name in ("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties"):
        if schema.get(name) is not None and schema[name] < 0:
            causes.append(invalid(f"{path}.{name}", schema[name], "must be greater than or equal to 0"))
    if schema.get("multipleOf") is not None and schema["multipleOf"] <= 0:
        causes.append(invalid(f"{path}.multipleOf", schema["multipleOf"], "must be greater than 0"))
    return causes


def _list_rules(schema: Schema, path: str) -> list[Cause]:
    causes: list[Cause] = []
    kind, keys = schema.get(LIST_TYPE), schema.get(LIST_KEYS) or []
    items = schema["items"] if isinstance(schema.get("items"), dict) else {}
    if kind is not None:
        if schema.get("type") != "array":
            if not schema.get("type"):
                causes.append(required(f"{path}.type", f"must be array if {LIST_TYPE} is specified"))
            else:
                causes.append(
                    invalid(f"{path}.type", schema["type"], f"must be array if {LIST_TYPE} is specified")
                )
        if kind not in ("atomic", "set", "map"):
            causes.append(not_supported(f"{path}.{LIST_TYPE}", kind, ["atomic", "map", "set"]))
    if kind == "set" and items:
        atomic_list = items.get("type") == "array" and items.get(LIST_TYPE, "atomic") == "atomic"
        atomic_map = items.get("type") == "object" and items.get(MAP_TYPE) == "atomic"
        if items.get("nullable"):
            causes.append(forbidden(f"{path}.items.nullable", f"cannot be nullable when {LIST_TYPE} is set"))
        if items.get("type") == "object" and not atomic_map:
            text = f"must be atomic as item of a list with {LIST_TYPE}=set"
            causes.append(invalid(f"{path}.items.{MAP_TYPE}", items.get(MAP_TYPE), text))
        elif items.get("type") == "array" and not atomic_list:
            text = f"must be atomic as item of a list with {LIST_TYPE}=set"
            causes.append(invalid(f"{path}.items.{LIST_TYPE}", items.get(LIST_TYPE), text))
    if kind == "map":
        causes += _keyed(items, keys, path)
    elif keys:
        if kind is None:
            causes.append(required(f"{path}.{LIST_TYPE}", f"must be map if {LIST_KEYS} is non-empty"))
        else:
            causes.append(invalid(f"{path}.{LIST_TYPE}", kind, f"must be map if {LIST_KEYS} is non-empty"))
    return causes


def _keyed(items: Schema, keys: list[str], path: str) -> list[Cause]:
    """A list that is a map: its elements are objects, and its keys are fields that are always there."""
    causes: list[Cause] = []
    if not keys:
        causes.append(required(f"{path}.{LIST_KEYS}", f"must not be empty if {LIST_TYPE} is map"))
    if not items:
        return [*causes, required(f"{path}.items", f"must have a schema if {LIST_TYPE} is map")]
    if items.get("type") != "object":
        causes.append(
            invalid(
                f"{path}.items.type",
                items.get("type") or "",
                f"must be object if parent array's {LIST_TYPE} is map",
            )
        )
    if items.get("nullable"):
        causes.append(forbidden(f"{path}.items.nullable", f"cannot be nullable when {LIST_TYPE} is map"))
    properties = items.get("properties") or {}
    seen = set()
    for index, key in enumerate(keys):
        if key in seen:
            causes.append(
                Cause("FieldValueDuplicate", f'Duplicate value: "{key}"', f"{path}.{LIST_KEYS}[{index}]")
            )
        seen.add(key)
        known = properties.get(key)
        if known is None:
            causes.append(
                invalid(f"{path}.{LIST_KEYS}[{index}]", key, "entries must all be names of item properties")
            )
            continue
        where = f"{path}.items.properties[{key}]"
        if known.get("type") in ("object", "array"):
            causes.append(
                invalid(
                    f"{where}.type",
                    known["type"],
                    f"must be a scalar type if parent array's {LIST_TYPE} is map",
                )
            )
        if known.get("nullable"):
            causes.append(
                forbidden(f"{where}.nullable", f"this property is in {LIST_KEYS}, so it cannot be nullable")
            )
        if key not in (items.get("required") or ()) and "default" not in known:
            text = f"this property is in {LIST_KEYS}, so it must have a default or be a required property"
            causes.append(required(f"{where}.default", text))
    return causes


def _map_rules(schema: Schema, path: str) -> list[Cause]:
    kind = schema.get(MAP_TYPE)
    if kind is None:
        return []
    causes: list[Cause] = []
    if schema.get("type") != "object":
        text = f"must be object if {MAP_TYPE} is specified"
        field = f"{path}.type"
        causes.append(invalid(field, schema["type"], text) if schema.get("type") else required(field, text))
    if kind not in ("atomic", "granular"):
        causes.append(not_supported(f"{path}.{MAP_TYPE}", kind, ["atomic", "granular"]))
    return causes


# --- structure ------------------------------------------------------------------------------------------------------


def _invariants(schema: Schema, path: str, level: str) -> list[Cause]:
    causes: list[Cause] = []
    kind, properties = schema.get("type") or "", schema.get("properties") or {}
    extra, items = schema.get("additionalProperties"), schema.get("items")
    if kind == "array" and items is None:
        causes.append(required(f"{path}.items", "must be specified"))
    if isinstance(items, dict):
        causes += _invariants(items, f"{path}.items", "items")
    for name, each in properties.items():
        if name != "metadata" or level != "root":
            causes += _invariants(each, f"{path}.properties[{name}]", "field")
    if extra is not None and level == "root":
        causes.append(forbidden(f"{path}.additionalProperties", "must not be used at the root"))
    if isinstance(extra, dict):
        causes += _invariants(extra, f"{path}.additionalProperties", "field")
    if schema.get(INT_OR_STRING):
        for name in (PRESERVE, EMBEDDED):
            if schema.get(name):
                causes.append(invalid(f"{path}.{name}", True, f"must be false if {INT_OR_STRING} is true"))
        if kind:
            causes.append(invalid(f"{path}.type", kind, f"must be empty if {INT_OR_STRING} is true"))
    causes += _narrowing(schema, path)
    causes += _typed(schema, path, level)
    if level == "root" or schema.get(EMBEDDED):
        causes += _object_fields(schema, path, level)
    return causes


def _typed(schema: Schema, path: str, level: str) -> list[Cause]:
    kind, here = schema.get("type") or "", bool(schema.get(EMBEDDED))
    causes: list[Cause] = []
    if here and kind != "object":
        text = f"must be object if {EMBEDDED} is true"
        causes.append(invalid(f"{path}.type", kind, text) if kind else required(f"{path}.type", text))
    elif not kind and not schema.get(INT_OR_STRING) and not schema.get(PRESERVE):
        causes.append(required(f"{path}.type", _MISSING_TYPE[level]))
    if here and schema.get("additionalProperties") is not None:
        causes.append(forbidden(f"{path}.additionalProperties", f"must not be used if {EMBEDDED} is set"))
    if level == "root" and kind and kind != "object":
        causes.append(invalid(f"{path}.type", kind, "must be object at the root"))
    if here and not schema.get(PRESERVE) and not schema.get("properties"):
        text = f"must not be empty if {EMBEDDED} is true without {PRESERVE}"
        causes.append(required(f"{path}.properties", text))
    return causes


def _object_fields(schema: Schema, path: str, level: str) -> list[Cause]:
    """``apiVersion``, ``kind`` and ``metadata`` are given; a schema may say little about them."""
    causes: list[Cause] = []
    properties = schema.get("properties") or {}
    for name in ("kind", "apiVersion"):
        if name in properties and properties[name].get("type") != "string":
            causes.append(
                invalid(
                    f"{path}.properties[{name}].type", properties[name].get("type") or "", "must be string"
                )
            )
    metadata = properties.get("metadata")
    if metadata is not None:
        where = f"{path}.properties[metadata]"
        if metadata.get("type") != "object":
            causes.append(invalid(f"{where}.type", metadata.get("type") or "", "must be object"))
        rest = {
            key: value for key, value in metadata.items() if key not in ("type", "default", "description")
        }
        if set(rest.get("properties") or ()) <= {"name", "generateName"}:
            rest.pop("properties", None)
        if level == "root" and rest:
            text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            causes.append(forbidden(where, text))
    return causes


def _narrowing(schema: Schema, path: str) -> list[Cause]:
    """What stands in allOf, anyOf, oneOf and not may only narrow values."""
    causes: list[Cause] = []
    loose = bool(schema.get(INT_OR_STRING))
    for word in ("anyOf", "allOf", "oneOf"):
        parts = schema.get(word) or []
        if word == "anyOf" and loose and parts == _INT_OR_STRING:
            continue
        for index, part in enumerate(parts):
            # The one exception: the pattern that spells int-or-string out.
            spelled = word == "allOf" and index == 0 and loose and part.get("anyOf") == _INT_OR_STRING
            if spelled:
                part = {key: value for key, value in part.items() if key != "anyOf"}
            causes += _nested(part, f"{path}.{word}[{index}]")
    if isinstance(schema.get("not"), dict):
        causes += _nested(schema["not"], f"{path}.not")
    return causes


def _nested(schema: Schema, path: str) -> list[Cause]:
    causes = _narrowing(schema, path)
    if isinstance(schema.get("items"), dict):
        causes += _nested(schema["items"], f"{path}.items")
    for name, each in (schema.get("properties") or {}).items():
        causes += _nested(each, f"{path}.properties[{name}]")
    for names, state in (
        (_NESTED_EMPTY, "empty"),
        (_NESTED_UNDEFINED, "undefined"),
        (_NESTED_FALSE, "false"),
    ):
        for name in names:
            given = schema.get(name) is not None if state == "undefined" else bool(schema.get(name))
            if given:
                causes.append(forbidden(f"{path}.{name}", f"must be {state} to be structural"))
    if "metadata" in (schema.get("properties") or {}):
        causes.append(forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context"))
    return causes


def _completeness(schema: Schema, path: str) -> list[Cause]:
    """Every field that is spoken of in a nested schema exists outside."""
    causes: list[Cause] = []
    for word in ("allOf", "anyOf", "oneOf"):
        for index, part in enumerate(schema.get(word) or ()):
            causes += _known(part, schema, path, f"{word}[{index}]")
    if isinstance(schema.get("not"), dict):
        causes += _known(schema["not"], schema, path, "not")
    for name, each in (schema.get("properties") or {}).items():
        causes += _completeness(each, f"{path}.properties[{name}]")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            causes += _completeness(schema[name], f"{path}.{name}")
    return causes


def _known(part: Schema, outside: Schema, path: str, inside: str) -> list[Cause]:
    causes: list[Cause] = []
    properties = outside.get("properties") or {}
    for name, each in (part.get("properties") or {}).items():
        where, there = f"{path}.properties[{name}]", f"{inside}.properties[{name}]"
        if name in properties:
            causes += _known(each, properties[name], where, there)
        else:
            causes.append(required(where, f"because it is defined in {_full(path, there)}"))
    if isinstance(part.get("items"), dict):
        if isinstance(outside.get("items"), dict):
            causes += _known(part["items"], outside["items"], f"{path}.items", f"{inside}.items")
        else:
            causes.append(
                required(f"{path}.items", f"because it is defined in {_full(path, f'{inside}.items')}")
            )
    for word in ("allOf", "anyOf", "oneOf"):
        for index, nested in enumerate(part.get(word) or ()):
            causes += _known(nested, outside, path, f"{inside}.{word}[{index}]")
    if isinstance(part.get("not"), dict):
        causes += _known(part["not"], outside, path, f"{inside}.not")
    return causes


def _full(path: str, inside: str) -> str:
    return f"{path}.{inside}"


# --- defaults -------------------------------------------------------------------------------------------------------


def _defaults(schema: Schema, path: str, level: str) -> list[Cause]:
    """Defaults fit their own schema, and hold nothing that would be pruned."""
    causes: list[Cause] = []
    if "default" in schema:
        causes += _default(schema, f"{path}.default", level)
    for name, each in (schema.get("properties") or {}).items():
        inside_metadata = name == "metadata" and (level == "root" or bool(schema.get(EMBEDDED)))
        if inside_metadata and "default" in each:
            causes.append(
                forbidden(f"{path}.properties[metadata].default", "must not be set in top-level metadata")
            )
        elif not inside_metadata:
            causes += _defaults(each, f"{path}.properties[{name}]", "field")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            causes += _defaults(schema[name], f"{path}.{name}", "field")
    return causes


def _default(schema: Schema, path: str, level: str) -> list[Cause]:
    value = schema["default"]
    if level == "root":
        return [forbidden(path, "must not be set at the root")]
    pruned = copy.deepcopy(value)
    prune, fill = pruner(schema), defaulter(schema)
    if prune is not None and prune(pruned):
        return [invalid(path, value, "must not have unknown fields")]
    if fill is not None:
        fill(pruned)
    causes: list[Cause] = []
    check, repeated, inner = values.compiled(schema), lists.compiled(schema), embedded.compiled(schema)
    for fault in (check(pruned) if check is not None else None) or ():
        cause = fault.cause(fault.path())
        inside = f".{fault.path()}" if fault.path() else ""
        message = cause.message.replace(f": {fault.path()} in body", f": {path}{inside} in body", 1)
        causes.append(Cause(cause.reason, message, cause.field if cause.field == "<nil>" else path + inside))
    if repeated is not None:
        causes += repeated(pruned, path)
    if inner is not None:
        causes += inner(pruned, path)
    return causes

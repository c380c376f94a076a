"""Rules for kinds that have none of their own: what the schema calls required has to be there.

Kubernetes' schemas list a field as required when its JSON is always written, which includes numbers and flags whose
zero is a fine value. So only objects, lists and texts count here, and ``status`` never does.
"""

from __future__ import annotations

from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.resources import Resource
from bamikube.api.schema.source import REF, definition
from bamikube.api.validation.rules import required

_MAY_BE_ABSENT = ("apiVersion", "kind", "metadata", "status")
_COUNTED = ("string", "object", "array")


def _walk(name: str, value: Any, path: str, causes: list[Cause]) -> None:
    schema = definition(name)
    properties = schema.get("properties")
    if not properties or not isinstance(value, dict):
        return
    for field in schema.get("required") or ():
        if value.get(field) is None and not (path == "" and field in _MAY_BE_ABSENT):
            inner = properties.get(field, {})
            ref = str(inner.get("$ref", "")).removeprefix(REF)
            kind = definition(ref).get("type") if ref else inner.get("type")
            if kind in _COUNTED and not (ref and not definition(ref).get("required")):
                causes.append(required(f"{path}{field}"))
    for field, each in value.items():
        if path == "" and field in _MAY_BE_ABSENT:
            continue
        inner = properties.get(field, {})
        ref = str(inner.get("$ref", "")).removeprefix(REF)
        if ref:
            _walk(ref, each, f"{path}{field}.", causes)
            continue
        item = inner.get("items") or {}
        ref = str(item.get("$ref", "")).removeprefix(REF) if isinstance(item, dict) else ""
        if ref and isinstance(each, list):
            for index, element in enumerate(each):
                _walk(ref, element, f"{path}{field}[{index}].", causes)


def required_fields(resource: Resource, obj: dict[str, Any]) -> list[Cause]:
    """The required fields that are missing."""
    causes: list[Cause] = []
    if resource.definition:
        _walk(resource.definition, obj, "", causes)
    return causes

"""Objects inside objects: where ``x-kubernetes-embedded-resource`` stands, a whole object is expected.

It needs ``apiVersion`` and ``kind``, and its metadata obeys the rules of every object's metadata; it needs no name.
Source: Kubernetes' CustomResourceDefinition page, "RawExtension".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.custom.pruning import EMBEDDED
from bamikube.api.errors import Cause
from bamikube.api.names import is_path_segment
from bamikube.api.validation import metadata
from bamikube.api.validation.rules import required

Schema = dict[str, Any]
Check = Callable[[Any, str], list[Cause]]


def compiled(schema: Schema) -> Check | None:
    """The check of a structural schema; None when nothing is embedded anywhere."""
    properties = {
        name: found
        for name, each in (schema.get("properties") or {}).items()
        if (found := compiled(each)) is not None
    }
    extra, items = schema.get("additionalProperties"), schema.get("items")
    others = compiled(extra) if isinstance(extra, dict) else None
    elements = compiled(items) if isinstance(items, dict) else None
    here = bool(schema.get(EMBEDDED))
    if not (properties or here) and others is None and elements is None:
        return None

    def check(value: Any, path: str) -> list[Cause]:
        causes: list[Cause] = []
        if type(value) is list:
            if elements is not None:
                for index, each in enumerate(value):
                    causes += elements(each, f"{path}[{index}]")
            return causes
        if type(value) is not dict:
            return causes
        if here:
            causes += _resource(value, path)
        for name, each in value.items():
            inner = properties.get(name)
            if inner is not None:
                causes += inner(each, f"{path}.{name}" if path else name)
            elif others is not None:
                causes += others(each, f"{path}[{name}]")
        return causes

    return check


def _resource(value: dict[str, Any], path: str) -> list[Cause]:
    causes = [
        required(f"{path}.{name}", "must not be empty")
        for name in ("apiVersion", "kind")
        if not value.get(name)
    ]
    inner = value.get("metadata")
    if isinstance(inner, dict):
        named = {"name": "unnamed", **inner}  # a name is a matter of the object that will be made of it
        causes += metadata.validate(
            named, namespaced="namespace" in inner, rule=is_path_segment, field=f"{path}.metadata"
        )
    return causes

"""How fields merge: the questions strategic merge patch and server-side apply ask of the schema."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from bamikube.api.schema.source import REF, definition


@dataclass(frozen=True, slots=True)
class Property:
    """One field of a definition.

    ``ref`` is the definition of the field itself, ``items_ref`` that of a list's elements or a map's values (both
    without prefix, "" when they are plain). ``patch_strategy`` is as declared (``merge``, ``merge,retainKeys``,
    ``replace``), ``list_type`` one of atomic, set, map or "" (atomic by default).
    """

    type: str = ""
    ref: str = ""
    patch_strategy: str = ""
    patch_merge_key: str = ""
    list_type: str = ""
    list_map_keys: tuple[str, ...] = ()
    items_ref: str = ""
    map_type: str = ""
    items_type: str = ""


def _ref(schema: Any) -> str:
    return str(schema.get("$ref", "")).removeprefix(REF) if isinstance(schema, dict) else ""


@functools.cache
def property(definition_name: str, field: str) -> Property | None:
    """The field of a definition; None when the definition (or the field) does not exist."""
    try:
        schema = definition(definition_name).get("properties", {}).get(field)
    except KeyError:
        return None
    if schema is None:
        return None
    inner = schema.get("items") or schema.get("additionalProperties") or {}
    ref = _ref(schema)
    kind = str(schema.get("type") or "")
    map_type = str(schema.get("x-kubernetes-map-type") or "")
    if ref:
        target = definition(ref)
        kind = str(target.get("type") or "")
        map_type = map_type or str(target.get("x-kubernetes-map-type") or "")
    return Property(
        type=kind,
        ref=ref,
        patch_strategy=str(schema.get("x-kubernetes-patch-strategy") or ""),
        patch_merge_key=str(schema.get("x-kubernetes-patch-merge-key") or ""),
        list_type=str(schema.get("x-kubernetes-list-type") or ""),
        list_map_keys=tuple(schema.get("x-kubernetes-list-map-keys") or ()),
        items_ref=_ref(inner),
        map_type=map_type,
        items_type=str(inner.get("type") or "") if isinstance(inner, dict) else "",
    )

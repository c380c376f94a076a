"""The schema of a custom resource as clients see it in OpenAPI.

Version 3 shows the schema as it was written. Version 2 has no words for ``nullable``, ``oneOf``, values that are
integers or strings, and fields that nobody described: there the schema is widened until nothing valid is refused, for
clients that check objects by it. Both gain what every object has: ``apiVersion``, ``kind``, ``metadata``, and which
group, version and kind they are.

Source: ``apiextensions-apiserver``'s OpenAPI builder (behaviour), KEP-2896.
"""

from __future__ import annotations

from typing import Any

from bamikube.api.custom.pruning import EMBEDDED, OBJECT_META, PRESERVE
from bamikube.api.custom.values import INT_OR_STRING
from bamikube.api.resources import Resource
from bamikube.api.schema.source import REF, definition

Schema = dict[str, Any]

_LIST_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
_ABOUT_METADATA = (
    "Standard object's metadata. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)
_CHILDREN = ("allOf", "anyOf", "oneOf", "not")


def name_of(row: Resource) -> str:
    """``com.example.stable.v1.CronTab``: the group backwards, version and kind."""
    return ".".join([*reversed(row.group.split(".")), row.version, row.kind])


def schema_of(row: Resource, *, v2: bool = False) -> Schema:
    """The schema of one object."""
    if row.custom is None:
        raise ValueError(f"{row.plural} is no custom resource")
    written = row.custom.compiled.schema
    schema = _widened(written) if v2 else _embedding(written, "")
    if not (v2 and written.get(PRESERVE)):
        schema["properties"] = {**(schema.get("properties") or {}), **_type_fields()}
        schema["properties"]["metadata"] = _metadata()
    schema["x-kubernetes-group-version-kind"] = _kinds(row, row.kind)
    if selectable := row.custom.compiled.version.get("selectableFields"):
        paths = [each["jsonPath"].removeprefix(".") for each in selectable]
        schema["x-kubernetes-selectable-fields"] = [{"fieldPath": path} for path in paths]
    return schema


def list_of(row: Resource) -> Schema:
    """The schema of a list of objects."""
    about = f"List of {row.plural}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
    items = {"description": about, "type": "array", "items": {"$ref": REF + name_of(row)}}
    metadata = {"description": _list_about(), "$ref": REF + _LIST_META}
    return {
        "description": f"{row.list_kind} is a list of {row.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {**_type_fields(), "items": items, "metadata": metadata},
        "x-kubernetes-group-version-kind": _kinds(row, row.list_kind),
    }


def _list_about() -> str:
    return (
        "Standard list metadata. More info: "
        "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
    )


def _type_fields() -> Schema:
    known = definition("io.k8s.api.core.v1.ConfigMap")["properties"]
    return {name: known[name] for name in ("apiVersion", "kind")}


def _metadata() -> Schema:
    return {"description": _ABOUT_METADATA, "$ref": REF + OBJECT_META}


def _kinds(row: Resource, kind: str) -> list[Schema]:
    return [{"group": row.group, "version": row.version, "kind": kind}]


def _mapped(schema: Schema, change: Any) -> Schema:
    """A copy with ``change`` made of every schema right inside."""
    result = dict(schema)
    if schema.get("properties"):
        result["properties"] = {name: change(each, name) for name, each in schema["properties"].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            result[name] = change(schema[name], "")
    return result


def _embedding(schema: Schema, name: str) -> Schema:
    """The schema with the fields of embedded objects written out."""
    result = _mapped(schema, _embedding)
    if schema.get(EMBEDDED):
        inner = {**(result.get("properties") or {}), **_type_fields(), "metadata": _metadata()}
        result["properties"] = inner
        result["required"] = list(dict.fromkeys(["kind", "apiVersion", *(schema.get("required") or ())]))
    return result


def _widened(schema: Schema, name: str = "") -> Schema:
    """What version 2 can say of the schema."""
    result = _embedding_v2(schema) if schema.get(EMBEDDED) else _mapped(schema, _widened)
    for word in (*_CHILDREN, "default"):
        result.pop(word, None)
    if schema.get("nullable"):
        for word in (
            "nullable",
            "type",
            "format",
            "items",
            "properties",
            "additionalProperties",
            "required",
            "enum",
        ):
            result.pop(word, None)
    if schema.get(INT_OR_STRING):
        result.pop("type", None)
    if schema.get(PRESERVE):
        for word in ("items", "properties", "required"):
            result.pop(word, None)
    return result


def _embedding_v2(schema: Schema) -> Schema:
    result = _mapped(schema, _widened)
    result["properties"] = {**(result.get("properties") or {}), **_type_fields(), "metadata": _metadata()}
    return result

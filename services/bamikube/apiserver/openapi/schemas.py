"""The definitions that a set of operations needs, and how the two OpenAPI versions write them.

Version 3 forbids anything beside a ``$ref``; a field that has a description, too, wraps the reference in ``allOf``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from bamikube.api.custom import published
from bamikube.api.resources import Resource
from bamikube.api.schema import source
from bamikube.api.schema.enums import published_definition
from bamikube.apiserver.openapi.operations import DELETE_OPTIONS, PATCH, STATUS, WATCH_EVENT, Operation

Schema = dict[str, Any]
V2, V3 = "#/definitions/", "#/components/schemas/"

_PATCH_DEFINITION: Schema = {
    "description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.",
    "type": "object",
}
# What may be written in two ways; version 2 has no words for it and says "string".
_EITHER: Mapping[str, tuple[Schema, ...]] = MappingProxyType(
    {
        source.INT_OR_STRING: ({"type": "integer"}, {"type": "string"}),
        source.QUANTITY: ({"type": "string"}, {"type": "number"}),
    }
)
_OPTIONAL_LIST = re.compile(r"^(.+)List$")


def custom(rows: Iterable[Resource], *, v2: bool = False) -> Mapping[str, Schema]:
    """The definitions of custom resources, by name."""
    found: dict[str, Schema] = {}
    for row in rows:
        if row.custom is not None:
            name = published.name_of(row)
            found[name] = published.schema_of(row, v2=v2)
            found[f"{name.removesuffix(row.kind)}{row.list_kind}"] = published.list_of(row)
    return found


def known(name: str, more: Mapping[str, Schema] = MappingProxyType({})) -> Schema | None:
    """A definition by name, ``more`` first; a list kind that the source does not carry is made from its item. None:
    unknown."""
    if name in more:
        return more[name]
    if name == PATCH:
        return _PATCH_DEFINITION
    try:
        return published_definition(name)
    except KeyError:
        match = _OPTIONAL_LIST.match(name)
        if match is None:
            return None
    item = known(match.group(1))
    return None if item is None else _list_of(match.group(1), item)


def _list_of(item: str, definition: Schema) -> Schema:
    kinds = [
        {**one, "kind": f"{one['kind']}List"}
        for one in definition.get("x-kubernetes-group-version-kind") or []
    ]
    text = {"type": "string"}
    return {
        "description": f"{item.rsplit('.', 1)[-1]}List is a list of objects.",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text,
            "kind": text,
            "metadata": {"$ref": f"{V2}io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"},
            "items": {"type": "array", "items": {"$ref": V2 + item}},
        },
        **({"x-kubernetes-group-version-kind": kinds} if kinds else {}),
    }


def needed(operations: Iterable[Operation], more: Mapping[str, Schema]) -> dict[str, Schema]:
    """All definitions that the operations refer to, directly or not, by name."""
    waiting = [STATUS, DELETE_OPTIONS, PATCH, WATCH_EVENT]
    for operation in operations:
        waiting.extend(name for name in (operation.body, operation.answers) if name)
    found: dict[str, Schema] = {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        definition = known(name, more)
        if definition is not None:
            found[name] = definition
            _references(definition, waiting)
    return dict(sorted(found.items()))


def _references(node: Any, into: list[str]) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                into.append(value.removeprefix(V2))
            else:
                _references(value, into)
    elif isinstance(node, list):
        for one in node:
            _references(one, into)


def definition_v3(name: str, schema: Schema) -> Schema:
    """A named definition as version 3 writes it."""
    if name in _EITHER:
        return {key: value for key, value in schema.items() if key != "type"} | {"oneOf": [*_EITHER[name]]}
    written: Schema = for_v3(schema)
    return written


def for_v3(node: Any) -> Any:
    """A definition with version 3's references."""
    if isinstance(node, list):
        return [for_v3(one) for one in node]
    if not isinstance(node, dict):
        return node
    if isinstance(reference := node.get("$ref"), str):
        target = {"$ref": V3 + reference.removeprefix(V2)}
        rest = {key: for_v3(value) for key, value in node.items() if key != "$ref"}
        return {"allOf": [target], **rest} if rest else target
    return {key: for_v3(value) for key, value in node.items()}

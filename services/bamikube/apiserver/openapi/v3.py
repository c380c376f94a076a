"""OpenAPI 3.0 documents, one for each group version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bamikube.apiserver.openapi.operations import Operation, Parameter, tag
from bamikube.apiserver.openapi.schemas import V3, Schema, definition_v3, known, needed


def document(operations: Iterable[Operation], version: str, more: Mapping[str, Schema]) -> dict[str, Any]:
    """The document of one group version. ``more`` are the definitions of its custom resources."""
    operations = list(operations)
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, more)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {
                name: definition_v3(name, schema) for name, schema in needed(operations, more).items()
            },
            "securitySchemes": {
                "BearerToken": {
                    "type": "apiKey",
                    "description": "Bearer Token authentication",
                    "name": "authorization",
                    "in": "header",
                }
            },
        },
    }


def _operation(operation: Operation, more: Mapping[str, Schema]) -> dict[str, Any]:
    schema = (
        {"$ref": V3 + operation.answers}
        if operation.answers and known(operation.answers, more)
        else {"type": "string"}
    )
    types = operation.produces if operation.answers else ("*/*",)
    responses: dict[str, Any] = {
        str(status): {
            "description": {200: "OK", 201: "Created", 202: "Accepted"}[status],
            "content": {media: {"schema": schema} for media in types},
        }
        for status in operation.statuses
    }
    responses["401"] = {"description": "Unauthorized"}
    written: dict[str, Any] = {
        "tags": [tag(operation.path)],
        "description": operation.description,
        "operationId": operation.ident,
        "parameters": [_parameter(one) for one in operation.parameters],
        "responses": responses,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {
            "group": operation.group,
            "version": operation.version,
            "kind": operation.kind,
        },
    }
    if operation.body and known(operation.body, more):
        body = {"schema": {"$ref": V3 + operation.body}}
        media = ("*/*",) if operation.method not in ("patch",) else operation.consumes
        written["requestBody"] = {"content": dict.fromkeys(media, body)}
        if operation.method != "delete":
            written["requestBody"]["required"] = True
    return written


def _parameter(parameter: Parameter) -> dict[str, Any]:
    written: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "schema": {"type": parameter.kind, "uniqueItems": True},
    }
    if parameter.required:
        written["required"] = True
    return written

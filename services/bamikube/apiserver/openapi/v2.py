"""The OpenAPI 2.0 document of the whole API, which kubectl before 1.28 and many generators read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bamikube.apiserver.openapi.operations import Operation, Parameter, tag
from bamikube.apiserver.openapi.schemas import V2, Schema, known, needed


def document(operations: Iterable[Operation], version: str, more: Mapping[str, Schema]) -> dict[str, Any]:
    """The whole document. ``more`` are the definitions of custom resources."""
    operations = list(operations)
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, more)
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": dict(sorted(paths.items())),
        "definitions": needed(operations, more),
        "securityDefinitions": {
            "BearerToken": {
                "type": "apiKey",
                "description": "Bearer Token authentication",
                "name": "authorization",
                "in": "header",
            }
        },
        "security": [{"BearerToken": []}],
    }


def _operation(operation: Operation, more: Mapping[str, Schema]) -> dict[str, Any]:
    schema = (
        {"$ref": V2 + operation.answers}
        if operation.answers and known(operation.answers, more)
        else {"type": "string"}
    )
    responses: dict[str, Any] = {
        str(status): {"description": {200: "OK", 201: "Created", 202: "Accepted"}[status], "schema": schema}
        for status in operation.statuses
    }
    responses["401"] = {"description": "Unauthorized"}
    parameters = [_parameter(one) for one in operation.parameters]
    if operation.body and known(operation.body, more):
        body: dict[str, Any] = {"name": "body", "in": "body", "schema": {"$ref": V2 + operation.body}}
        if operation.method != "delete":
            body["required"] = True
        parameters.append(body)
    return {
        "consumes": list(operation.consumes) if operation.method == "patch" else ["*/*"],
        "description": operation.description,
        "operationId": operation.ident,
        "parameters": parameters,
        "produces": list(operation.produces) if operation.answers else ["*/*"],
        "responses": responses,
        "schemes": ["https"],
        "tags": [tag(operation.path)],
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {
            "group": operation.group,
            "version": operation.version,
            "kind": operation.kind,
        },
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    written: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "type": parameter.kind,
        "uniqueItems": True,
    }
    if parameter.required:
        written["required"] = True
    return written

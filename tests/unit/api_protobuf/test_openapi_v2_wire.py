"""The OpenAPI v2 document as protobuf, read back by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api.wire.decode import read
from bamikube.api.wire.openapi_v2 import encode_document


def fields(data: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        number, wire, value, at = read(data, at, len(data))
        found.setdefault(number, []).append(data[value[0] : value[1]] if wire else value)
    return found


DOCUMENT = {
    "swagger": "2.0",
    "info": {"title": "Kubernetes", "version": "v1.34.0"},
    "paths": {
        "/api/v1/pods": {
            "get": {
                "operationId": "listPods",
                "produces": ["application/json"],
                "parameters": [
                    {"in": "query", "name": "limit", "type": "integer", "uniqueItems": True},
                    {"in": "body", "name": "body", "schema": {"$ref": "#/definitions/Pod"}},
                    {"$ref": "#/parameters/pretty"},
                ],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/Pod"}}},
                "x-kubernetes-action": "list",
            }
        }
    },
    "definitions": {
        "Pod": {
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"type": "array", "items": {"type": "string"}, "default": []}},
            "additionalProperties": {"type": "integer"},
            "x-kubernetes-group-version-kind": [{"group": "", "kind": "Pod", "version": "v1"}],
        }
    },
}


def test_a_small_document() -> None:
    document = fields(encode_document(DOCUMENT))
    assert document[1] == [b"2.0"]
    assert fields(document[2][0]) == {1: [b"Kubernetes"], 2: [b"v1.34.0"]}
    path = fields(fields(document[8][0])[2][0])
    assert path[1] == [b"/api/v1/pods"]
    operation = fields(fields(path[2][0])[2][0])
    assert operation[5] == [b"listPods"] and operation[6] == [b"application/json"]
    query, body, reference = (fields(one) for one in operation[8])
    limit = fields(fields(fields(query[1][0])[2][0])[3][0])
    assert limit[4] == [b"limit"] and limit[6] == [b"integer"] and limit[20] == [1]
    assert fields(fields(body[1][0])[1][0])[2] == [b"body"]
    assert fields(reference[2][0]) == {1: [b"#/parameters/pretty"]}
    extension = fields(operation[13][0])
    assert extension[1] == [b"x-kubernetes-action"] and fields(extension[2][0]) == {2: [b'"list"\n']}
    definition = fields(fields(document[9][0])[1][0])
    schema = fields(definition[2][0])
    assert definition[1] == [b"Pod"] and fields(schema[22][0]) == {1: [b"object"]} and schema[19] == [b"a"]
    prop = fields(fields(schema[25][0])[1][0])
    assert prop[1] == [b"a"] and fields(prop[2][0])[5] == [b"\x12\x03[]\n"]
    assert 1 in fields(schema[21][0])
    assert fields(schema[31][0])[1] == [b"x-kubernetes-group-version-kind"]


def test_a_document_of_wrong_types_is_refused() -> None:
    with pytest.raises(ValueError, match="no OpenAPI v2"):
        encode_document({"swagger": 2})

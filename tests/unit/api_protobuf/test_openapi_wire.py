"""OpenAPI documents as protobuf: version 2 read back by hand, version 3 by the protobuf library."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from bamikube.api import table
from bamikube.api.schema import source
from bamikube.api.wire.decode import read
from bamikube.api.wire.openapi import _V3, encode_v2, encode_v3
from bamikube.apiserver.openapi import v3
from bamikube.apiserver.openapi.operations import operations


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
    document = fields(encode_v2(DOCUMENT))
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
    with pytest.raises(ValueError, match="no OpenAPI of this version"):
        encode_v2({"swagger": 2})


def message_of_v3() -> Any:
    """The class of a document, made of the table's messages by the protobuf library."""
    kinds = descriptor_pb2.FieldDescriptorProto
    plain = {
        "string": kinds.TYPE_STRING,
        "bool": kinds.TYPE_BOOL,
        "int64": kinds.TYPE_INT64,
        "double": kinds.TYPE_DOUBLE,
    }
    file = descriptor_pb2.FileDescriptorProto(name="v3.proto", package="openapi.v3", syntax="proto3")
    for name, rows in _V3._table.items():
        if name == "package":
            continue
        message = file.message_type.add(name=name)
        for number, field, kind, label in rows:
            made = message.field.add(name=field, number=number)
            made.label = kinds.LABEL_REPEATED if label == "repeated" else kinds.LABEL_OPTIONAL
            if kind in plain:
                made.type = plain[kind]
            elif kind == "google.protobuf.Any":
                made.type = kinds.TYPE_BYTES
            else:
                made.type, made.type_name = kinds.TYPE_MESSAGE, f".openapi.v3.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("openapi.v3.Document"))


def test_version_three_of_every_group_is_read_back() -> None:
    document_class = message_of_v3()
    for group, version in dict.fromkeys((row.group, row.version) for row in table.TABLE):
        rows = [row for row in table.TABLE if (row.group, row.version) == (group, version)]
        written = v3.document(operations(rows), source.KUBERNETES, {})
        document = document_class.FromString(encode_v3(written))
        assert document.openapi == "3.0.0" and document.info.version == source.KUBERNETES
        paths = {one.name: one.value for one in document.paths.path}
        assert paths.keys() == written["paths"].keys()
        schemas = {one.name: one.value.schema for one in document.components.schemas.additional_properties}
        assert schemas.keys() == written["components"]["schemas"].keys()
        for name, schema in written["components"]["schemas"].items():
            properties = [one.name for one in schemas[name].properties.additional_properties]
            assert properties == list(schema.get("properties", {})), name
            assert schemas[name].description == schema.get("description", "")


def test_parts_of_version_three() -> None:
    rows = [row for row in table.TABLE if (row.group, row.version) == ("", "v1")]
    document = message_of_v3().FromString(encode_v3(v3.document(operations(rows), source.KUBERNETES, {})))
    schemas = {one.name: one.value.schema for one in document.components.schemas.additional_properties}
    pod = {one.name: one.value for one in schemas["io.k8s.api.core.v1.Pod"].properties.additional_properties}
    assert pod["kind"].schema.type == "string"
    inside = (
        pod["spec"].schema.all_of[0].reference._ref
        if pod["spec"].schema.all_of
        else pod["spec"].reference._ref
    )
    assert inside == "#/components/schemas/io.k8s.api.core.v1.PodSpec"
    (kind,) = list(schemas["io.k8s.api.core.v1.Pod"].specification_extension)
    assert kind.name == "x-kubernetes-group-version-kind" and '"Pod"' in kind.value.yaml
    (patch,) = [
        one.value.patch
        for one in document.paths.path
        if one.name == "/api/v1/namespaces/{namespace}/pods/{name}"
    ]
    media = [one.name for one in patch.request_body.request_body.content.additional_properties]
    assert "application/apply-patch+yaml" in media
    assert [one.name for one in patch.responses.response_or_reference][-1] == "401"

"""An OpenAPI v2 document as protobuf: what kubectl before 1.28 reads from ``/openapi/v2``.

The messages mirror the JSON document, with three turns of their own, which is all this module has to know:

* names are in snake case (``operationId`` is ``operation_id``, ``$ref`` is ``_ref``);
* maps are lists of ``Named...`` messages, and *everything* else that JSON allows beside the known keys, the ``x-``
  extensions, goes into ``vendor_extension`` with its value as YAML text (JSON is YAML);
* "one of" messages choose by what the JSON looks like: a ``$ref`` or not, ``in: body`` or ``in: query``.

Source: ``OpenAPIv2.proto`` of gnostic; the numbers are in ``openapi-v2-wire.json.gz``.
"""

from __future__ import annotations

import gzip
import importlib.resources
import json
import struct
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import orjson

from bamikube.api.wire.encode import chunk, varint

CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

Row = tuple[int, str, str, str]


@cache
def _table() -> dict[str, list[Row]]:
    packed = importlib.resources.files(__package__).joinpath("openapi-v2-wire.json.gz").read_bytes()
    table: dict[str, list[Row]] = json.loads(gzip.decompress(packed))
    return table


def encode_document(swagger: Mapping[str, Any]) -> bytes:
    """The ``Document`` message of a Swagger 2.0 document. Raises ``ValueError`` for values of wrong types."""
    try:
        return _message("Document", swagger)
    except (TypeError, AttributeError, KeyError, struct.error) as error:
        raise ValueError(f"the document is no OpenAPI v2: {error}") from None


def _any(value: Any) -> bytes:
    return chunk(2, orjson.dumps(value) + b"\n")


def _named(kind: str, name: str, value: Any) -> bytes:
    content = chunk(2, _any(value)) if kind == "NamedAny" else _value_of(kind, value)
    return chunk(1, name.encode()) + content


def _value_of(kind: str, value: Any) -> bytes:
    inner = next(row for row in _table()[kind] if row[1] == "value")
    return _single(inner[0], inner[2], value)


def _json_name(name: str) -> str:
    if name == "_ref":
        return "$ref"
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _choose(kind: str, value: Any) -> str:
    """The branch of a "one of" message that ``value`` belongs to."""
    match kind:
        case "ParametersItem":
            return "json_reference" if "$ref" in value else "parameter"
        case "ResponseValue":
            return "json_reference" if "$ref" in value else "response"
        case "Parameter":
            return "body_parameter" if value.get("in") == "body" else "non_body_parameter"
        case "NonBodyParameter":
            places = {"header": "header", "formData": "form_data", "query": "query", "path": "path"}
            return f"{places[value['in']]}_parameter_sub_schema"
        case "SchemaItem":
            return "file_schema" if value.get("type") == "file" else "schema"
        case "AdditionalPropertiesItem":
            return "boolean" if isinstance(value, bool) else "schema"
        case _:
            flow = {"implicit": "implicit", "password": "password", "application": "application"}
            sorts = {"basic": "basic_authentication_security", "apiKey": "api_key_security"}
            return sorts.get(value["type"]) or f"oauth2_{flow.get(value.get('flow'), 'access_code')}_security"


def _message(kind: str, value: Any) -> bytes:
    rows = _table()[kind]
    if kind == "Any":
        return _any(value)
    if rows[0][3] == "oneof":
        branch = _choose(kind, value)
        number, _, inner, _ = next(row for row in rows if row[1] == branch)
        return _single(number, inner, value)
    if kind in ("TypeItem", "StringArray"):
        texts = [value] if isinstance(value, str) else value
        return b"".join(chunk(1, text.encode()) for text in texts)
    if kind == "ItemsItem":
        schemas = value if isinstance(value, list) else [value]
        return b"".join(chunk(1, _message("Schema", schema)) for schema in schemas)
    return _object(kind, rows, value)


def _object(kind: str, rows: list[Row], value: Mapping[str, Any]) -> bytes:
    parts: list[bytes] = []
    catch_all: tuple[int, str, Callable[[str], bool]] | None = None
    extensions: int | None = None
    known: set[str] = set()
    for number, name, inner, label in rows:
        if name == "vendor_extension":
            extensions = number
        elif inner.startswith("Named") and label == "repeated" and inner != "NamedAny":
            catch_all = (number, inner, lambda key: not key.startswith("x-"))
        elif name == "additional_properties" and inner == "NamedAny":
            catch_all = (number, inner, lambda key: True)
        else:
            key = _json_name(name)
            known.add(key)
            if key not in value or value[key] is None:
                continue
            found = value[key]
            if label == "repeated":
                parts += [_single(number, inner, one) for one in found]
            else:
                parts.append(_single(number, inner, found))
    for key, found in value.items():
        if key in known:
            continue
        if catch_all and catch_all[2](key):
            parts.append(chunk(catch_all[0], _named(catch_all[1], key, found)))
        elif extensions is not None and key.startswith("x-"):
            parts.append(chunk(extensions, _named("NamedAny", key, found)))
    return b"".join(parts)


def _single(number: int, kind: str, value: Any) -> bytes:
    match kind:
        case "string":
            return chunk(number, value.encode())
        case "bool" | "int64":
            return varint(number << 3) + varint(int(value))
        case "double":
            return varint(number << 3 | 1) + struct.pack("<d", value)
        case _:
            return chunk(number, _message(kind, value))

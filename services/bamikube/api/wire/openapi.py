"""OpenAPI documents as protobuf: version 2, which kubectl before 1.28 reads, and version 3, which Go clients may ask for.

The messages mirror the JSON document, with three turns of their own, which is all this module has to know:

* names are in snake case (``operationId`` is ``operation_id``, ``$ref`` is ``_ref``);
* maps are lists of ``Named...`` messages, and *everything* else that JSON allows beside the known keys, the ``x-``
  extensions, goes into a list of its own with its value as YAML text (JSON is YAML);
* "one of" messages choose by what the JSON looks like: a ``$ref`` or not, ``in: body`` or ``in: query``.

Source: ``OpenAPIv2.proto`` and ``OpenAPIv3.proto`` of gnostic; the numbers are in ``openapi-v2-wire.json.gz`` and
``openapi-v3-wire.json.gz``.
"""

from __future__ import annotations

import gzip
import importlib.resources
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from bamikube.api.wire.encode import chunk, varint

Row = tuple[int, str, str, str]

_EXTENSIONS = ("vendor_extension", "specification_extension")


def encode_v2(swagger: Mapping[str, Any]) -> bytes:
    """The ``Document`` message of a Swagger 2.0 document. Raises ``ValueError`` for values of wrong types."""
    return _V2.document(swagger)


def encode_v3(document: Mapping[str, Any]) -> bytes:
    """The ``Document`` message of an OpenAPI 3.0 document. Raises ``ValueError`` for values of wrong types."""
    return _V3.document(document)


def _choose_v2(kind: str, value: Any) -> str:
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


def _choose_v3(kind: str, value: Any) -> str:
    if kind == "AdditionalPropertiesItem":
        return "boolean" if isinstance(value, bool) else "schema_or_reference"
    if kind == "DefaultType":
        return "boolean" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
    if "$ref" in value:
        return "reference"
    return "any" if kind == "AnyOrExpression" else _snake(kind.removesuffix("OrReference"))


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


class _Version:
    """The messages of one version. ``choose`` finds the branch of "one of" messages, ``items`` is what lists are of."""

    def __init__(self, file: str, choose: Callable[[str, Any], str], items: str) -> None:
        self._file = file
        self._choose = choose
        self._items = items
        self._read: dict[str, list[Row]] = {}

    @property
    def _table(self) -> dict[str, list[Row]]:
        if not self._read:
            packed = importlib.resources.files(__package__).joinpath(self._file).read_bytes()
            self._read = json.loads(gzip.decompress(packed))
        return self._read

    def document(self, value: Mapping[str, Any]) -> bytes:
        try:
            return self._message("Document", value)
        except (TypeError, AttributeError, KeyError, struct.error, StopIteration) as error:
            raise ValueError(f"the document is no OpenAPI of this version: {error}") from None

    def _message(self, kind: str, value: Any) -> bytes:
        rows = self._table[kind]
        if kind == "Any":
            return _any(value)
        if rows[0][3] == "oneof":
            branch = self._choose(kind, value)
            number, _, inner, _ = next(row for row in rows if row[1] == branch)
            return self._single(number, inner, value)
        if kind in ("TypeItem", "StringArray"):
            texts = [value] if isinstance(value, str) else value
            return b"".join(chunk(1, text.encode()) for text in texts)
        if kind == "ItemsItem":
            schemas = value if isinstance(value, list) else [value]
            return b"".join(chunk(1, self._message(self._items, schema)) for schema in schemas)
        return self._object(rows, value)

    def _object(self, rows: list[Row], value: Mapping[str, Any]) -> bytes:
        parts: list[bytes] = []
        catch_all: tuple[int, str] | None = None
        extensions: int | None = None
        known: set[str] = set()
        for number, name, inner, label in rows:
            if name in _EXTENSIONS:
                extensions = number
            elif inner.startswith("Named") and (inner != "NamedAny" or name == "additional_properties"):
                catch_all = (number, inner)
            else:
                key = _json_name(name)
                known.add(key)
                if key not in value or value[key] is None:
                    continue
                found = value[key]
                if inner == "DefaultType" and isinstance(found, dict | list):
                    continue  # the message has no place for such
                if label == "repeated":
                    parts += [self._single(number, inner, one) for one in found]
                else:
                    parts.append(self._single(number, inner, found))
        for key, found in value.items():
            if key in known:
                continue
            if extensions is not None and key.startswith("x-"):
                parts.append(chunk(extensions, self._named("NamedAny", key, found)))
            elif catch_all:
                parts.append(chunk(catch_all[0], self._named(catch_all[1], key, found)))
        return b"".join(parts)

    def _named(self, kind: str, name: str, value: Any) -> bytes:
        inner = next(row for row in self._table[kind] if row[1] == "value")
        return chunk(1, name.encode()) + self._single(inner[0], inner[2], value)

    def _single(self, number: int, kind: str, value: Any) -> bytes:
        match kind:
            case "string":
                return chunk(number, value.encode())
            case "bool" | "int64":
                return varint(number << 3) + varint(int(value))
            case "double":
                return varint(number << 3 | 1) + struct.pack("<d", value)
            case _:
                return chunk(number, self._message(kind, value))


def _any(value: Any) -> bytes:
    return chunk(2, orjson.dumps(value) + b"\n")


def _json_name(name: str) -> str:
    if name == "_ref":
        return "$ref"
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


_V2 = _Version("openapi-v2-wire.json.gz", _choose_v2, "Schema")
_V3 = _Version("openapi-v3-wire.json.gz", _choose_v3, "SchemaOrReference")

"""Messages to JSON values, by functions compiled from the table on first use.

A compiled decoder reads ``data[at:end]`` and returns a dict. Unknown fields are skipped, numbers may come packed or
not, and the values Go writes only because they are not pointers are left out again (see ``table``). Anything
malformed raises ``ValueError``.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from bamikube.api.wire.special import ALTERNATIVES, LISTS, SPECIAL
from bamikube.api.wire.table import RAW_EXTENSION, Field, fields

MAX_DEPTH = 100

Decoder = Callable[[bytes, int, int, int], Any]


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A varint, and where the next thing starts."""
    result = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
    raise ValueError("the message ends inside a number")


def signed(value: int) -> int:
    """A 64 bit two's complement number."""
    return value - (1 << 64) if value >> 63 else value


def read(data: bytes, at: int, end: int) -> tuple[int, int, Any, int]:
    """The next field: number, wire type, value (int, or start and end of its bytes), and where the next starts."""
    tag, at = varint(data, at, end)
    number, wire = tag >> 3, tag & 7
    if not number:
        raise ValueError("a field with the number 0")
    if wire == 0:
        value, at = varint(data, at, end)
        return number, wire, value, at
    if wire == 2:
        length, at = varint(data, at, end)
        if at + length > end:
            raise ValueError("the message ends inside a field")
        return number, wire, (at, at + length), at + length
    size = {1: 8, 5: 4}.get(wire)
    if size is None:
        raise ValueError(f"wire type {wire} is not used by Kubernetes")
    if at + size > end:
        raise ValueError("the message ends inside a field")
    return number, wire, (at, at + size), at + size


@cache
def decoder(message: str) -> Decoder:
    """The function that decodes ``message``."""
    short = message.rpartition(".")[2]
    if message in SPECIAL:
        return _special(message)
    if short in ALTERNATIVES:
        return _alternative(message, short)
    plain = _struct(fields(message))
    if short in LISTS:
        return lambda data, at, end, depth: plain(data, at, end, depth).get("items", [])
    return plain


def _special(message: str) -> Decoder:
    convert = SPECIAL[message][0]

    def decode(data: bytes, at: int, end: int, depth: int) -> Any:
        values: dict[int, Any] = {}
        while at < end:
            number, wire, value, at = read(data, at, end)
            values[number] = signed(value) if wire == 0 else data[value[0] : value[1]]
            if wire not in (0, 2):
                raise ValueError(f"wire type {wire} in {message}")
        if message == RAW_EXTENSION and values.get(1, b"")[:4] == b"k8s\0":
            from bamikube.api import protobuf  # an embedded object with an envelope of its own

            return protobuf.decode(values[1], depth=depth + 1)
        try:
            return convert(values)
        except (TypeError, AttributeError, OverflowError):
            raise ValueError(f"wrong types of fields in {message}") from None

    return decode


def _alternative(message: str, short: str) -> Decoder:
    plain = _struct(fields(message))

    def decode(data: bytes, at: int, end: int, depth: int) -> Any:
        value = plain(data, at, end, depth)
        if "schema" in value:
            return value["schema"]
        match ALTERNATIVES[short]:
            case "bool":
                return value.get("allows", False)
            case "schemas":
                return value.get("jSONSchemas", [])
            case _:
                return value.get("property", [])

    return decode


def _struct(known: tuple[Field, ...]) -> Decoder:
    steps = {field.number: (field, _value(field.type)) for field in known}

    def decode(data: bytes, at: int, end: int, depth: int) -> dict[str, Any]:
        if depth > MAX_DEPTH:
            raise ValueError(f"messages nested deeper than {MAX_DEPTH} levels")
        result: dict[str, Any] = {}
        while at < end:
            number, wire, raw, at = read(data, at, end)
            step = steps.get(number)
            if step is None:
                continue
            field, (wanted, convert) = step
            name = field.name
            if wire != wanted:
                if wire == 2 and field.label == "repeated" and wanted in (0, 1):
                    result.setdefault(name, []).extend(_packed(data, raw, wanted, convert))
                    continue
                raise ValueError(f"field {name} has wire type {wire}, expected {wanted}")
            match field.label:
                case "repeated":
                    result.setdefault(name, []).append(convert(data, raw, depth + 1))
                case "map":
                    key, value = _entry(data, raw, field, depth + 1)
                    result.setdefault(name, {})[key] = value
                case "inline":
                    result.update(convert(data, raw, depth + 1))
                case _:
                    value = convert(data, raw, depth + 1)
                    if value is None or (not field.keeps_zero and (value == "" or value == 0)):
                        result.pop(name, None)
                    else:
                        result[name] = value
        return result

    return decode


Convert = Callable[[bytes, Any, int], Any]


def _value(kind: str) -> tuple[int, Convert]:
    """Wire type and conversion of a type; the label of the field does not matter here."""
    if kind == "string":
        return 2, lambda data, raw, depth: data[raw[0] : raw[1]].decode()
    if kind == "bytes":
        return 2, lambda data, raw, depth: base64.b64encode(data[raw[0] : raw[1]]).decode()
    if kind == "bool":
        return 0, lambda data, raw, depth: raw != 0
    if kind == "int32":
        return 0, lambda data, raw, depth: ((raw & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
    if kind == "int64":
        return 0, lambda data, raw, depth: signed(raw)
    if kind == "double":
        return 1, lambda data, raw, depth: struct.unpack_from("<d", data, raw[0])[0]
    return 2, lambda data, raw, depth: decoder(kind)(data, raw[0], raw[1], depth)


def _packed(data: bytes, span: tuple[int, int], wanted: int, convert: Convert) -> list[Any]:
    at, end = span
    values: list[Any] = []
    while at < end:
        if wanted == 1:
            if at + 8 > end:
                raise ValueError("the message ends inside a field")
            values.append(convert(data, (at, at + 8), 0))
            at += 8
        else:
            raw, at = varint(data, at, end)
            values.append(convert(data, raw, 0))
    return values


def _entry(data: bytes, span: tuple[int, int], field: Field, depth: int) -> tuple[str, Any]:
    """A map's entry: key in field 1, value in field 2, either missing when it is zero."""
    at, end = span
    wanted, convert = _value(field.type)
    key, value = "", None
    while at < end:
        number, wire, raw, at = read(data, at, end)
        if number == 1 and wire == 2:
            key = data[raw[0] : raw[1]].decode()
        elif number == 2 and wire == wanted:
            value = convert(data, raw, depth)
    if value is None:
        value = convert(b"\0" * 8, 0 if wanted == 0 else (0, 8 if wanted == 1 else 0), depth)
    return key, value

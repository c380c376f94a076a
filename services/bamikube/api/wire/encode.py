"""JSON values to messages, by functions compiled from the table on first use.

What the object does not have is not written: Go reads an absent field as zero or nil, which is what JSON's absence
means too. Fields the table does not know are skipped. A value of the wrong type raises ``ValueError`` with its field.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from bamikube.api.wire.special import ALTERNATIVES, LISTS, SPECIAL
from bamikube.api.wire.table import Field, fields

Encoder = Callable[[Any], bytes]


def varint(value: int) -> bytes:
    """A number as a varint; negative ones as 64 bit two's complement."""
    if 0 <= value < 0x80:
        return bytes((value,))
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def chunk(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


@cache
def encoder(message: str) -> Encoder:
    """The function that encodes ``message``."""
    short = message.rpartition(".")[2]
    if message in SPECIAL:
        convert = SPECIAL[message][1]
        return lambda value: b"".join(_special(number, part) for number, part in convert(value))
    plain = _struct(fields(message))
    if short in LISTS:
        return lambda value: plain({"items": value})
    if short in ALTERNATIVES:
        return lambda value: plain(_alternative(value))
    return plain


def _special(number: int, part: Any) -> bytes:
    if isinstance(part, int):
        return varint(number << 3) + varint(part)
    return chunk(number, part.encode() if isinstance(part, str) else part)


def _alternative(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"allows": value}
    if isinstance(value, dict):
        return {"allows": True, "schema": value}
    return {"property": value} if value and isinstance(value[0], str) else {"jSONSchemas": value}


def _struct(known: tuple[Field, ...]) -> Encoder:
    writers = [(field.name, _writer(field)) for field in known]

    def encode(value: Any) -> bytes:
        if not isinstance(value, dict):
            raise ValueError(f"an object was expected, not {type(value).__name__}")
        parts: list[bytes] = []
        for name, write in writers:
            part = value if name is None else value.get(name)
            if part is None:
                continue
            try:
                parts.append(write(part))
            except (TypeError, AttributeError, KeyError, struct.error) as error:
                raise ValueError(f"field {name}: {error}") from None
        return b"".join(parts)

    inline = [field for field in known if field.label == "inline"]
    if not inline:
        return encode
    writers = [(field.name, _writer(field)) for field in known if field.label != "inline"]

    def encode_inline(value: Any) -> bytes:
        head = [chunk(field.number, encoder(field.type)(value)) for field in inline]
        return b"".join(head) + encode(value)

    return encode_inline


def _writer(field: Field) -> Encoder:
    tag, single = _single(field.number, field.type)
    if field.label == "repeated":
        return lambda values: b"".join(tag + single(value) for value in values)
    if field.label == "map":
        key_tag = varint(1 << 3 | 2)
        value_tag, of_value = _single(2, field.type)
        start = varint(field.number << 3 | 2)

        def write(values: Any) -> bytes:
            out: list[bytes] = []
            for key in sorted(values):
                name = key.encode()
                entry = key_tag + varint(len(name)) + name + value_tag + of_value(values[key])
                out.append(start + varint(len(entry)) + entry)
            return b"".join(out)

        return write
    return lambda value: tag + single(value)


def _single(number: int, kind: str) -> tuple[bytes, Encoder]:
    """The tag of a field, and how one value of its type is written behind it."""
    if kind in ("int32", "int64", "bool"):
        return varint(number << 3), lambda value: varint(int(value))
    if kind == "double":
        return varint(number << 3 | 1), lambda value: struct.pack("<d", value)
    tag = varint(number << 3 | 2)
    if kind == "string":
        return tag, lambda value: _sized(value.encode())
    if kind == "bytes":
        return tag, lambda value: _sized(base64.b64decode(value, validate=True))
    return tag, lambda value: _sized(encoder(kind)(value))


def _sized(content: bytes) -> bytes:
    return varint(len(content)) + content

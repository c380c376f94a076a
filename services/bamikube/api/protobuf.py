"""Built-in kinds as protobuf: what kubectl's ``create`` sends and Go clients ask for.

Bytes on the wire are the four bytes ``k8s\\0`` and a message ``runtime.Unknown``, which names apiVersion and kind and
carries the object's own message::

    6b 38 73 00                            k8s\\0
    0a 0d  0a 02 76 31  12 07 4c ...       field 1, typeMeta: apiVersion "v1", kind "..."
    12 ..  0a 07 0a 03 77 65 62            field 2, raw: the object: field 1, metadata: field 1, name "web"

Nothing here knows kinds: field numbers and types come from a table (``wire/``), codecs are compiled from it on first
use. JSON objects go in and out. Kinds without messages (custom resources) have no protobuf: ask :func:`can_encode`.
"""

from __future__ import annotations

from typing import Any

import orjson

from bamikube.api.wire.decode import MAX_DEPTH, decoder, read
from bamikube.api.wire.encode import chunk, encoder
from bamikube.api.wire.table import message_of

MAGIC = b"k8s\0"
CONTENT_TYPE = "application/vnd.kubernetes.protobuf"


def can_encode(api_version: str, kind: str) -> bool:
    """Whether a kind has a message."""
    return message_of(api_version, kind) is not None


class UnknownKind(ValueError):
    """A message of a kind that nobody knows."""

    def __init__(self, api_version: str, kind: str) -> None:
        super().__init__(f'no protobuf message is known for kind "{kind}" in version "{api_version}"')
        self.api_version, self.kind = api_version, kind


def decode(data: bytes, *, depth: int = 0) -> dict[str, Any]:
    """The object in ``data``, with its ``apiVersion`` and ``kind``. Raises ``ValueError`` for anything else."""
    if data[:4] != MAGIC:
        raise ValueError("the body does not start with k8s\\0: it is no Kubernetes protobuf")
    if depth > MAX_DEPTH:
        raise ValueError(f"messages nested deeper than {MAX_DEPTH} levels")
    data = bytes(data)
    api_version = kind = encoding = content_type = ""
    raw = (len(data), len(data))
    at, end = 4, len(data)
    while at < end:
        number, wire, value, at = read(data, at, end)
        if wire != 2:
            continue
        if number == 1:
            api_version, kind = _type_meta(data, *value)
        elif number == 2:
            raw = value
        elif number == 3:
            encoding = _text(data, *value)
        elif number == 4:
            content_type = _text(data, *value)
    if encoding:
        raise ValueError(f"the object is encoded as {encoding}, which is not supported")
    if content_type.startswith("application/json"):
        return _json(data[raw[0] : raw[1]])
    message = message_of(api_version, kind)
    if message is None:
        raise UnknownKind(api_version, kind)
    try:
        body = decoder(message)(data, raw[0], raw[1], depth)
    except UnicodeDecodeError as error:
        raise ValueError(f"a text is not UTF-8: {error.reason}") from None
    return {"apiVersion": api_version, "kind": kind, **body}


def _type_meta(data: bytes, at: int, end: int) -> tuple[str, str]:
    found = {1: "", 2: ""}
    while at < end:
        number, wire, value, at = read(data, at, end)
        if wire == 2 and number in found:
            found[number] = _text(data, *value)
    return found[1], found[2]


def _text(data: bytes, at: int, end: int) -> str:
    try:
        return data[at:end].decode()
    except UnicodeDecodeError:
        raise ValueError("a text is not UTF-8") from None


def _json(raw: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the enclosed JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("the enclosed JSON is no object")
    return value


def encode(obj: dict[str, Any]) -> bytes:
    """``obj`` with its envelope. Raises ``ValueError`` for kinds without message and values of wrong types."""
    api_version, kind = str(obj.get("apiVersion", "")), str(obj.get("kind", ""))
    message = message_of(api_version, kind)
    if message is None:
        raise UnknownKind(api_version, kind)
    type_meta = chunk(1, api_version.encode()) + chunk(2, kind.encode())
    try:
        body = encoder(message)(obj)
    except RecursionError:
        raise ValueError("the object is nested too deep") from None
    # Go writes the two empty texts as well; its reader does not ask for them.
    return MAGIC + chunk(1, type_meta) + chunk(2, body)


def watch_event(type: str, obj: dict[str, Any]) -> bytes:
    """One ``WatchEvent`` message without envelope; the caller puts its length (4 bytes, big endian) before it."""
    return chunk(1, type.encode()) + chunk(2, chunk(1, encode(obj)))

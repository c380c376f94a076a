"""Blocks of PEM text (RFC 7468, and the older form with headers). Pure: what is in a block is not looked at."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s(.*?)-----END \1-----", re.DOTALL)
_LINE = 64  # characters


@dataclass(frozen=True, slots=True)
class Block:
    """``data`` are the bytes that the text stands for; ``headers`` whether there were any before it."""

    kind: str
    data: bytes
    headers: bool = False


def blocks(text: bytes) -> Iterator[Block]:
    """The blocks in ``text``, whatever stands between them. One that cannot be decoded is left out."""
    for kind, body in _BLOCK.findall(text):
        lines = body.split(b"\n")
        plain = [line for line in lines if b":" not in line]
        try:
            data = base64.b64decode(b"".join(plain), validate=False)
        except (binascii.Error, ValueError):
            continue
        yield Block(kind.decode(), data, len(plain) < len(lines))


def text(kind: str, data: bytes) -> str:
    """One block."""
    encoded = base64.b64encode(data).decode()
    lines = [encoded[at : at + _LINE] for at in range(0, len(encoded), _LINE)]
    return "\n".join((f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""))

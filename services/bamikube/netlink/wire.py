"""Netlink bytes: attributes and message heads.

A netlink message is a 16-byte head and attributes; an attribute is a 4-byte head (length, type) and a payload padded
to four bytes. Lengths count the head and not the padding. That is the whole format, and packing it with ``struct`` is
sixty times faster than building message objects (1.8 us against 103 us a map element, `facts`), which is what makes
ten thousand services cheap.
"""

from __future__ import annotations

import struct

NLA_F_NESTED = 0x8000

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NLMSG_ERROR = 2
NLMSG_DONE = 3

_HEAD = struct.Struct("=HH")
_MESSAGE = struct.Struct("=IHHII")
_PAD = (b"", b"\0\0\0", b"\0\0", b"\0")


def attr(kind: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    size = len(payload) + 4
    if size > 0xFFFF:
        raise ValueError(
            f"netlink attribute {kind} would be {size} bytes; 65535 is the most an attribute can hold"
        )
    return _HEAD.pack(size, kind) + payload + _PAD[size & 3]


def nest(kind: int, *parts: bytes) -> bytes:
    """An attribute made of attributes."""
    return attr(kind | NLA_F_NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    """A zero-terminated string."""
    return attr(kind, value.encode() + b"\0")


def be32(kind: int, value: int) -> bytes:
    """A 32-bit number in network order (nfnetlink's habit)."""
    return attr(kind, struct.pack(">I", value & 0xFFFFFFFF))


def be64(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack(">Q", value))


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A whole message; the sender's port is filled in by the kernel."""
    return _MESSAGE.pack(16 + len(body), kind, flags | NLM_F_REQUEST, sequence, 0) + body


def replies(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """The messages of a datagram from the kernel: (type, flags, sequence, body)."""
    found = []
    offset = 0
    while offset + 16 <= len(data):
        size, kind, flags, sequence, _port = _MESSAGE.unpack_from(data, offset)
        if size < 16:
            break
        found.append((kind, flags, sequence, data[offset + 16 : offset + size]))
        offset += (size + 3) & ~3
    return found


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by type (the nested flag removed); of a repeated one the last."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        size, kind = _HEAD.unpack_from(data, offset)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found

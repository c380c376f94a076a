"""HTTP/2 frames as bytes (RFC 9113, section 4 and 6).

A frame is nine bytes of head and its payload::

    00 00 08   06     01      00 00 00 00   ........
    length 8   PING   ACK     stream 0      payload

The length is written as its high byte and its low two, so that one ``struct`` takes the whole head apart.
"""

from __future__ import annotations

import struct

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)

# Flags. END_STREAM and ACK share a bit, on different kinds of frames.
END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

# Error codes of RST_STREAM and GOAWAY.
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 6, 7, 8, 9
ENHANCE_YOUR_CALM, INADEQUATE_SECURITY = 11, 12

# Settings.
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5

HEAD = 9  # bytes of a frame's head
DEFAULT_WINDOW = 65_535  # bytes, until settings say otherwise
DEFAULT_FRAME = 16_384  # bytes of payload, until settings say otherwise
MAX_WINDOW = (1 << 31) - 1
MAX_STREAM = (1 << 31) - 1

# What we let the server send before we have taken note: a range of a few thousand objects without a pause.
STREAM_WINDOW = 4 << 20
CONNECTION_WINDOW = 16 << 20

_HEAD = struct.Struct(">BHBBL")
_LONG = struct.Struct(">L")
_SETTING = struct.Struct(">HL")

unpack_head = _HEAD.unpack_from  # (high, low, kind, flags, stream) at an offset
unpack_long = _LONG.unpack_from


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    return _HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream)


def settings(values: dict[int, int]) -> bytes:
    payload = b"".join(_SETTING.pack(name, value) for name, value in values.items())
    return head(len(payload), SETTINGS, 0, 0) + payload


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Name and value of each setting, in order. The length is a multiple of six."""
    return [(int(name), int(value)) for name, value in _SETTING.iter_unpack(payload)]


def window_update(stream: int, more: int) -> bytes:
    return head(4, WINDOW_UPDATE, 0, stream) + _LONG.pack(more)


def rst_stream(stream: int, code: int) -> bytes:
    return head(4, RST_STREAM, 0, stream) + _LONG.pack(code)


def ping(payload: bytes, *, ack: bool) -> bytes:
    return head(8, PING, ACK if ack else 0, 0) + payload


def goaway(code: int, text: str) -> bytes:
    """The end of the connection, for ``code``. The last stream of the server's that we took is none."""
    payload = _LONG.pack(0) + _LONG.pack(code) + text.encode()
    return head(len(payload), GOAWAY, 0, 0) + payload


# How a connection begins. With a header table of size nothing, what a block of the server's means depends on the
# block alone, so it can be remembered by its bytes.
PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + settings({HEADER_TABLE_SIZE: 0, ENABLE_PUSH: 0, INITIAL_WINDOW_SIZE: STREAM_WINDOW})
    + window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW)
)

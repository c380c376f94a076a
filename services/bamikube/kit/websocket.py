"""The websocket protocol (RFC 6455) without I/O: frames are made as bytes, and bytes that arrive become pieces.

A message is one frame or several, a frame may be of any size, and it may arrive in any number of reads. The parser
never waits for the rest: it hands on what is there as a :class:`Piece` of its message, so that nothing large is ever
held. A client sends the message ``hello`` masked with ``0x01020304`` and it arrives in two reads::

    feed(82 85 01 02 03 04 69 67)  ->  Piece(BINARY, b"he", last=False)
    feed(6f 68 6e)                 ->  Piece(BINARY, b"llo", last=True)

Control frames (close, ping, pong) may lie between the pieces of a message; they are short and come whole.
"""

from __future__ import annotations

import base64
import hashlib
from struct import pack, unpack_from
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

# Codes of a close frame (RFC 6455 7.4.1).
NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR = 1000, 1002, 1011

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_CONTROL = 125  # bytes a control frame may carry

# How much is masked in one go, in bytes, and the number whose product with a mask is the mask laid over as much.
# A number of that size is the fastest way to combine two byte strings that the language itself has.
_BLOCK = 4 * 1024
_REPEAT = int.from_bytes(b"\1\0\0\0" * (_BLOCK // 4), "little")


class ProtocolError(Exception):
    """The other side breaks the protocol; the connection is to be closed with code 1002."""


class Piece(NamedTuple):
    """A part of a message, or a whole control frame. ``opcode`` is the message's own in every piece."""

    opcode: int
    data: bytes
    last: bool


def accept_of(key: str) -> str:
    """``Sec-WebSocket-Accept`` for a ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1(key.strip().encode("latin-1", "replace") + _GUID).digest()).decode()


def masked(data: bytes, mask: bytes) -> bytes:
    """``data`` with the four bytes of ``mask`` laid over it again and again; doing it twice undoes it."""
    size = len(data)
    if size < _BLOCK:
        pattern = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
        return (int.from_bytes(data, "little") ^ pattern).to_bytes(size, "little")
    pattern = int.from_bytes(mask, "little") * _REPEAT
    end = size - size % _BLOCK
    blocks = [
        (int.from_bytes(data[at : at + _BLOCK], "little") ^ pattern).to_bytes(_BLOCK, "little")
        for at in range(0, end, _BLOCK)
    ]
    return b"".join([*blocks, masked(data[end:], mask)])


def head(opcode: int, size: int, *, mask: bytes = b"") -> bytes:
    """The head of a frame that is a whole message; its ``size`` bytes follow (masked, if there is a mask)."""
    bit = 0x80 if mask else 0
    if size < 126:
        return pack("!BB", 0x80 | opcode, bit | size) + mask
    if size < 65536:
        return pack("!BBH", 0x80 | opcode, bit | 126, size) + mask
    return pack("!BBQ", 0x80 | opcode, bit | 127, size) + mask


def frame(opcode: int, data: bytes = b"", *, mask: bytes = b"") -> bytes:
    """A whole message or control frame. Clients mask (with four bytes nobody can guess), servers do not."""
    return head(opcode, len(data), mask=mask) + (masked(data, mask) if mask else data)


def close_frame(code: int = NORMAL, reason: str = "", *, mask: bytes = b"") -> bytes:
    """The last frame of a side; ``reason`` is cut to what a control frame holds."""
    text = reason.encode()[: _MAX_CONTROL - 2].decode(errors="ignore").encode()
    return frame(CLOSE, pack("!H", code) + text, mask=mask)


class Parser:
    """Turns what one side sends into pieces. ``masks`` says whether it must mask: clients must, servers must not."""

    def __init__(self, *, masks: bool) -> None:
        self._masks = masks
        self._rest = b""  # the beginning of a frame's head
        self._opcode = -1  # of the frame being read; -1 between frames
        self._final = False
        self._left = 0  # bytes of the frame still to come
        self._mask = b""  # turned so that it fits the next byte
        self._message = -1  # opcode of the message whose frames are being read; -1 between messages
        self._control = b""

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces in ``data``. Raises ProtocolError; the pieces before the error are lost with the connection."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        pieces: list[Piece] = []
        at, end = 0, len(data)
        while at < end:
            if self._opcode < 0:
                size = self._begin(data, at)
                if not size:
                    self._rest = data[at:]
                    break
                at += size
            taken = data[at : at + self._left]
            at += len(taken)
            self._left -= len(taken)
            if self._mask and taken:
                turn = len(taken) % 4
                taken = masked(taken, self._mask)
                self._mask = self._mask[turn:] + self._mask[:turn]
            if (piece := self._piece(taken)) is not None:
                pieces.append(piece)
        return pieces

    def _piece(self, taken: bytes) -> Piece | None:
        opcode, whole = self._opcode, not self._left
        if whole:
            self._opcode = -1
        if opcode >= CLOSE:
            self._control += taken
            return Piece(opcode, self._control, True) if whole else None
        last = whole and self._final
        piece = Piece(self._message, taken, last) if taken or last else None
        if last:
            self._message = -1
        return piece

    def _begin(self, data: bytes, at: int) -> int:
        """Read a frame's head at ``at``. Returns its size, 0 if it is not all there."""
        there = len(data) - at
        if there < 2:
            return 0
        first, second = data[at], data[at + 1]
        opcode, length, with_mask = first & 0x0F, second & 0x7F, bool(second & 0x80)
        final = bool(first & 0x80)
        if first & 0x70:
            raise ProtocolError("a reserved bit is set, and no extension was agreed on")
        if with_mask != self._masks:
            raise ProtocolError("a frame is not masked" if self._masks else "a frame is masked")
        extra = 2 if length == 126 else 8 if length == 127 else 0
        size = 2 + extra + (4 if with_mask else 0)
        if opcode >= CLOSE and (extra or not final):
            raise ProtocolError("a control frame is too long or in parts")
        if there < size:
            return 0
        if extra:
            (length,) = unpack_from("!H" if extra == 2 else "!Q", data, at + 2)
        if length >> 63:
            raise ProtocolError("a frame's length has its highest bit set")
        self._order(opcode)
        self._opcode, self._final, self._left, self._control = opcode, final, length, b""
        self._mask = data[at + size - 4 : at + size] if with_mask else b""
        return size

    def _order(self, opcode: int) -> None:
        """Whether a frame of this kind may come now."""
        if opcode in (TEXT, BINARY):
            if self._message >= 0:
                raise ProtocolError("a message begins inside another")
            self._message = opcode
        elif opcode == CONTINUATION:
            if self._message < 0:
                raise ProtocolError("a message goes on that has not begun")
        elif opcode not in (CLOSE, PING, PONG):
            raise ProtocolError(f"there are no frames with opcode {opcode}")

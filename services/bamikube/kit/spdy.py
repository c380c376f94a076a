"""SPDY/3.1 framing without I/O: what Kubernetes' streams speak once a connection has been upgraded to ``SPDY/3.1``.

Many streams share one connection. A stream is opened with headers, answered with headers, and carries data until both
sides have said that they are finished (``fin``) or one of them resets it. ``exec`` with input, as its client sends it
and is answered::

    -> SYN_STREAM 1 {streamtype: error}           <- SYN_REPLY 1 {}
    -> SYN_STREAM 3 {streamtype: stdin}           <- SYN_REPLY 3 {}
    -> SYN_STREAM 5 {streamtype: stdout}          <- SYN_REPLY 5 {}
    -> DATA 3 "hi\\n"        -> DATA 3 "" fin     <- DATA 5 "hi\\n"   <- DATA 5 "" fin
                                                  <- DATA 1 {"status": "Success"}   <- DATA 1 "" fin

Header blocks are compressed, and the compression of one direction runs through all of its header blocks: a
:class:`Session` belongs to one connection, and what it makes must be sent in the order in which it was made.

Flow control by WINDOW_UPDATE is part of the protocol, but neither Kubernetes nor containerd does it: they rely on the
connection's own. So do we, and pass over the frames.

Source: the SPDY/3.1 draft (dev.chromium.org/spdy). Its dictionary has the Adler-32 checksum 0xE3C6A7C2, which every zlib
stream made with it carries.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from struct import pack, unpack_from
from typing import NamedTuple

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY, _HEADERS = 1, 2, 3, 6, 7, 8
_FIN = 0x01
_VERSION = 0x8003  # the control bit and version 3
_MAX_CONTROL = 256 * 1024  # bytes of a control frame; a longer one is no header of ours
_MAX_HEADERS = 1024 * 1024  # bytes of a header block once it is unpacked

# Why a stream is reset (draft 2.6.3).
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL = 1, 2, 3, 5

_WORDS = """options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age
allow authorization cache-control connection content-base content-encoding content-language content-length
content-location content-md5 content-range content-type date etag expect expires from host if-match if-modified-since
if-none-match if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate
proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning
www-authenticate method get status 200~OK version HTTP/1.1 url public set-cookie keep-alive origin"""
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(
    pack("!I", len(word)) + word.replace("~", " ").encode() for word in _WORDS.split()
) + _TEXT.encode()  # fmt: skip


class ProtocolError(Exception):
    """The other side breaks the protocol; nothing that follows can be understood."""


class Opened(NamedTuple):
    """SYN_STREAM: the other side has opened a stream."""

    stream: int
    headers: dict[str, str]
    fin: bool


class Replied(NamedTuple):
    """SYN_REPLY: the other side has taken our stream."""

    stream: int
    headers: dict[str, str]
    fin: bool


class Data(NamedTuple):
    """Bytes of a stream. A frame that arrives in parts makes several; ``fin`` is only in the last."""

    stream: int
    data: bytes
    fin: bool


class Reset(NamedTuple):
    """RST_STREAM: nothing more comes on this stream, nor may be sent."""

    stream: int
    status: int


class Ping(NamedTuple):
    """PING: to be sent back as it is, if the other side began it (a server's ids are even, a client's odd)."""

    id: int


class GoAway(NamedTuple):
    """GOAWAY: the other side takes no more streams."""

    last: int
    status: int


Event = Opened | Replied | Data | Reset | Ping | GoAway


def data(stream: int, content: bytes = b"", *, fin: bool = False) -> bytes:
    """A DATA frame. ``content`` has less than 16 MiB."""
    return pack("!II", stream, (_FIN if fin else 0) << 24 | len(content)) + content


def reset(stream: int, status: int = CANCEL) -> bytes:
    """A RST_STREAM frame."""
    return _control(_RST_STREAM, 0, pack("!II", stream, status))


def ping(id: int) -> bytes:
    """A PING frame, or the answer to one."""
    return _control(_PING, 0, pack("!I", id))


def go_away(last: int = 0, status: int = 0) -> bytes:
    """A GOAWAY frame."""
    return _control(_GOAWAY, 0, pack("!II", last, status))


def _control(kind: int, flags: int, content: bytes) -> bytes:
    return pack("!HHI", _VERSION, kind, flags << 24 | len(content)) + content


class Session:
    """One end of a connection. Header names are lower case on the wire; several values of a name are joined by NUL."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(zdict=DICTIONARY)
        self._unpacker = zlib.decompressobj(zdict=DICTIONARY)
        self._rest = b""  # the beginning of a frame's head, or of a control frame
        self._stream = 0  # of the DATA frame being read
        self._fin = False
        self._left = -1  # bytes of that frame still to come; -1 between frames

    # -- what we say -------------------------------------------------------------------------------------------

    def open(self, stream: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        """A SYN_STREAM frame: clients open odd streams, servers even ones, each higher than the one before."""
        content = pack("!IIH", stream, 0, 0) + self._pack(headers)
        return _control(_SYN_STREAM, _FIN if fin else 0, content)

    def reply(self, stream: int, headers: Mapping[str, str] | None = None, *, fin: bool = False) -> bytes:
        """A SYN_REPLY frame."""
        return _control(_SYN_REPLY, _FIN if fin else 0, pack("!I", stream) + self._pack(headers or {}))

    def _pack(self, headers: Mapping[str, str]) -> bytes:
        parts = [pack("!I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                parts += (pack("!I", len(text)), text)
        return self._packer.compress(b"".join(parts)) + self._packer.flush(zlib.Z_SYNC_FLUSH)

    # -- what we hear ------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> list[Event]:
        """What has happened. Raises ProtocolError."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        events: list[Event] = []
        at, end = 0, len(data)
        while at < end or self._left == 0:
            if self._left >= 0:
                taken = data[at : at + self._left]
                at += len(taken)
                self._left -= len(taken)
                events.append(Data(self._stream, taken, self._fin and not self._left))
                self._left = self._left or -1
                continue
            if end - at < 8:
                break
            word, tail = unpack_from("!II", data, at)
            size = tail & 0xFFFFFF
            if not word >> 31:
                at += 8
                self._stream, self._fin, self._left = word, bool(tail >> 24 & _FIN), size
                continue
            if word >> 16 != _VERSION:
                raise ProtocolError(f"a frame of version {word >> 16 & 0x7FFF} instead of 3")
            if size > _MAX_CONTROL:
                raise ProtocolError(f"a control frame of {size} bytes")
            if end - at < 8 + size:
                break
            event = self._heard(word & 0xFFFF, tail >> 24, data[at + 8 : at + 8 + size])
            if event is not None:
                events.append(event)
            at += 8 + size
        self._rest = data[at:]
        return events

    def _heard(self, kind: int, flags: int, content: bytes) -> Event | None:
        """A control frame's meaning; None for what is passed over (SETTINGS, WINDOW_UPDATE, later HEADERS, unknown)."""
        least = {_SYN_STREAM: 10, _SYN_REPLY: 4, _RST_STREAM: 8, _PING: 4, _GOAWAY: 8, _HEADERS: 4}.get(
            kind, 0
        )
        if len(content) < least:
            raise ProtocolError(f"a control frame of type {kind} with {len(content)} bytes")
        fin = bool(flags & _FIN)
        stream = unpack_from("!I", content)[0] & 0x7FFFFFFF if least else 0
        if kind == _SYN_STREAM:
            return Opened(stream, self._unpack(content[10:]), fin)
        if kind == _SYN_REPLY:
            return Replied(stream, self._unpack(content[4:]), fin)
        if kind == _RST_STREAM:
            return Reset(stream, unpack_from("!I", content, 4)[0])
        if kind == _PING:
            return Ping(unpack_from("!I", content)[0])
        if kind == _GOAWAY:
            return GoAway(stream, unpack_from("!I", content, 4)[0])
        if kind == _HEADERS:
            self._unpack(content[4:])  # the compression runs through it
            return Data(stream, b"", True) if fin else None
        return None

    def _unpack(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._unpacker.decompress(block, _MAX_HEADERS)
            if self._unpacker.unconsumed_tail:
                raise ProtocolError(f"headers of more than {_MAX_HEADERS} bytes")
            return _headers(plain)
        except (zlib.error, ValueError) as error:
            raise ProtocolError(f"a header block cannot be read: {error}") from error


def _headers(plain: bytes) -> dict[str, str]:
    """An unpacked header block. Raises ValueError."""
    if not plain:
        return {}
    at = 0

    def number() -> int:
        nonlocal at
        if len(plain) - at < 4:
            raise ValueError("it ends early")
        at += 4
        return int(unpack_from("!I", plain, at - 4)[0])

    def text() -> str:
        nonlocal at
        size = number()
        if len(plain) - at < size:
            raise ValueError("it ends early")
        at += size
        return plain[at - size : at].decode("utf-8", "replace")

    headers: dict[str, str] = {}
    for _ in range(number()):
        name = text().lower()
        headers[name] = text()
    return headers

"""Header blocks (HPACK, RFC 7541), as far as a client without a dynamic table needs them.

Ours are written plainly: every header a literal, nothing indexed, nothing to remember on either side. Those of the
server may use the static table and Huffman codes; as we announce a dynamic table of size nothing, they never refer to
earlier blocks. That makes a block's meaning a function of its bytes: :class:`Blocks` decodes each one once. A server
sends a handful of different blocks (with a ``date`` line, one more a second)::

    88 5f 8b 1d 75 d0 62 0d 26 3d 4c 4d 65 64   ->  :status 200, content-type application/grpc
    40 88 9a ca c8 b2 12 34 da 8f 01 30 ...     ->  grpc-status 0, ...

The Huffman code is canonical: codes of one length are consecutive numbers in the order of their symbols, so the lengths
of appendix B are the whole table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

REMEMBERED = 256  # blocks

# Appendix A.
_STATIC: tuple[tuple[str, str], ...] = (
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    *((":status", code) for code in ("200", "204", "206", "304", "400", "404", "500")),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    *(
        (name, "")
        for name in [
            "accept-language",
            "accept-ranges",
            "accept",
            "access-control-allow-origin",
            "age",
            "allow",
            "authorization",
            "cache-control",
            "content-disposition",
            "content-encoding",
            "content-language",
            "content-length",
            "content-location",
            "content-range",
            "content-type",
            "cookie",
            "date",
            "etag",
            "expect",
            "expires",
            "from",
            "host",
            "if-match",
            "if-modified-since",
            "if-none-match",
            "if-range",
            "if-unmodified-since",
            "last-modified",
            "link",
            "location",
            "max-forwards",
            "proxy-authenticate",
            "proxy-authorization",
            "range",
            "referer",
            "refresh",
            "retry-after",
            "server",
            "set-cookie",
            "strict-transport-security",
            "transfer-encoding",
            "user-agent",
            "vary",
            "via",
            "www-authenticate",
        ]
    ),
)

# Appendix B: the length in bits of the code of each byte, and of the end-of-string symbol (256).
_LENGTHS = (
    "13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28 "
    "6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10 "
    "13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6 "
    "15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28 "
    "20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24 "
    "22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23 "
    "26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27 "
    "20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26 "
    "30"
)
_END = 256


def _codes() -> dict[tuple[int, int], int]:
    """(length, code) -> symbol."""
    codes: dict[tuple[int, int], int] = {}
    code = last = 0
    for length, symbol in sorted((int(length), symbol) for symbol, length in enumerate(_LENGTHS.split())):
        code <<= length - last
        codes[length, code] = symbol
        code, last = code + 1, length
    return codes


_CODES = _codes()


class BadBlock(ValueError):
    """The block is not one that a server may send us."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a block says, as far as a call is concerned. ``grpc`` is None when the block names no gRPC status."""

    http: int = 0
    grpc: int | None = None
    message: str = ""


# ---- ours


def literal(name: str, value: str) -> bytes:
    """A header that nobody shall remember, spelled out."""
    return b"\x00" + _string(name) + _string(value)


def request(scheme: str, authority: str, path: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """The block of a POST: pseudo headers first."""
    pseudo = ((":method", "POST"), (":scheme", scheme), (":path", path), (":authority", authority))
    return b"".join(literal(name, value) for name, value in (*pseudo, *fields))


# What the first block of a connection begins with: we keep no table, whatever the server would allow.
NO_TABLE = b"\x20"


def _string(text: str) -> bytes:
    data = text.encode("latin-1")
    return _integer(len(data), 7) + data


def _integer(value: int, bits: int) -> bytes:
    """Section 5.1, the bits before the prefix all zero."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((value,))
    out = bytearray((most,))
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


# ---- the server's


class Blocks:
    """Decoded blocks by their bytes."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """Raises :class:`BadBlock`."""
        known = self._known.get(block)
        if known is None:
            known = _head(decode(block))
            if len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[block] = known
        return known


def _head(fields: list[tuple[str, str]]) -> Head:
    http, grpc, message = 0, None, ""
    for name, value in fields:
        if name in (":status", "grpc-status"):
            if not (value.isascii() and value.isdigit() and len(value) < 4):
                raise BadBlock(f"{name} is {value!r}")
            if name == ":status":
                http = int(value)
            else:
                grpc = int(value)
        elif name == "grpc-message":
            message = unquote(value)
    return Head(http, grpc, message)


def decode(block: bytes) -> list[tuple[str, str]]:
    """The headers of a block, in order. Raises :class:`BadBlock`."""
    fields: list[tuple[str, str]] = []
    at = 0
    try:
        while at < len(block):
            first = block[at]
            if first & 0x80:  # indexed
                index, at = _read_integer(block, at, 7)
                fields.append(_static(index))
                continue
            if first & 0xE0 == 0x20:  # size of the table
                size, at = _read_integer(block, at, 5)
                if size or fields:
                    raise BadBlock("the server keeps a table that was not allowed")
                continue
            # Literals, to be remembered (nothing fits into a table of size nothing), not to be, or never to be.
            index, at = _read_integer(block, at, 6 if first & 0x40 else 4)
            if index:
                name = _static(index)[0]
            else:
                name, at = _read_string(block, at)
            value, at = _read_string(block, at)
            fields.append((name, value))
    except IndexError:
        raise BadBlock("the block ends in the middle of a header") from None
    return fields


def _static(index: int) -> tuple[str, str]:
    if not 0 < index <= len(_STATIC):
        raise BadBlock(f"the server refers to entry {index}, beyond the static table")
    return _STATIC[index - 1]


def _read_integer(data: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value = data[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        byte = data[at]
        at += 1
        value += (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 28:
            raise BadBlock("a number is too large")


def _read_string(data: bytes, at: int) -> tuple[str, int]:
    huffman = data[at] & 0x80
    length, at = _read_integer(data, at, 7)
    end = at + length
    if end > len(data):
        raise BadBlock("the block ends in the middle of a string")
    text = data[at:end]
    return (_huffman(text) if huffman else text).decode("latin-1"), end


def _huffman(data: bytes) -> bytes:
    out = bytearray()
    code = length = 0
    for byte in data:
        for bit in range(7, -1, -1):
            code = code << 1 | byte >> bit & 1
            length += 1
            symbol = _CODES.get((length, code))
            if symbol is None:
                continue
            if symbol == _END:
                raise BadBlock("a string holds the end-of-string symbol")
            out.append(symbol)
            code = length = 0
    if length > 7 or code != (1 << length) - 1:
        raise BadBlock("a string is not padded with ones")
    return bytes(out)

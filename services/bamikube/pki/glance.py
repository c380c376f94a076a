"""Who a certificate is for and how long it is good, read with nothing but the standard library.

What has been verified by the TLS layer need not be parsed by a library of seven megabytes in every service that only
wants to know a name::

    Certificate ::= SEQUENCE { TBSCertificate ::= SEQUENCE { [0] version, serial, algorithm, issuer,
                                                             validity { notBefore, notAfter }, subject, ... }, ... }
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

COMMON_NAME = b"\x55\x04\x03"  # 2.5.4.3
ORGANIZATION = b"\x55\x04\x0a"  # 2.5.4.10
_BMP, _UNIVERSAL, _LATIN = 0x1E, 0x1C, 0x14
_SEQUENCE, _SET, _OID, _UTC_TIME, _TIME = 0x30, 0x31, 0x06, 0x17, 0x18


@dataclass(frozen=True, slots=True)
class Glance:
    """``good_until``: seconds since the epoch."""

    common_name: str
    organizations: tuple[str, ...]
    good_until: float


def of_der(der: bytes) -> Glance:
    """Raises ValueError for what is no certificate."""
    parts = list(_items(_inside(_inside(der, _SEQUENCE), _SEQUENCE)))
    if parts and parts[0][0] == 0xA0:
        parts = parts[1:]  # the version
    if len(parts) < 6:
        raise ValueError("not a certificate: it has too few parts")
    times = list(_items(_of(parts[3], _SEQUENCE)))
    if len(times) != 2:
        raise ValueError("not a certificate: it has no time")
    names: list[tuple[bytes, str]] = []
    for relative in _items(_of(parts[4], _SEQUENCE)):
        for pair in _items(_of(relative, _SET)):
            found = list(_items(_of(pair, _SEQUENCE)))
            if len(found) != 2:
                raise ValueError("not a certificate: a name has no value")
            names.append((_of(found[0], _OID), _text(*found[1])))
    common = [text for kind, text in names if kind == COMMON_NAME]
    organizations = tuple(text for kind, text in names if kind == ORGANIZATION)
    return Glance(common[0] if common else "", organizations, _time(*times[1]))


def of_pem(pem: bytes) -> Glance:
    """The first certificate of a PEM text. Raises ValueError when there is none."""
    begin, end = ssl.PEM_HEADER, ssl.PEM_FOOTER
    _, found, rest = pem.decode("latin-1").partition(begin)
    body, closed, _ = rest.partition(end)
    if not found or not closed:
        raise ValueError("no certificate in PEM")
    return of_der(ssl.PEM_cert_to_DER_cert(f"{begin}{body}{end}"))


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element, one after the other. Raises ValueError where a length is wrong."""
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError("not a certificate: it ends too early")
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4 or at + size > len(data):
                raise ValueError("not a certificate: a length is wrong")
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("not a certificate: it ends too early")
        yield tag, data[at : at + length]
        at += length


def _of(item: tuple[int, bytes], tag: int) -> bytes:
    if item[0] != tag:
        raise ValueError("not a certificate: its parts are not in their places")
    return item[1]


def _inside(data: bytes, tag: int) -> bytes:
    """The content of the first element."""
    first = next(_items(data), None)
    if first is None:
        raise ValueError("not a certificate: it is empty")
    return _of(first, tag)


def _text(tag: int, data: bytes) -> str:
    coding = {_BMP: "utf-16-be", _UNIVERSAL: "utf-32-be", _LATIN: "latin-1"}.get(tag, "utf-8")
    return data.decode(coding)  # an UnicodeDecodeError is a ValueError


def _time(tag: int, data: bytes) -> float:
    text = data.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = ("20" if text[:2] < "50" else "19") + text
    elif tag != _TIME:
        raise ValueError("not a certificate: its time is none")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()

"""The DNS wire format, as much as an answering server needs (RFC 1035, RFC 2782, RFC 6891).

Names are kept as bytes in wire form, lower case: ``\\x03web\\x07default\\x03svc...\\x00``. A record is packed once;
answering is joining bytes. dnslib reads what others send us (upstream answers); nothing on the way of a cluster name
builds an object.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
TYPE_NAMES = {
    A: "A",
    NS: "NS",
    CNAME: "CNAME",
    SOA: "SOA",
    PTR: "PTR",
    TXT: "TXT",
    AAAA: "AAAA",
    SRV: "SRV",
    ANY: "ANY",
}
RCODE_NAMES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")

QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
POINTER_TO_QUESTION = b"\xc0\x0c"

# What fits a UDP answer to a client that says nothing (RFC 1035), and what we claim to take ourselves (DNS flag day).
PLAIN_UDP = 512
OWN_UDP = 1232


def name(text: str) -> bytes:
    """A name in wire form, lower case. Raises ValueError where a label or the name is too long."""
    parts = [part for part in text.lower().rstrip(".").split(".") if part]
    out = b""
    for part in parts:
        label = part.encode()
        if len(label) > 63:
            raise ValueError(f"{part!r} is too long for a DNS label: 63 bytes at most")
        out += bytes([len(label)]) + label
    if len(out) > 254:
        raise ValueError(f"{text!r} is too long for a DNS name: 255 bytes at most")
    return out + b"\0"


def shown(wire: bytes) -> str:
    """A wire name as text, with the final dot."""
    parts = []
    offset = 0
    while wire[offset]:
        size = wire[offset]
        parts.append(wire[offset + 1 : offset + 1 + size].decode("latin-1"))
        offset += size + 1
    return ".".join(parts) + "."


def parents(wire: bytes, stop: bytes) -> list[bytes]:
    """The names above ``wire`` and below ``stop``."""
    found: list[bytes] = []
    while True:
        wire = wire[wire[0] + 1 :]
        if len(wire) <= len(stop):
            return found
        found.append(wire)


def record(owner: bytes, kind: int, ttl: int, data: bytes) -> bytes:
    return owner + struct.pack(">HHIH", kind, IN, ttl, len(data)) + data


def address(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def srv(priority: int, weight: int, port: int, target: bytes) -> bytes:
    return struct.pack(">HHH", priority, weight, port) + target


def soa(primary: bytes, mailbox: bytes, serial: int, minimum: int) -> bytes:
    return primary + mailbox + struct.pack(">IIIII", serial & 0xFFFFFFFF, 7200, 1800, 86400, minimum)


def reverse(text: str) -> bytes:
    """The name under ``in-addr.arpa`` or ``ip6.arpa`` of an address."""
    if ":" in text:
        digits = address(text).hex()
        return name(".".join(reversed(digits)) + ".ip6.arpa")
    return name(".".join(reversed(text.split("."))) + ".in-addr.arpa")


@dataclass(frozen=True, slots=True)
class Question:
    """A query. ``raw`` is the question section as sent, letters in their original case. ``size`` is what the client
    takes over UDP; ``edns``: it sent an OPT record, so it gets one."""

    identifier: int
    flags: int
    owner: bytes
    kind: int
    klass: int
    raw: bytes
    size: int = PLAIN_UDP
    edns: bool = False
    version: int = 0

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 15


def parse(data: bytes) -> Question | None:
    """The question of a query; None for what is not one (an answer, no or several questions, broken)."""
    if len(data) < 17:
        return None
    identifier, flags, questions, answers, authority, additional = struct.unpack_from(">HHHHHH", data)
    if flags & QR or questions != 1:
        return None
    offset = 12
    try:
        while size := data[offset]:
            if size > 63:
                return None
            offset += size + 1
        end = offset + 5
        kind, klass = struct.unpack_from(">HH", data, offset + 1)
        owner = data[12 : offset + 1].lower()
        if len(owner) > 255:
            return None
        limit, edns, version = PLAIN_UDP, False, 0
        if additional and not answers and not authority:
            # an OPT record has the root as its owner and the size in place of a class
            at = end
            for _ in range(additional):
                if data[at]:
                    break  # some other record first: nobody does that
                record_kind, wanted, _extended, version, _z, length = struct.unpack_from(
                    ">HHBBHH", data, at + 1
                )
                if record_kind == OPT:
                    limit, edns = max(PLAIN_UDP, wanted), True
                    break
                at += 11 + length
    except (IndexError, struct.error):
        return None
    return Question(identifier, flags, owner, kind, klass, data[12:end], limit, edns, version)


def respond(
    question: Question,
    rcode: int,
    *,
    answers: bytes = b"",
    count: int = 0,
    authority: bytes = b"",
    authorities: int = 0,
    extra: bytes = b"",
    extras: int = 0,
    authoritative: bool = True,
    limit: int = 65535,
) -> bytes:
    """A whole answer. Beyond ``limit`` bytes extras are left out, then everything, with the truncation flag set."""
    flags = QR | RA | (question.flags & (RD | 0x7800)) | (AA if authoritative else 0) | rcode & 15
    opt = b""
    if question.edns:
        opt = b"\0" + struct.pack(">HHBBHH", OPT, OWN_UDP, rcode >> 4, 0, 0, 0)
    used = 12 + len(question.raw) + len(answers) + len(authority) + len(opt)
    if used + len(extra) > limit:
        extra, extras = b"", 0
    if used > limit:
        flags |= TC
        answers = authority = b""
        count = authorities = 0
    head = struct.pack(
        ">HHHHHH", question.identifier, flags, 1, count, authorities, extras + (1 if opt else 0)
    )
    return head + question.raw + answers + authority + extra + opt

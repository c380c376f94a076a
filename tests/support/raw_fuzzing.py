"""Bytes nobody should send, for a socket: HTTP whose framing is broken, and bodies in every form that are damaged.

A :class:`RawFuzzer` makes one :class:`Shot` after the other from a seed: the pieces to be written, one write each, and
whether the client then hangs up at once. Most begin as a valid request in which a few bytes are not.
"""

from __future__ import annotations

import gzip
import itertools
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

import orjson
import yaml

from bamikube.api import protobuf, table
from bamikube.api.resources import Resource
from tests.support.objects import example, where

HOST = b"Host: x\r\n"
MAPS = "/api/v1/namespaces/default/configmaps"
JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
PATCHES = ("merge-patch+json", "strategic-merge-patch+json", "json-patch+json", "apply-patch+yaml")
DEEP = 10_000  # levels

# What damaged bytes are mixed with.
_NASTY = (
    b"\r", b"\n", b"\r\n", b"\0", b"\xff", b"\x80", b":", b" ", b"\t", b"%00", b"%", b"\xed\xa0\x80", b"\\ud800",
    b"1e999", b"-1e999", b"99999999999999999999999999", b"-9223372036854775809", b"NaN", b"{", b"[", b'"', b"}", b"&a",
    b"*a", b"<<: ", b"!!python/name:os", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"a" * 300,
)  # fmt: skip
_TARGETS = (
    "*", "/", "//", "///api", "http://x/api", "HTTP://x:99999/api", "https://[::1/version", "x:443", "/%", "/%zz", "/%00",
    "/api/v1/..", "/api/%2e%2e/apis", "/api/v1/namespaces/%2F/pods", "/api/v1/namespaces/a%2fb/pods/%00", "/\\api",
    "/api/v1?", "/api/v1/pods?%", "/api/v1/pods?limit=%00", "/api/v1/pods?labelSelector=%ff%fe", "/api/v1/pods?a=b&&=&c",
    "/api/v1/pods?watch=1&timeoutSeconds=1", "/api#x", "/api/v1/namespaces/default/pods/x/log?tailLines=1e9", "?", "#",
    "/openapi/v3/%2e%2e", "/apis/%20/v1", "/api/v1/" + "a/" * 2000, "/" + "a" * 9000, "/api/v1/pods?" + "a=b&" * 4000,
    "/api/v1/pods?fieldSelector=" + "metadata.name%3Da," * 500, "/healthz/../metrics", "/version;x=y", "/livez?exclude=%00",
)  # fmt: skip
_FRAMINGS = (
    b"Content-Length: 2\r\nContent-Length: 3\r\n", b"Content-Length: 2\r\nContent-Length: 2\r\n", b"Content-Length: +2\r\n",
    b"Content-Length: 0x2\r\n", b"Content-Length: 2, 2\r\n", b"Content-Length : 2\r\n", b"Content-Length: \r\n",
    b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding:\x0bchunked\r\n",
    b" Content-Length: 2\r\n", b"Content-Length: 2\r\n folded\r\n", b"Expect: 100-continue\r\nContent-Length: 2\r\n",
    b"Expect: nonsense\r\nContent-Length: 2\r\n", b"Content-Length: 99999999999999999999\r\n", b"Content-Length: -2\r\n",
)  # fmt: skip
_CHUNKS = (
    b"2\r\n{}\r\n0\r\n\r\n", b"2;a=b;c\r\n{}\r\n0\r\n\r\n", b"02\r\n{}\r\n00\r\n\r\n", b"2\n{}\n0\n\n", b"-2\r\n{}\r\n0\r\n\r\n",
    b"0x2\r\n{}\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n", b"7fffffffffffffff\r\n{}", b"2\r\n{}0\r\n\r\n", b"\r\n\r\n",
    b"2\r\n{}\r\n0\r\nTrailer: x\r\n\r\n", b"2\r\n{}\r\n0\r\n" + b"T: x\r\n" * 300 + b"\r\n", b"2;" + b"a" * 70000 + b"\r\n{}\r\n",
    b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", b" 2\r\n{}\r\n0\r\n\r\n", b"2\r\r\n{}\r\n0\r\n\r\n", b"g\r\n{}\r\n0\r\n\r\n", b"1\r\n{}\r\n0\r\n\r\n",
)  # fmt: skip


@dataclass(frozen=True)
class Shot:
    """What one connection sends. ``abrupt``: and goes, without waiting for an answer. ``plain``: without TLS."""

    kind: str
    pieces: tuple[bytes, ...]
    abrupt: bool = False
    plain: bool = False

    def __str__(self) -> str:
        told = ", ".join(f"{piece[:700]!r} ({len(piece)} bytes)" for piece in self.pieces[:4])
        return f"{self.kind}: {told}{' and gone' * self.abrupt}"


def request(method: str, target: str, body: bytes = b"", media: str = JSON, more: bytes = b"") -> bytes:
    """A well-framed request."""
    head = f"{method} {target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape") + HOST + more
    if method in ("POST", "PUT", "PATCH", "DELETE"):
        head += f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n".encode()
    return head + b"\r\n" + body


class RawFuzzer:
    """Makes shots. The same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._rows = [row for row in table.TABLE if not row.virtual and table.storage_row(row) is row]
        self._makers: tuple[Callable[[], Shot], ...] = (
            self._framing, self._framing, self._chunked, self._lengths, self._target, self._flood, self._early,
            self._pipeline, self._http2, self._packed, self._body, self._body, self._body, self._protobuf,
            self._protobuf, self._deep, self._patch, self._upgrade, self._noise,
        )  # fmt: skip

    def shot(self) -> Shot:
        return self.random.choice(self._makers)()

    # -- damage ---------------------------------------------------------------------------------------------------

    def damaged(self, data: bytes) -> bytes:
        """The same with one to four places overwritten, cut out, doubled or filled with something nasty."""
        dice = self.random
        for _ in range(dice.choice((1, 1, 2, 4))):
            at = dice.randrange(len(data) + 1)
            end = min(len(data), at + dice.choice((1, 1, 2, 8)))
            match dice.randrange(5):
                case 0:
                    data = data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
                case 1:
                    data = data[:at] + data[end:]
                case 2:
                    data = data[:end] + data[at:]
                case 3:
                    data = data[:at]
                case _:
                    data = data[:at] + dice.choice(_NASTY) + data[at:]
        return data

    def _cut(self, data: bytes) -> tuple[bytes, ...]:
        """In one piece or in a few."""
        dice = self.random
        if dice.random() < 0.7 or len(data) < 2:
            return (data,)
        cuts = sorted(dice.randrange(1, len(data)) for _ in range(dice.choice((1, 2, 5))))
        edges = [0, *cuts, len(data)]
        return tuple(data[one:two] for one, two in itertools.pairwise(edges) if two > one)

    def _some(self) -> tuple[Resource, dict[str, object]]:
        row = self.random.choice(self._rows)
        return row, example(row, f"raw-{self.random.randrange(20)}")

    @staticmethod
    def _dry(row: Resource) -> str:
        return f"{where(row)}?dryRun=All"

    # -- HTTP -----------------------------------------------------------------------------------------------------

    def _framing(self) -> Shot:
        whole = self.random.choice(
            (
                request("GET", "/api/v1/namespaces/default"),
                request("GET", MAPS, more=b"Accept: application/json;as=Table;g=meta.k8s.io;v=v1\r\n"),
                request("POST", f"{MAPS}?dryRun=All", b'{"metadata":{"name":"a"},"data":{"a":"b"}}'),
                request("DELETE", f"{MAPS}/nope", b'{"propagationPolicy":"Orphan"}'),
                request("OPTIONS", "*", more=b"Connection: keep-alive, x\r\nTE: trailers\r\n"),
            )
        )
        return Shot("damaged request", self._cut(self.damaged(whole)))

    def _chunked(self) -> Shot:
        head = f"POST {MAPS}?dryRun=All HTTP/1.1\r\n".encode() + HOST
        head += b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = self.random.choice(_CHUNKS)
        return Shot("chunks", self._cut(head + (self.damaged(body) if self.random.random() < 0.4 else body)))

    def _lengths(self) -> Shot:
        head = f"POST {MAPS}?dryRun=All HTTP/1.1\r\n".encode() + HOST + self.random.choice(_FRAMINGS)
        tail = self.random.choice((b"{}", b"2\r\n{}\r\n0\r\n\r\n", b"", request("GET", "/version")))
        return Shot("lengths", self._cut(head + b"\r\n" + tail))

    def _target(self) -> Shot:
        method = self.random.choice(("GET", "GET", "POST", "PATCH", "CONNECT", "BREW", "get"))
        target = self.random.choice(_TARGETS)
        if self.random.random() < 0.3:
            target = self.damaged(target.encode()).decode("latin-1")
        return Shot("target", (request(method, target),))

    def _flood(self) -> Shot:
        dice = self.random
        many = dice.choice((100, 127, 200, 5000))
        more = dice.choice(
            (
                b"".join(b"X-%d: a\r\n" % number for number in range(many)),
                b"Accept: application/json\r\n" * many,
                b"X: " + b"a" * dice.choice((8000, 60000, 70000, 1 << 20)) + b"\r\n",
                b"Accept: " + b"application/json;q=0.1," * 2000 + b"\r\n",
                b"a" * 70000 + b": x\r\n",
                b"Cookie: \xff\xfe\xfd\r\nAuthorization: Bearer " + b"." * 5000 + b"\r\n",
                b"Impersonate-User: a\r\n" + b"Impersonate-Extra-%ff: a\r\n" * 50,
                b"Accept-Encoding: gzip;q=x, \0, deflate\r\n",
            )
        )
        return Shot("headers", self._cut(request("GET", dice.choice(("/version", MAPS)), more=more)))

    def _early(self) -> Shot:
        dice = self.random
        whole = request("POST", f"{MAPS}?dryRun=All", b'{"metadata":{"name":"a"}}' + b" " * 5000)
        piece = whole[: dice.randrange(len(whole))]
        parts = tuple(piece[at : at + 400] for at in range(0, len(piece), 400)) or (b"",)
        return Shot("early close", parts, abrupt=dice.random() < 0.7)

    def _pipeline(self) -> Shot:
        dice = self.random
        some = (
            request("GET", "/version"), request("GET", f"{MAPS}/nope"), request("GET", f"{MAPS}?limit=1"),
            request("POST", f"{MAPS}?dryRun=All", b"{}"), request("GET", f"{MAPS}?watch=1&timeoutSeconds=1"),
            b"\r\n", self.damaged(request("GET", "/version")),
        )  # fmt: skip
        whole = b"".join(dice.choices(some, k=dice.choice((2, 5, 60))))
        return Shot("pipeline", self._cut(whole), abrupt=dice.random() < 0.3)

    def _http2(self) -> Shot:
        dice = self.random
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        frames = b"".join(
            struct.pack(">I", dice.randrange(1 << 15))[1:] + dice.randbytes(6 + dice.randrange(40))
            for _ in range(5)
        )
        upgrade = request(
            "GET",
            "/version",
            more=b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n",
        )
        return Shot("HTTP/2", (dice.choice((preface + frames, preface[:9], upgrade + preface + frames)),))

    def _packed(self) -> Shot:
        dice = self.random
        body = gzip.compress(b'{"metadata":{"name":"a"}}' + b" " * dice.choice((10, 8_000_000)), 1)
        coding = dice.choice((b"gzip", b"deflate", b"br", b"zstd", b"x-gzip", b"gzip, gzip", b"\xff"))
        body = self.damaged(body) if dice.random() < 0.6 else body
        more = b"Content-Encoding: " + coding + b"\r\n"
        return Shot("packed", self._cut(request("POST", f"{MAPS}?dryRun=All", body, more=more)))

    def _upgrade(self) -> Shot:
        dice = self.random
        protocol = dice.choice((b"websocket", b"SPDY/3.1", b"nonsense"))
        more = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\nSec-WebSocket-Version: 13\r\n"
        more += b"Sec-WebSocket-Key: " + dice.choice((b"dGhlIHNhbXBsZSBub25jZQ==", b"x", b"\xff")) + b"\r\n"
        target = dice.choice(
            (f"{MAPS}?watch=1&timeoutSeconds=1", "/api/v1/namespaces/default/pods/x/exec?command=a")
        )
        return Shot(
            "upgrade", (request("GET", target, more=more), dice.randbytes(dice.choice((0, 2, 14, 300))))
        )

    def _noise(self) -> Shot:
        data = self.random.randbytes(self.random.choice((1, 30, 3000)))
        return Shot("noise", (data,), abrupt=self.random.random() < 0.3, plain=self.random.random() < 0.5)

    # -- bodies ---------------------------------------------------------------------------------------------------

    def _body(self) -> Shot:
        row, obj = self._some()
        media, body = self.random.choice(
            ((JSON, orjson.dumps(obj)), (JSON, orjson.dumps(obj)), (YAML, yaml.safe_dump(obj).encode()))
        )
        return Shot("damaged body", (request("POST", self._dry(row), self.damaged(body), media),))

    def _protobuf(self) -> Shot:
        dice = self.random
        row, obj = self._some()
        if dice.random() < 0.15 or not protobuf.can_encode(row.api_version, row.kind):
            body = b"k8s\0" + dice.randbytes(dice.choice((0, 3, 40, 400)))
        else:
            body = protobuf.encode(obj)
            body = body[: dice.randrange(len(body))] if dice.random() < 0.3 else self.damaged(body)
        return Shot("protobuf", (request("POST", self._dry(row), body, PROTOBUF),))

    def _deep(self) -> Shot:
        """Nesting as deep as a body may be long, in every form."""
        dice = self.random
        levels = dice.choice((60, 500, DEEP))
        inner = b""
        for _ in range(
            min(levels, 2000)
        ):  # a message within a message: each level carries all lengths below it
            inner = b"\x0a" + _varint(len(inner)) + inner
        media, body = dice.choice(
            (
                (JSON, b'{"metadata":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"),
                (JSON, b'{"data":' + b"[" * levels),
                (YAML, b"metadata: " + b"{a: " * levels + b"1" + b"}" * levels),
                (YAML, b"data:\n" + b"".join(b" " * n + b"- \n" for n in range(min(levels, 700)))),
                (YAML, b"data: " + b"? " * levels),
                (PROTOBUF, b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12" + _varint(len(inner)) + inner),
            )
        )
        if dice.random() < 0.5:
            return Shot("deep", (request("POST", f"{MAPS}?dryRun=All", body, media),))
        kind = f"application/{dice.choice(PATCHES)}"
        return Shot("deep", (request("PATCH", f"{MAPS}/raw?fieldManager=a&dryRun=All", body, kind),))

    def _patch(self) -> Shot:
        kind = self.random.choice(PATCHES)
        value = self.random.choice((1, "x", None, [], {"a": None}, 2**63 - 1, 1e308))
        patch: object = {"data": {"a": value, "$patch": "replace"}, "metadata": {"labels": {"b": "c"}}}
        if kind.startswith("json-patch"):
            patch = [
                {"op": "add", "path": "/data/a~1b~0", "value": value},
                {"op": "test", "path": "", "value": {}},
            ]
        if kind.startswith("apply"):
            patch = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "raw"},
                "data": {"a": value},
            }
        body = self.damaged(orjson.dumps(patch))
        target = f"{MAPS}/raw?fieldManager=a&dryRun=All"
        return Shot("patch", (request("PATCH", target, body, f"application/{kind}"),))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)

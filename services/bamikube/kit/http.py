"""An HTTP exchange as plain values: what lies between the edges.

The API server's core is ``handle(Request) -> Answer``. The same function is served over TLS by
:mod:`bamikube.kit.httpserver` and called directly by the client's in-process transport, so a simulation needs no
socket. An answer is one of three things:

* :class:`Response` - status, headers and a body that is complete;
* :class:`Stream`   - status and headers now, chunks as they come (watches, ``logs -f``);
* :class:`Tunnel`   - the raw connection is handed over after the request head (exec, attach, port-forward, proxy).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl, unquote

from bamikube.api.memory import remembered


@remembered(1024)
def _pairs(raw_query: str) -> tuple[tuple[str, str], ...]:
    """The parameters of a query, in order. A client asks with the same ones again and again."""
    return tuple(parse_qsl(raw_query, keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as far as the connection itself tells.

    ``certificate`` holds the DER bytes of a client certificate that the TLS layer has verified, else None.
    """

    address: str = ""
    certificate: bytes | None = None


@dataclass(slots=True)
class Request:
    """One request. ``path`` is percent-decoded, ``raw_path`` and ``raw_query`` are as sent; header names are lower case."""

    method: str
    path: str
    raw_query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer: Peer = field(default_factory=Peer)
    raw_path: str = ""
    _query: dict[str, list[str]] | None = None

    @classmethod
    def make(
        cls,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        peer: Peer | None = None,
    ) -> Request:
        """A request for ``target`` (path and optional query, percent-encoded)."""
        raw_path, _, raw_query = target.partition("?")
        return cls(method, unquote(raw_path), raw_query, headers or {}, body, peer or Peer(), raw_path)

    @property
    def query(self) -> dict[str, list[str]]:
        """Query parameters, each with all its values in order."""
        if self._query is None:
            parsed: dict[str, list[str]] = {}
            for name, value in _pairs(self.raw_query):
                parsed.setdefault(name, []).append(value)
            self._query = parsed
        return self._query

    def param(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else default

    def flag(self, name: str) -> bool:
        """A boolean query parameter as Go's ``strconv.ParseBool`` reads it; present without a value means true."""
        values = self.query.get(name)
        return values is not None and values[0] not in ("0", "f", "F", "false", "FALSE", "False")


@dataclass(slots=True)
class Response:
    """A complete answer. ``body`` may be a list of chunks that the edge joins (spliced lists)."""

    status: int
    body: bytes | list[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def joined(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else b"".join(self.body)


# Writes a chunk at once. False, with nothing written, when the connection takes no more at present.
Sink = Callable[[bytes], bool]


@dataclass(slots=True)
class Stream:
    """An answer whose body is still being made. The edge closes ``chunks`` when the client goes away.

    ``direct``, if given, is called with the edge's sink once the head is written: while ``chunks`` is waited for and
    everything before has been taken, a chunk may go to the sink instead, which costs no turn of the stream's task.
    Callers without a connection (the in-process transport) leave it alone.
    """

    status: int
    chunks: AsyncIterator[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    direct: Callable[[Sink], None] | None = None


class RawConnection(Protocol):
    """A connection whose bytes are nobody's business any more."""

    @property
    def half_closable(self) -> bool:
        """Whether one direction can be ended alone (TLS cannot)."""

    async def read(self) -> bytes:
        """The next bytes, ``b""`` at the end."""

    async def write(self, data: bytes) -> None: ...

    async def write_eof(self) -> None:
        """End our direction; only where the connection is half-closable."""

    def close(self) -> None: ...


@dataclass(slots=True)
class Tunnel:
    """Hand the raw connection to ``serve``, which writes the answer's head itself."""

    serve: Callable[[RawConnection], Awaitable[None]]


Answer = Response | Stream | Tunnel
Handler = Callable[[Request], Awaitable[Answer]]

"""GETs answered between two reads of a socket, without a task of their own.

Most requests of a cluster are small GETs over a connection that sends the same header lines again and again. For
those the parser, the task and the bookkeeping of the HTTP library cost more than the answer. So a chunk of bytes that

* begins where the message before it ended,
* is exactly one ``GET`` head, and
* repeats a block of header lines that the library's parser has read and understood before, byte for byte,

is taken apart here: only its request line is new. A :class:`Quick` handler may take the request and answer at once
or a little later; whatever it does not take goes the ordinary way, which is also what teaches us header blocks::

    GET /a HTTP/1.1 + block  -> block unknown: library parses, block is remembered
    GET /b HTTP/1.1 + block  -> block known: quick(request) -> True, answered in one write
    GET /c?x HTTP/1.1 + block-> quick says False: library
    POST / ...               -> library; its length says where the next message begins

Whenever it is not certain where the next message begins (chunked bodies, heads in several pieces, pipelining into a
body) the connection goes the ordinary way for the rest of its life. Nothing about a *request* is remembered, least of
all who was allowed to make it: the handler decides that anew each time.

This file leans on private attributes of aiohttp's ``RequestHandler`` (``_waiter``, ``_messages``, ``_close``,
``_force_close``, ``_upgraded``, ``_request_in_progress``, ``_handler_waiter``, ``_next_keepalive_close_time``); the
range of versions in ``pyproject.toml`` is closed for that reason, and the tests compare both ways.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, Protocol

from bamikube.kit.http import Peer, Request, Response
from bamikube.kit.lean import http_parser, web_protocol

log = logging.getLogger(__name__)

HEADS = 1024  # header blocks remembered
MAX_BLOCK = 8 * 1024  # bytes of a block worth remembering

_TARGET = re.compile(rb"/[!-~]*")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*\r\n")
# Anything that makes a message more than a head that asks for something.
_UNUSUAL = frozenset({"content-length", "transfer-encoding", "expect", "upgrade", "te", "trailer"})

Reply = Callable[[Response | None], None]
Notes = dict[str, Any]
WriteQuick = Callable[[asyncio.Transport, Request, Response], None]


class Quick(Protocol):
    """Takes a GET or leaves it.

    True: ``reply`` was called or will be, once; with None when the ordinary way shall answer after all. ``notes``
    belong to the header block: what follows from the headers alone may be kept there.
    """

    def __call__(self, request: Request, notes: Notes, reply: Reply) -> bool: ...


class Heads:
    """The header blocks of one server: bytes -> parsed headers and notes."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[dict[str, str], Notes]] = {}

    def get(self, block: bytes) -> tuple[dict[str, str], Notes] | None:
        return self._known.get(block)

    def learn(self, block: bytes, headers: dict[str, str]) -> None:
        if len(block) > MAX_BLOCK or not _UNUSUAL.isdisjoint(headers):
            return
        if headers.get("connection", "keep-alive").lower() != "keep-alive":
            return
        if len(self._known) >= HEADS:
            self._known.pop(next(iter(self._known)))
        self._known[block] = (headers, {})


def plain_headers(message: http_parser.RawRequestMessage) -> dict[str, str]:
    """Header names in lower case; what was sent several times is joined."""
    headers: dict[str, str] = {}
    for name, value in message.headers.items():
        name = name.lower()
        if not value.isascii():
            # Bytes that are no UTF-8 came as surrogates, which nothing can write again.
            value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if name in headers:
            # Sent several times: identities keep their commas, everything else is a list (RFC 9110 5.3).
            joint = "\n" if name.startswith(("x-remote-", "impersonate-")) else ", "
            value = f"{headers[name]}{joint}{value}"
        headers[name] = value
    return headers


class InlineHandler(web_protocol.RequestHandler):
    """A connection that offers its simple GETs to ``quick`` first."""

    def __init__(
        self, manager: Any, quick: Quick | None, heads: Heads, write: WriteQuick, **options: Any
    ) -> None:
        super().__init__(manager, **options)
        self.peer = Peer()
        self._write_quick = write
        self._quick = quick
        self._heads = heads
        self._rest = 0 if quick is not None else -1  # bytes until the next message begins; -1: nobody knows
        self._held: list[bytes] | None = None  # what arrived while a quick answer was on its way

    def data_received(self, data: bytes) -> None:
        if self._held is not None and data:
            if not self._held and self.transport is not None:
                self.transport.pause_reading()
            self._held.append(data)
            return
        if self._rest == 0 and data[:5] == b"GET /" and data.find(b"\r\n\r\n") == len(data) - 4:
            end = data.index(b"\r\n")
            block = data[end:]
            head = self._heads.get(block)
            if head is None:
                self._learn(data, block)
            elif not self._idle() or not self._offer(data, end, head):
                super().data_received(data)
            return
        if data:
            self._account(data)
        super().data_received(data)

    def _idle(self) -> bool:
        """Whether everything that came before has been answered, and the library waits for more."""
        waiter = self._waiter
        return (
            waiter is not None
            and not waiter.done()
            and not self._messages
            and not (self._close or self._force_close or self._upgraded or self.writing_paused)
            and self._payload_parser is None
        )

    def _learn(self, data: bytes, block: bytes) -> None:
        self._account(data)
        waiting = len(self._messages)
        super().data_received(data)
        if len(self._messages) != waiting + 1:
            return
        message = self._messages[-1][0]
        if not isinstance(message, http_parser.RawRequestMessage) or message.upgrade or message.should_close:
            return
        if message.method == "GET" and message.version == (1, 1) and not message.chunked:
            self._heads.learn(block, plain_headers(message))

    def _account(self, data: bytes) -> None:
        """Keep track of where the next message begins, as long as that is certain."""
        if self._rest > 0:
            self._rest = self._rest - len(data) if len(data) <= self._rest else -1
        elif self._rest == 0:
            self._rest = -1
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = data[: end + 4].lower()
            if b"transfer-encoding" in head or b"upgrade" in head:
                return
            lengths = head.count(b"content-length")
            found = _LENGTH.search(head)
            if lengths == 0 or (lengths == 1 and found is not None):
                length = int(found.group(1)) if found is not None else 0
                self._rest = max(length - (len(data) - end - 4), -1)

    def _offer(self, data: bytes, end: int, head: tuple[dict[str, str], Notes]) -> bool:
        target = data[4 : end - 9]
        if self._quick is None or data[end - 9 : end] != b" HTTP/1.1" or not _TARGET.fullmatch(target):
            return False
        headers, notes = head
        request = Request.make("GET", target.decode("ascii"), headers=headers, peer=self.peer)
        self._held = []
        self._request_in_progress = True  # a graceful stop waits for the answer
        try:
            taken = self._quick(request, notes, lambda answer: self._replied(data, request, answer))
        except Exception:
            log.exception("GET %s could not be answered at once", request.raw_path)
            taken = False
        if not taken:
            self._held = None
            self._request_in_progress = False
        return taken

    def _replied(self, data: bytes, request: Request, answer: Response | None) -> None:
        held, self._held = self._held or [], None
        self._request_in_progress = False
        transport = self.transport
        if transport is not None and not transport.is_closing():
            if answer is None:
                super().data_received(data)
            else:
                self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                self._write_quick(transport, request, answer)
            if held:
                transport.resume_reading()
                for chunk in held:
                    self.data_received(chunk)
        stopping = self._handler_waiter
        if stopping is not None and not stopping.done():
            stopping.set_result(None)

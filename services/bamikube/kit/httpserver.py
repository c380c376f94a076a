"""The HTTP edge: sockets, TLS and HTTP/1.1 on one side, :class:`~bamikube.kit.http.Handler` on the other.

aiohttp's low-level server parses; what is written is written here, because that is where the time goes: an answer
is one head and one body in a single ``transport.write``. Per request::

    bytes -> aiohttp parser -> Request -> handle(Request) -> Response | Stream | Tunnel -> bytes

* a body over ``max_body`` bytes is answered 413 with a ``Status`` object, a head that is too long 431 (as Go's server
  does, for targets as well as for headers), what cannot be parsed 400;
* a new connection that asks for nothing, and a body that does not come, are not waited for without end;
* a complete answer above 128 KiB is gzipped for clients that ask for it (the threshold of the Kubernetes API);
* a :class:`Stream` is written chunk by chunk; when the client goes away its task is cancelled and the iterator closed;
* a :class:`Tunnel` gets the connection itself: the transport changes its protocol, and what the parser had already
  read beyond the request head is handed over first.

Only HTTP/1.1 is offered: measured from Python, HTTP/2 costs more than it gives, and every client falls back.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl as tls
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import orjson
from isal import igzip

from bamikube.api import errors
from bamikube.kit.http import Handler, Peer, Request, Response, Stream, Tunnel
from bamikube.kit.inline import Heads, InlineHandler, Quick, plain_headers
from bamikube.kit.lean import http_exceptions, http_parser, web
from bamikube.kit.tasks import Tasks

log = logging.getLogger(__name__)

GZIP_THRESHOLD = 128 * 1024  # bytes; Kubernetes' defaultGzipThresholdBytes
MAX_TARGET = 1024 * 1024  # bytes; all of what exec is to run stands in it, and Go takes as much
MAX_HEAD_LINE = 64 * 1024  # bytes of a header; tokens may be long
MAX_HEADERS = 512  # header lines of one request; a proxy names every group of its user in one of its own
KEEP_ALIVE = 180.0  # seconds an idle connection is kept
FIRST_HEAD = (
    32.0  # seconds a new connection has for its first request; the ReadHeaderTimeout of the Kubernetes API
)
WHOLE_BODY = 60.0  # seconds a body may take to come

_REASONS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

# What the parser says of a request line that is in order but for a method it has never heard of.
_STRANGE_METHOD = re.compile(r"b'[\w!#$%&*+.^`|~-]+ \S+ HTTP/1\.[01]'", re.ASCII)


class _Date:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._line


_date = _Date()


class _Answered:
    """Tells aiohttp that the answer is already on its way, and whether the connection lives on."""

    __http_exception__ = False

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: Any) -> None:
        return None

    async def write_eof(self) -> None:
        return None


_KEEP = _Answered(True)
_CLOSE = _Answered(False)


class Raw(asyncio.Protocol):
    """A connection after the hand-over: a :class:`~bamikube.kit.http.RawConnection` over its transport."""

    LIMIT = 1 << 20  # bytes read ahead before the sender is asked to wait

    def __init__(
        self, transport: asyncio.Transport, first: bytes, lost: Callable[[BaseException | None], None]
    ) -> None:
        self._transport = transport
        self._buffer = bytearray(first)
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = False
        self._paused = False
        self._lost = lost
        # Asked for now: a TLS transport that has been closed does not answer any more.
        self._plain = transport.get_extra_info("ssl_object") is None
        if first:
            self._readable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._readable.set()
        if len(self._buffer) > self.LIMIT and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        self._readable.set()
        return self._plain  # plain TCP stays open for writing

    def connection_lost(self, exc: BaseException | None) -> None:
        self._ended = True
        self._readable.set()
        self._writable.set()
        self._lost(exc)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    @property
    def half_closable(self) -> bool:
        return self._transport.can_write_eof()

    async def read(self) -> bytes:
        while not self._buffer:
            if self._ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        data = bytes(self._buffer)
        self._buffer.clear()
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError("the other end has closed the connection")
        self._transport.write(data)
        await self._writable.wait()

    async def write_eof(self) -> None:
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        self._transport.close()


class _Connection(InlineHandler):
    """One connection of a client. ``stream`` is the task of a running stream or tunnel, to be ended with it."""

    def __init__(self, manager: web.Server, server: Server, **options: Any) -> None:
        super().__init__(manager, server.quick, server.heads, server.write_quick, **options)
        self.stream: asyncio.Task[Any] | None = None
        self._patience = server.first_head
        self._timer: asyncio.TimerHandle | None = None
        self._silent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if getattr(transport.get_extra_info("ssl_object"), "plain", False):
            transport.close()  # plain HTTP where TLS is spoken; it has been said (:mod:`bamikube.kit.tlsdoor`)
            return
        self.peer = _peer(transport)
        # An inline answer moves it on; what the library answers is counted.
        self._silent = self._next_keepalive_close_time
        self._timer = self._loop.call_later(self._patience, self._due)

    def _due(self) -> None:
        """End a connection that asks for nothing. The library minds those whose requests it has read."""
        self._timer = None
        if self._request_count or self.transport is None:
            return
        now, idle_at = self._loop.time(), self._next_keepalive_close_time
        if self._held is None and (idle_at == self._silent or idle_at <= now):
            self.force_close()
        else:
            self._timer = self._loop.call_at(max(idle_at, now + 1.0), self._due)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
        if self.stream is not None:
            self.stream.cancel()

    def tail(self) -> bytes:
        """What arrived behind an upgrade request and was not parsed."""
        tail, self._message_tail = self._message_tail, b""
        return tail

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> Any:
        if isinstance(exc, ConnectionError):
            log.debug("the connection of %s broke: %r", self.peer.address, exc)
        elif status == 500:
            log.error("the connection of %s failed: %r", self.peer.address, exc)
        text = f"the request could not be read: {message or exc}"
        long = isinstance(exc, http_exceptions.LineTooLong) or "Too many headers" in (message or "")
        error = errors.head_too_large(text) if long else errors.bad_request(text)
        if isinstance(exc, http_exceptions.BadHttpMethod) and _STRANGE_METHOD.search(exc.message):
            error = errors.method_not_allowed()  # what HTTP does not know, no resource has
        if self.transport is not None and not self.transport.is_closing():
            answer = status_response(error if status < 500 else errors.internal("the request failed"))
            self.transport.write(_head(answer, len(answer.joined()), keep_alive=False) + answer.joined())
        return _CLOSE


def _peer(transport: asyncio.BaseTransport) -> Peer:
    name = transport.get_extra_info("peername")
    address = str(name[0]) if isinstance(name, tuple) else ""
    session = transport.get_extra_info("ssl_object")
    certificate = session.getpeercert(binary_form=True) if session is not None else None
    return Peer(address, certificate)


def status_response(error: errors.ApiError) -> Response:
    """The ``Status`` answer of an error."""
    return Response(error.code, orjson.dumps(error.status()), dict(error.headers))


def _head(answer: Response | Stream, length: int | None, *, keep_alive: bool) -> bytes:
    """The head of an answer; ``length`` None means chunked."""
    parts = [_REASONS.get(answer.status) or f"HTTP/1.1 {answer.status} Status\r\n".encode()]
    if answer.content_type:
        parts.append(b"Content-Type: %b\r\n" % answer.content_type.encode())
    for name, value in answer.headers.items():
        # One logical line per header: what a client made us repeat cannot start another.
        for line in value.split("\n") if name.lower() == "warning" else [value]:
            clean = line.replace("\r", " ").replace("\n", " ")
            parts.append(
                b"%b: %b\r\n" % (name.encode("latin-1", "replace"), clean.encode("utf-8", "replace"))
            )
    parts.append(_date.line())
    if not keep_alive:
        parts.append(b"Connection: close\r\n")
    if length is None:
        parts.append(b"Transfer-Encoding: chunked\r\n\r\n")
    else:
        parts.append(b"Content-Length: %d\r\n\r\n" % length)
    return b"".join(parts)


class Server:
    """A listening edge. ``port`` is the port that was bound (asked for as 0: any free one)."""

    def __init__(self, handle: Handler, max_body: int, tasks: Tasks, quick: Quick | None = None) -> None:
        self._handle = handle
        self.quick = quick
        self.heads = Heads()
        self._max_body = max_body
        self._tasks = tasks
        self._listener: asyncio.Server | None = None
        self._web = web.Server(cast(Any, self._serve), request_factory=self._request)
        self.port = 0
        self.closing = False
        self.first_head, self.whole_body = FIRST_HEAD, WHOLE_BODY
        self._last = (b"", b"")  # the chunk that was framed last, and how

    async def listen(self, host: str, port: int, ssl: tls.SSLContext | None) -> None:
        """Bind and listen. Raises OSError naming the address when it is taken."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            self._connection, host, port, ssl=ssl, reuse_address=True, backlog=1024
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    def _connection(self) -> _Connection:
        return _Connection(
            self._web,
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=KEEP_ALIVE,
            max_line_size=MAX_TARGET,
            max_field_size=MAX_HEAD_LINE,
            max_headers=MAX_HEADERS,
            lingering_time=2.0,
        )

    def _request(
        self, message: http_parser.RawRequestMessage, payload: Any, protocol: Any, writer: Any, task: Any
    ) -> web.BaseRequest:
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            asyncio.get_running_loop(),
            client_max_size=self._max_body,
        )

    async def close(self, grace: float = 5.0) -> None:
        """Stop listening, let running requests end for ``grace`` seconds, then close every connection."""
        self.closing = True
        if self._listener is not None:
            self._listener.close()
        for connection in self._web.connections:
            if isinstance(connection, _Connection) and connection.stream is not None:
                connection.stream.cancel()
        self._web.pre_shutdown()  # connections that wait for their next request need no grace
        await self._web.shutdown(grace)

    async def _serve(self, incoming: web.BaseRequest) -> _Answered:
        connection = cast(_Connection, incoming.protocol)
        transport = connection.transport
        if transport is None:
            return _CLOSE
        message = incoming._message
        keep_alive = not message.should_close
        body = b""
        if not message.path.startswith("/") and message.method != "CONNECT":
            # Absolute form (RFC 9112 3.2.2): only its path is ours.
            target = "/" + message.path.split("://", 1)[-1].partition("/")[2]
        else:
            target = message.path
        if incoming.content_length or message.chunked:
            try:
                body = await self._body(incoming, transport)
            except (web.HTTPException, web.RequestPayloadError, TimeoutError) as error:
                self.write(
                    transport, incoming.method, status_response(self._refusal(error)), keep_alive=False
                )
                if not isinstance(error, web.HTTPException) or "Content-Encoding" in message.headers:
                    # What is left of the body cannot be read, not even to be thrown away.
                    connection.force_close()
                return _CLOSE
        headers = plain_headers(message)
        if not target.isascii():
            target = target.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        request = Request.make(message.method, target, headers=headers, body=body, peer=connection.peer)
        try:
            answer = await self._handle(request)
        except errors.ApiError as error:
            answer = status_response(error)
        except Exception:
            log.exception("%s %s failed", request.method, request.raw_path)
            answer = status_response(errors.internal("the request failed; the server's log has the details"))
        if isinstance(answer, Response):
            if transport.is_closing():
                return _CLOSE
            keep_alive = keep_alive and not self.closing
            self.write(
                transport,
                request.method,
                answer,
                keep_alive=keep_alive,
                accepts=headers.get("accept-encoding", ""),
            )
            if connection.writing_paused:
                await connection._drain_helper()
            return _KEEP if keep_alive else _CLOSE
        connection.stream = asyncio.current_task()
        try:
            if isinstance(answer, Stream):
                await self._stream(connection, answer, request.method, keep_alive)
                return _KEEP if keep_alive and not transport.is_closing() else _CLOSE
            await self._tunnel(connection, transport, answer)
            return _CLOSE
        finally:
            connection.stream = None

    def _refusal(self, error: Exception) -> errors.ApiError:
        """Why a body was not read: too large, too slow, or not what its Content-Encoding says."""
        if isinstance(error, web.HTTPRequestEntityTooLarge):
            return errors.too_large(f"Request entity too large: limit is {self._max_body}")
        if isinstance(error, TimeoutError):
            return errors.slow_body(f"the body did not come within {self.whole_body:.0f} seconds")
        return errors.bad_request(" ".join(str(error).split()))

    async def _body(self, incoming: web.BaseRequest, transport: asyncio.Transport) -> bytes:
        length = incoming.content_length
        if length is not None and length > self._max_body:
            raise web.HTTPRequestEntityTooLarge(self._max_body, length)
        if incoming._message.headers.get("Expect", "").lower() == "100-continue":
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if incoming.content.is_eof():
            return await incoming.read()
        async with asyncio.timeout(self.whole_body):
            return await incoming.read()

    def write(
        self,
        transport: asyncio.Transport,
        method: str,
        answer: Response,
        *,
        keep_alive: bool,
        accepts: str = "",
    ) -> None:
        body = answer.joined()
        if len(body) > GZIP_THRESHOLD and "gzip" in accepts and "Content-Encoding" not in answer.headers:
            body = igzip.compress(body, compresslevel=1)
            answer.headers["Content-Encoding"] = "gzip"
            answer.headers["Vary"] = "Accept-Encoding"
        head = _head(answer, len(body), keep_alive=keep_alive)
        if method == "HEAD" or answer.status in (204, 304):
            transport.write(head)
        else:
            transport.write(head + body)

    def write_quick(self, transport: asyncio.Transport, request: Request, answer: Response) -> None:
        """Write the answer to a GET that was answered inline; such connections live on unless the edge closes."""
        keep_alive = not self.closing
        accepts = request.headers.get("accept-encoding", "")
        self.write(transport, "GET", answer, keep_alive=keep_alive, accepts=accepts)
        if not keep_alive:
            transport.close()

    async def _stream(self, connection: _Connection, answer: Stream, method: str, keep_alive: bool) -> None:
        transport = connection.transport
        if transport is None:
            return
        pending = _head(answer, None, keep_alive=keep_alive)
        chunks = answer.chunks
        try:
            transport.write(pending)
            if method != "HEAD":
                if answer.direct is not None:
                    answer.direct(partial(self._at_once, connection, transport))
                async for chunk in chunks:
                    if transport.is_closing():
                        return
                    if chunk:
                        transport.write(self._framed(chunk))
                        if connection.writing_paused:
                            await connection._drain_helper()
                transport.write(b"0\r\n\r\n")
        except ConnectionError:
            transport.close()
        except errors.ApiError as error:
            log.warning("a stream ended early: %s", error.message)
            transport.close()  # without the last chunk the client knows that it was cut
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def _at_once(self, connection: _Connection, transport: asyncio.Transport, chunk: bytes) -> bool:
        """A stream's sink."""
        if connection.writing_paused or transport.is_closing():
            return False
        transport.write(self._framed(chunk))
        return True

    def _framed(self, chunk: bytes) -> bytes:
        """A chunk with its length around it. Many streams may be handed the same one in a row."""
        if chunk is not self._last[0]:
            self._last = (chunk, b"%x\r\n%b\r\n" % (len(chunk), chunk))
        return self._last[1]

    async def _tunnel(self, connection: _Connection, transport: asyncio.Transport, answer: Tunnel) -> None:
        raw = Raw(transport, connection.tail(), connection.connection_lost)
        transport.set_protocol(raw)
        if connection._buffer_paused or connection._reading_paused:
            transport.resume_reading()
        try:
            await answer.serve(raw)
        except ConnectionError as error:
            log.debug("the tunnel of %s broke: %r", connection.peer.address, error)
        finally:
            transport.close()


async def serve(
    handle: Handler,
    *,
    host: str,
    port: int,
    ssl: tls.SSLContext | None = None,
    max_body: int = 3 * 1024 * 1024,
    tasks: Tasks,
    quick: Quick | None = None,
) -> Server:
    """Listen on ``host``:``port`` and answer with ``handle``.

    ``ssl`` is a server context; with ``verify_mode=CERT_OPTIONAL`` the certificate a client shows is handed on in
    ``Request.peer``. ``max_body`` is in bytes. ``quick`` is offered simple GETs first (:mod:`bamikube.kit.inline`).
    Raises OSError when the address cannot be bound.
    """
    server = Server(handle, max_body, tasks, quick)
    await server.listen(host, port, ssl)
    return server

"""Bytes carried between two connections.

``exec``, ``attach``, ``port-forward`` and ``proxy`` with an upgrade come down to the same thing: send a request head to
the other side, then copy both ways until both have ended (:func:`relay`). Nothing in between looks at the frames, so
every protocol that both ends speak passes. Where they speak different ones, somebody translates: :func:`converse`
gives what one side says to a function that answers what to tell either.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl as tls
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from bamikube.kit.http import RawConnection

# How much one read takes at most, in bytes.
CHUNK = 256 * 1024

# How long the other direction may go on after one has ended and could not be half-closed, in seconds.
LINGER = 5.0

# How long a client whose connection cannot be half-closed may go on sending after the server has ended, in seconds.
FAREWELL = 0.5

# The longest head of an answer that is read, in bytes.
MAX_HEAD = 64 * 1024


class StreamConnection:
    """A raw connection over asyncio's streams. ``first`` is what had been read beyond the head already."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b""
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._first = first

    async def read(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        return await self._reader.read(CHUNK)

    def unread(self, data: bytes) -> None:
        """Give bytes back: the next read returns them."""
        self._first = data + self._first

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    @property
    def half_closable(self) -> bool:
        return self._writer.can_write_eof()

    async def write_eof(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()


class SocketConnection:
    """A raw connection over a plain socket of which every byte is read that has come, also after it takes none any more.

    A server that answers before it has read everything, and closes, resets the connection. Over asyncio's streams a write that
    meets the reset ends the reading, too, and the answer is lost though it had arrived.
    """

    half_closable = True

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._busy = 0  # reads and writes under way: the socket stays open as long as the loop looks at it
        self._closed = False

    async def read(self) -> bytes:
        with self._working():
            return await asyncio.get_running_loop().sock_recv(self._socket, CHUNK)

    async def write(self, data: bytes) -> None:
        with self._working():
            await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def write_eof(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._closed = True
        if not self._busy:
            self._socket.close()
        else:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        if self._closed:
            raise ConnectionAbortedError("the connection has been closed")
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            if self._closed and not self._busy:
                self._socket.close()


async def dial_socket(host: str, port: int, *, timeout: float = 10.0) -> SocketConnection:
    """Connect to an address (no name). Raises OSError or TimeoutError."""
    connected = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        connected.setblocking(False)
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(connected, (host, port))
    except BaseException:
        connected.close()
        raise
    return SocketConnection(connected)


async def dial(
    host: str,
    port: int,
    *,
    ssl: tls.SSLContext | None = None,
    server_hostname: str | None = None,
    timeout: float = 10.0,
) -> StreamConnection:
    """Connect. Raises OSError or TimeoutError; the caller knows for whom and says it."""
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(
            host, port, ssl=ssl, server_hostname=server_hostname if ssl else None
        )
    return StreamConnection(reader, writer)


async def dial_unix(path: str, *, timeout: float = 10.0) -> StreamConnection:
    """Connect to a unix socket."""
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_unix_connection(path)
    return StreamConnection(reader, writer)


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of an HTTP/1.1 request. Raises ValueError on a line break in what is to be sent."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a request line or header holds a line break")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def answer_head(connection: StreamConnection) -> tuple[int, dict[str, str]]:
    """Read the head of an answer: status and headers, their names in lower case.

    Raises ConnectionError when the connection ends before, or what comes is no answer.
    """
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        more = await connection.read()
        if not more or len(data) > MAX_HEAD:
            raise ConnectionResetError("the connection ended before an answer came")
        data += more
    connection.unread(data[end + 4 :])
    first, *lines = data[:end].decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise ConnectionResetError(f"this is no HTTP answer: {first[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    return int(words[1]), headers


async def relay(left: RawConnection, right: RawConnection) -> None:
    """Copy both ways until both directions have ended, then close both. ``left`` is the client, ``right`` the server."""

    async def copy(source: RawConnection, target: RawConnection) -> bool:
        """Whether the source has ended; False when it is the target that takes no more."""
        try:
            while data := await source.read():
                try:
                    await target.write(data)
                except OSError:
                    return False
            if target.half_closable:
                await target.write_eof()
            elif target is right:
                target.close()
            # A client is closed at the very end: while it is still sending, that would lose what it has not read yet.
        except OSError:
            pass
        return True

    there = asyncio.ensure_future(copy(left, right))
    back = asyncio.ensure_future(copy(right, left))
    try:
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        if not back.done():
            # A server that takes no more may still have something to say, and a client that has half-closed still hears it.
            # One that cannot half-close is gone when its bytes end: nobody is left to answer.
            if not there.result():
                await asyncio.wait({back}, timeout=LINGER)
            elif left.half_closable:
                await asyncio.wait({back})
        if not back.done() or (there.done() and there.result()):
            return
        # The server side has said all it had to say; what the client still sends has no reader.
        if left.half_closable:
            await asyncio.wait({there}, timeout=LINGER)
        else:
            # Closing on unread bytes would reset the connection, and lose what the client has not read yet.
            there.cancel()
            await asyncio.wait({there})
            await _drain(left, FAREWELL)
    finally:
        for task in (there, back):
            task.cancel()
        left.close()
        right.close()
        await asyncio.gather(there, back, return_exceptions=True)


async def _drain(side: RawConnection, seconds: float) -> None:
    """Read what still comes, until the other end closes or for so long."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            while await side.read():
                pass


class Said(NamedTuple):
    """What is to be told to either side; ``end`` when nothing more will be said.

    Parts are written one by one. Over TLS that makes each a record of its own, and some clients depend on it: they
    wait for their socket to become readable before each message, and so overlook a second one in the same record.
    """

    left: Sequence[bytes] = ()
    right: Sequence[bytes] = ()
    end: bool = False


Heard = Callable[[bytes], Said]


async def converse(left: RawConnection, right: RawConnection, from_left: Heard, from_right: Heard) -> None:
    """Translate between a client (``left``) and a server until one of the functions says that this is the end.

    Each function gets what its side has sent, ``b""`` when that side has ended. While one side does not take what it
    is told, the other is not read. A server that takes no more may still have something to say, so only its own end
    counts. A client that has been told the end may still be sending; it gets ``LINGER`` seconds to hear it, because
    closing on unread bytes would reset the connection and lose what it has not read yet.
    """

    async def listen(side: RawConnection, heard: Heard) -> None:
        while True:
            try:
                data = await side.read()
            except OSError:
                data = b""
            said = heard(data)
            with contextlib.suppress(OSError):
                for part in said.right:
                    await right.write(part)
            for part in said.left:
                await left.write(part)
            if said.end or not data:
                return

    there = asyncio.ensure_future(listen(left, from_left))
    back = asyncio.ensure_future(listen(right, from_right))
    try:
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        if not there.done():
            right.close()
            there.cancel()
            await asyncio.wait({there})
            await _drain(left, LINGER)
    finally:
        for task in (there, back):
            task.cancel()
        left.close()
        right.close()
        await asyncio.gather(there, back, return_exceptions=True)

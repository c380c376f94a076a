"""Bytes carried between two connections, unread.

``exec``, ``attach``, ``port-forward`` and ``proxy`` with an upgrade all come down to the same thing: send a request
head to the other side, then copy both ways until both have ended. Nothing in between looks at the frames, so every
protocol that either end may speak (SPDY, websocket of any version) passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl as tls
from collections.abc import Iterable

from bamikube.kit.http import RawConnection

# How much one read takes at most, in bytes.
CHUNK = 256 * 1024

# How long the other direction may go on after one has ended and could not be half-closed, in seconds.
LINGER = 5.0


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
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def relay(left: RawConnection, right: RawConnection) -> None:
    """Copy both ways until both directions have ended, then close both."""

    async def copy(source: RawConnection, target: RawConnection) -> None:
        try:
            while data := await source.read():
                await target.write(data)
            if target.half_closable:
                await target.write_eof()
            else:
                target.close()
        except OSError:
            return

    there = asyncio.ensure_future(copy(left, right))
    back = asyncio.ensure_future(copy(right, left))
    try:
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        if back.done():
            # The server side has said all it had to say; what the client still sends has no reader.
            if left.half_closable and not there.done():
                await asyncio.wait({there}, timeout=LINGER)
        elif left.half_closable:
            await asyncio.wait({back})
        # A client whose connection cannot be half-closed is gone when its bytes end: nobody is left to answer.
    finally:
        for task in (there, back):
            task.cancel()
        left.close()
        right.close()
        await asyncio.gather(there, back, return_exceptions=True)

"""The other end of an HTTP/2 connection, played frame by frame.

    async def script(peer: Peer) -> None:
        stream, message = await peer.request()
        peer.answer(stream, b"...")

    async with http2_server(script) as port: ...

Each connection runs the script once; when it ends the connection is closed. What the client breaks fails the test.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from bamikube.store.http2 import frames, headers

GREETING = frames.settings({frames.MAX_CONCURRENT_STREAMS: 250})
OK = headers.literal(":status", "200") + headers.literal("content-type", "application/grpc")


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def data(stream: int, payload: bytes, *, end: bool = False) -> bytes:
    return frames.head(len(payload), frames.DATA, frames.END_STREAM if end else 0, stream) + payload


def block(stream: int, payload: bytes, *, end: bool = False) -> bytes:
    flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
    return frames.head(len(payload), frames.HEADERS, flags, stream) + payload


def status(code: int, message: str = "") -> bytes:
    return headers.literal("grpc-status", str(code)) + (
        headers.literal("grpc-message", message) if message else b""
    )


def answer(stream: int, message: bytes) -> bytes:
    body, most = framed(message), frames.DEFAULT_FRAME
    pieces = [data(stream, body[at : at + most]) for at in range(0, len(body), most)]
    return b"".join((block(stream, OK), *pieces, block(stream, status(0), end=True)))


class Peer:
    """A connection as its server sees it. ``seen`` holds every frame: (kind, flags, stream, payload)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.seen: list[tuple[int, int, int, bytes]] = []
        self._bodies: dict[int, bytes] = {}

    async def start(self, greeting: bytes = GREETING) -> None:
        preface = await self._reader.readexactly(24)
        assert preface == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        self.send(greeting)

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    def answer(self, stream: int, message: bytes = b"") -> None:
        self.send(answer(stream, message))

    async def frame(self) -> tuple[int, int, int, bytes]:
        high, low, kind, flags, stream = frames.unpack_head(await self._reader.readexactly(9), 0)
        payload = await self._reader.readexactly(high << 16 | low)
        assert len(payload) <= frames.DEFAULT_FRAME
        self.seen.append((kind, flags, stream, payload))
        return self.seen[-1]

    async def until(self, kind: int) -> tuple[int, int, int, bytes]:
        """The next frame of a kind."""
        while True:
            frame = await self.frame()
            if frame[0] == kind:
                return frame

    async def request(self) -> tuple[int, bytes]:
        """The next whole request: its stream and its message."""
        while True:
            kind, flags, stream, payload = await self.frame()
            if kind != frames.DATA:
                continue
            body = self._bodies.pop(stream, b"") + payload
            if not flags & frames.END_STREAM:
                self._bodies[stream] = body
                continue
            assert framed(body[5:]) == body
            return stream, body[5:]

    async def serve(self) -> None:
        """Answer everything with its own message."""
        while True:
            self.answer(*await self.request())


async def until(condition: Callable[[], object]) -> None:
    """Wait for what nobody announces. The test's own deadline ends it."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


Script = Callable[[Peer], Awaitable[None]]


@contextlib.asynccontextmanager
async def http2_server(script: Script, *, greeting: bytes = GREETING) -> AsyncIterator[int]:
    """A server on loopback; yields its port. A script may end by the client's leaving."""
    failures: list[Exception] = []
    open_writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        open_writers.add(writer)
        try:
            await peer.start(greeting)
            await script(peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Exception as failure:
            failures.append(failure)
        finally:
            open_writers.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in list(open_writers):
            writer.transport.abort()
        await until(lambda: not open_writers)
    assert not failures, failures

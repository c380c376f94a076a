"""Bytes pass a tunnel unread, and both sides end."""

from __future__ import annotations

import asyncio

import pytest

from bamikube.kit.tunnel import StreamConnection, dial, relay, request_head


async def test_bytes_pass_both_ways_and_half_close_travels() -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()  # to the end: only a half-close lets this return
        writer.write(data.upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(upper, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def front(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relay(StreamConnection(reader, writer, b"first "), await dial("127.0.0.1", port))

    proxy = await asyncio.start_server(front, "127.0.0.1", 0)
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.sockets[0].getsockname()[1])
        writer.write(b"second")
        writer.write_eof()
        assert await reader.read() == b"FIRST SECOND"
        writer.close()
    server.close()
    proxy.close()


class Talkative:
    """A client over TLS, which cannot be half-closed. It goes on sending for a while after it was told the end."""

    half_closable = False

    def __init__(self) -> None:
        self.heard, self.after, self.closed = b"", 0, False

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        self.after += bool(self.heard)
        return b"" if self.after > 20 else b"x" * 1000

    async def write(self, data: bytes) -> None:
        self.heard += data

    async def write_eof(self) -> None:
        raise AssertionError("nobody can do that")

    def close(self) -> None:
        self.closed = True


async def test_a_client_that_is_still_sending_is_listened_to_until_it_has_heard_the_end() -> None:
    """Else its unread bytes would reset the connection, and what it was told last might be lost."""

    async def brief(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"done")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(brief, "127.0.0.1", 0)
    client = Talkative()
    async with asyncio.timeout(10):
        await relay(client, await dial("127.0.0.1", server.sockets[0].getsockname()[1]))
    assert (client.heard, client.after, client.closed) == (b"done", 21, True)
    server.close()


def test_no_line_break_gets_into_a_head() -> None:
    with pytest.raises(ValueError):
        request_head("GET", "/x\r\nHost: evil", [])

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


def test_no_line_break_gets_into_a_head() -> None:
    with pytest.raises(ValueError):
        request_head("GET", "/x\r\nHost: evil", [])

"""The HTTP edge, over real sockets on loopback: bodies, limits, streams that end, tunnels with early bytes."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable

import aiohttp
import orjson
import pytest

from bamikube.kit import httpserver
from bamikube.kit.http import Answer, RawConnection, Request, Response, Stream, Tunnel
from bamikube.kit.httpserver import Raw, Server, serve
from bamikube.kit.tasks import Tasks

closed = asyncio.Event()


async def handle(request: Request) -> Answer:
    if request.path == "/echo":
        return Response(200, request.body, {"Warning": '299 - "a"\n299 - "b"'}, "text/plain")
    if request.path == "/big":
        return Response(200, b"x" * 300_000, content_type="text/plain")
    if request.path == "/boom":
        raise RuntimeError("a secret")
    if request.path == "/stream":
        return Stream(200, ticks())
    if request.path == "/tunnel":
        return Tunnel(echo)
    return Response(404, b"{}")


async def ticks() -> AsyncIterator[bytes]:
    try:
        yield b"one\n"
        yield b"two\n"
        await asyncio.sleep(3600)
    finally:
        closed.set()


async def echo(connection: RawConnection) -> None:
    await connection.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n"
    )
    while data := await connection.read():
        await connection.write(data.upper())


@pytest.fixture
async def edge() -> AsyncIterator[Server]:
    tasks = Tasks("edge")
    server = await serve(handle, host="127.0.0.1", port=0, max_body=10_000, tasks=tasks)
    yield server
    await server.close(0.2)
    await tasks.close()


async def test_body_goes_in_and_comes_out_on_one_connection(edge: Server) -> None:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{edge.port}") as session:
        for size in (0, 1, 9000):
            async with session.post("/echo", data=b"a" * size) as answer:
                assert answer.status == 200
                assert await answer.read() == b"a" * size
                assert answer.headers.getall("Warning") == ['299 - "a"', '299 - "b"']


async def test_body_over_the_limit_is_a_status_413(edge: Server) -> None:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{edge.port}") as session:
        async with session.post("/echo", data=b"a" * 10_001) as answer:
            assert answer.status == 413
            assert (await answer.json())["reason"] == "RequestEntityTooLarge"

        async def chunked() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"b" * 1000

        async with session.post("/echo", data=chunked()) as answer:
            assert answer.status == 413


async def test_large_answers_are_gzipped_for_those_who_ask(edge: Server) -> None:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{edge.port}", auto_decompress=False) as session:
        async with session.get("/big", headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(await answer.read()) == b"x" * 300_000
        async with session.get("/big", headers={"Accept-Encoding": "identity"}) as answer:
            assert "Content-Encoding" not in answer.headers
            assert len(await answer.read()) == 300_000


async def test_an_exception_is_a_500_that_tells_nothing(edge: Server) -> None:
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{edge.port}") as session,
        session.get("/boom") as answer,
    ):
        assert answer.status == 500
        body = await answer.read()
        assert orjson.loads(body)["kind"] == "Status"
        assert b"secret" not in body


async def test_garbage_is_a_400(edge: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_a_method_that_http_does_not_know_is_a_405(edge: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"FETCH /echo HTTP/1.1\r\nHost: a\r\n\r\n")
    said = await asyncio.wait_for(reader.read(), 5)
    assert said.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n") and b'"MethodNotAllowed"' in said
    writer.close()


async def test_a_stream_is_closed_when_the_client_leaves(edge: Server) -> None:
    closed.clear()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{edge.port}") as session:
        answer = await session.get("/stream")
        assert await answer.content.readline() == b"one\n"
        assert await answer.content.readline() == b"two\n"
        answer.close()
        await asyncio.wait_for(closed.wait(), 5)


async def test_a_tunnel_gets_bytes_sent_before_the_answer(edge: Server) -> None:
    for upgrade in ("SPDY/3.1", "websocket"):
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        method = "GET" if upgrade == "websocket" else "POST"
        early = b"early" if upgrade == "websocket" else b""
        writer.write(
            f"{method} /tunnel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n"
            f"Content-Length: 0\r\n\r\n".encode()
            + early
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        if early:
            assert await reader.readexactly(5) == b"EARLY"
        writer.write(b"late")
        assert await reader.readexactly(4) == b"LATE"
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


async def test_connections_that_wait_for_their_next_request_get_no_grace() -> None:
    tasks = Tasks("edge")
    server = await serve(handle, host="127.0.0.1", port=0, max_body=10_000, tasks=tasks)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        async with session.post("/echo", data=b"a") as answer:
            await answer.read()
        async with asyncio.timeout(5):
            await server.close(60)
    await tasks.close()


async def test_a_head_that_is_too_long_is_a_431(edge: Server) -> None:
    for head in (b"GET /" + b"a" * 1_100_000, b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, _headers(600)):
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(head + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 431 "), answer[:100]
        writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(_headers(400) + b"\r\nHost: x\r\n\r\n")  # a user of many groups, sent on by a proxy
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 404 ")
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(
        b"GET /" + b"a" * 900_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    )  # what exec is to run may be long
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 404 ")
    writer.close()


def _headers(count: int) -> bytes:
    return b"GET / HTTP/1.1\r\n" + b"\r\n".join(b"Impersonate-Group: g%d" % number for number in range(count))


async def test_a_damaged_body_that_is_refused_unread_leaves_nothing_in_the_log(
    edge: Server, caplog: pytest.LogCaptureFixture
) -> None:
    packed = bytearray(gzip.compress(b"a" * 8_000_000, 1))
    packed[-8:] = b"damaged!"
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head + b"%x\r\n%b\r\n" % (1000, packed[:1000]))
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 413 ")
    writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed) - 1000, packed[1000:]))
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert not caplog.records


async def test_an_end_after_the_tunnel_was_closed_is_taken_quietly() -> None:
    class Closed(asyncio.Transport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            if self.gone:
                raise AttributeError("a TLS transport without its protocol")
            return object()

        gone = False

    transport = Closed()
    raw = Raw(transport, b"", lambda error: None)
    transport.gone = True
    assert raw.eof_received() is False


async def test_nobody_is_waited_for_without_end(edge: Server) -> None:
    edge.first_head = edge.whole_body = 0.05
    for head in (b"", b"GET /echo HT", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"):
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(head)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer[:13] == (b"HTTP/1.1 408 " if b"POST" in head else b""), answer
        writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"two"), 5)
    with pytest.raises(TimeoutError):  # who has asked is served for as long as it takes
        await asyncio.wait_for(reader.readexactly(100), 0.2)
    writer.close()


async def test_a_connection_of_inline_answers_only_ends_when_it_idles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(httpserver, "KEEP_ALIVE", 0.1)

    def quick(request: Request, notes: object, reply: Callable[[Response | None], None]) -> bool:
        reply(Response(200, b"inline"))
        return True

    tasks = Tasks("edge")
    server = await serve(handle, host="127.0.0.1", port=0, max_body=10_000, tasks=tasks, quick=quick)
    server.first_head = 0.05
    for _ in range(2):  # the first connection teaches the head, the second has inline answers only
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 200 ")
        writer.close()
    assert answer.endswith(b"inline")
    await server.close(0.2)
    await tasks.close()

"""Unary calls against a server that is played frame by frame: what goes well, and every way it can go wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from grpc import StatusCode

from bamikube.kit.world import World
from bamikube.store.http2 import CallError, Http2Client, connection, frames, headers
from bamikube.store.http2.call import REFUSALS, Call
from tests.support import http2_peer as h2
from tests.support.http2_peer import Peer, Script, http2_server, until


@contextlib.asynccontextmanager
async def client_of(*ports: int) -> AsyncIterator[Http2Client]:
    client = Http2Client(
        [("127.0.0.1", port) for port in ports], tls=None, authority="localhost", world=World()
    )
    try:
        async with asyncio.timeout(20):
            yield client
    finally:
        await client.close()


async def ask(client: Http2Client, message: bytes = b"?", timeout: float = 5.0) -> bytes:
    return await client.call(client.method("/a.B/C", hasleader="true"), message, timeout)


async def failure(client: Http2Client, message: bytes = b"?", timeout: float = 5.0) -> CallError:
    with pytest.raises(CallError) as failed:
        await ask(client, message, timeout)
    return failed.value


async def outcome_of(script: Script, message: bytes = b"?", timeout: float = 5.0) -> bytes | CallError:
    """What one call to such a server comes to."""
    async with http2_server(script) as port, client_of(port) as client:
        try:
            return await ask(client, message, timeout)
        except CallError as failed:
            return failed


async def echo(peer: Peer) -> None:
    await peer.serve()


async def test_a_call_is_one_stream_with_the_right_headers() -> None:
    seen: list[list[tuple[str, str]]] = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            _, _, stream, payload = await peer.until(frames.HEADERS)
            seen.append(headers.decode(payload))
            peer.answer(stream, b"yes")

    async with http2_server(script) as port, client_of(port) as client:
        assert await ask(client) == await ask(client, timeout=1.2) == b"yes"
    assert seen[0] == [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/a.B/C"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "bamikube"),
        ("hasleader", "true"),
        ("grpc-timeout", "5S"),
    ]
    assert seen[1][-1] == ("grpc-timeout", "2S")


async def test_calls_begun_together_leave_together_and_answers_may_come_in_any_order() -> None:
    async def script(peer: Peer) -> None:
        requests = [await peer.request() for _ in range(100)]
        for stream, message in reversed(requests):
            peer.answer(stream, message)

    async with http2_server(script) as port, client_of(port) as client:
        messages = [b"%d" % number for number in range(100)]
        assert await asyncio.gather(*(ask(client, message) for message in messages)) == messages


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
async def test_answers_may_come_in_pieces_of_any_size(size: int) -> None:
    async def script(peer: Peer) -> None:
        for _ in range(3):
            stream, message = await peer.request()
            noise = frames.ping(b"12345678", ack=False) + frames.head(3, 0xEE, 0, 0) + b"new"
            text = noise + h2.answer(stream, message)
            for start in range(0, len(text), size):
                peer.send(text[start : start + size])
                await peer.writer.drain()
                await asyncio.sleep(0)

    async with http2_server(script) as port, client_of(port) as client:
        for message in (b"", b"one", bytes(range(256))):
            assert await ask(client, message) == message


async def test_a_large_message_waits_for_the_windows() -> None:
    message = bytes(range(256)) * 2000  # 512 000 bytes: eight times the first window
    granted = 0

    async def script(peer: Peer) -> None:
        nonlocal granted
        body = b""
        while True:
            kind, flags, stream, payload = await peer.frame()
            if kind != frames.DATA:
                continue
            body += payload
            granted += len(payload)
            assert granted <= frames.DEFAULT_WINDOW
            if flags & frames.END_STREAM:
                break
            if granted == frames.DEFAULT_WINDOW:
                granted = 0
                # Stream and connection grow apart: nothing may leave before both have room.
                peer.send(frames.window_update(stream, frames.DEFAULT_WINDOW))
                await asyncio.sleep(0.01)
                peer.send(frames.window_update(0, frames.DEFAULT_WINDOW))
        peer.answer(stream, body[5:])
        await peer.serve()

    async with http2_server(script) as port, client_of(port) as client:
        large, small = await asyncio.gather(ask(client, message), ask(client, b"small"))
        assert large == message and small == b"small"


async def test_settings_in_the_middle_change_the_windows_of_what_runs() -> None:
    async def script(peer: Peer) -> None:
        await peer.until(frames.DATA)
        peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 10}))
        got = 0
        while got < frames.DEFAULT_WINDOW:
            got = sum(len(payload) for kind, _, _, payload in peer.seen if kind == frames.DATA)
            if got < frames.DEFAULT_WINDOW:
                await peer.frame()
        peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 20}))
        peer.send(frames.window_update(0, 1 << 20))
        while not (frame := await peer.until(frames.DATA))[1] & frames.END_STREAM:
            pass
        peer.answer(frame[2], b"all of it")

    assert await outcome_of(script, bytes(200_000)) == b"all of it"


async def test_a_large_answer_makes_its_own_way() -> None:
    message = bytes(20 << 20)

    async def script(peer: Peer) -> None:
        stream, _ = await peer.request()
        peer.send(h2.block(stream, h2.OK))
        body, at = h2.framed(message), 0
        room = {0: frames.CONNECTION_WINDOW, stream: frames.STREAM_WINDOW}
        while at < len(body):
            while min(room.values()) < frames.DEFAULT_FRAME:
                _, _, which, payload = await peer.until(frames.WINDOW_UPDATE)
                room[which] += frames.unpack_long(payload, 0)[0]
            piece = body[at : at + frames.DEFAULT_FRAME]
            peer.send(h2.data(stream, piece))
            at += len(piece)
            room[0] -= len(piece)
            room[stream] -= len(piece)
            await peer.writer.drain()
        peer.send(h2.block(stream, h2.status(0), end=True))

    async with http2_server(script) as port, client_of(port) as client:
        assert await ask(client, timeout=15) == message


async def test_no_more_streams_at_once_than_the_server_takes() -> None:
    running = most = 0

    async def script(peer: Peer) -> None:
        nonlocal running, most
        waiting: list[tuple[int, bytes]] = []
        while True:
            waiting.append(await peer.request())
            most = max(most, len(waiting))
            if len(waiting) == 3 or len(peer.seen) > 150:
                for stream, message in waiting:
                    peer.answer(stream, message)
                waiting = []

    greeting = frames.settings({frames.MAX_CONCURRENT_STREAMS: 3})
    async with http2_server(script, greeting=greeting) as port, client_of(port) as client:
        messages = [b"%d" % number for number in range(60)]
        assert await asyncio.gather(*(ask(client, message) for message in messages)) == messages
    assert most <= 3


async def test_padding_priorities_and_blocks_in_pieces_are_understood() -> None:
    async def script(peer: Peer) -> None:
        stream, _ = await peer.request()
        padded = b"\x04" + b"\0\0\0\0\x10" + h2.OK[:5] + bytes(4)
        flags = frames.PADDED | frames.PRIORITY_FLAG
        peer.send(
            block := frames.head(len(padded), frames.HEADERS, flags, stream) + padded,
            frames.head(3, frames.CONTINUATION, 0, stream) + h2.OK[5:8],
            frames.head(len(h2.OK) - 8, frames.CONTINUATION, frames.END_HEADERS, stream) + h2.OK[8:],
        )
        assert block
        body = h2.framed(b"padded")
        peer.send(
            frames.head(len(body) + 3, frames.DATA, frames.PADDED, stream) + b"\x02" + body + bytes(2),
            h2.block(stream, h2.status(0), end=True),
        )

    assert await outcome_of(script) == b"padded"


@pytest.mark.parametrize(
    ("reply", "code", "text"),
    [
        (
            lambda s: h2.block(s, h2.OK + h2.status(11, "too%20late"), end=True),
            StatusCode.OUT_OF_RANGE,
            "too late",
        ),
        (
            lambda s: h2.block(s, h2.OK) + h2.block(s, h2.status(8, "full"), end=True),
            StatusCode.RESOURCE_EXHAUSTED,
            "full",
        ),
        (lambda s: h2.block(s, h2.OK + h2.status(99), end=True), StatusCode.UNKNOWN, ""),
        (
            lambda s: h2.block(s, headers.literal(":status", "503"), end=True),
            StatusCode.UNAVAILABLE,
            "HTTP 503",
        ),
        (lambda s: h2.block(s, h2.OK) + h2.data(s, b"", end=True), StatusCode.INTERNAL, "no status"),
        (
            lambda s: h2.block(s, h2.OK) + h2.data(s, b"\x01\0\0\0\0") + h2.block(s, h2.status(0), end=True),
            StatusCode.INTERNAL,
            "uncompressed",
        ),
        (
            lambda s: h2.block(s, h2.OK) + h2.data(s, b"\0\0\0\0\x09x") + h2.block(s, h2.status(0), end=True),
            StatusCode.INTERNAL,
            "one uncompressed message",
        ),
        (lambda s: frames.rst_stream(s, frames.CANCEL), StatusCode.CANCELLED, "reset"),
        (lambda s: frames.rst_stream(s, frames.INTERNAL_ERROR), StatusCode.INTERNAL, "reset"),
        (lambda s: h2.block(s, b"\xff\xff"), StatusCode.UNAVAILABLE, "broke the protocol"),
        (lambda s: h2.block(s + 2, h2.OK), StatusCode.UNAVAILABLE, "does not exist"),
        (
            lambda s: frames.head(1 << 20, frames.DATA, 0, s),
            StatusCode.UNAVAILABLE,
            "a frame of 1048576 bytes",
        ),
        (lambda s: frames.head(4, frames.PING, 0, 0) + b"ping", StatusCode.UNAVAILABLE, "PING"),
        (lambda s: frames.window_update(0, frames.MAX_WINDOW), StatusCode.UNAVAILABLE, "window"),
        (
            lambda s: frames.head(1, frames.HEADERS, 0, s) + b"\x88" + frames.ping(bytes(8), ack=False),
            StatusCode.UNAVAILABLE,
            "interrupted",
        ),
        (lambda s: frames.head(0, frames.PUSH_PROMISE, 0, s), StatusCode.UNAVAILABLE, "promise"),
    ],
)
async def test_failures_carry_grpcs_codes(reply: object, code: StatusCode, text: str) -> None:
    async def script(peer: Peer) -> None:
        stream, _ = await peer.request()
        peer.send(reply(stream))  # type: ignore[operator]
        await peer.serve()

    failed = await outcome_of(script)
    assert isinstance(failed, CallError), failed
    assert failed.code is code and text in failed.text


async def test_an_early_refusal_stops_a_body_that_is_still_leaving() -> None:
    async def script(peer: Peer) -> None:
        stream = (await peer.until(frames.DATA))[2]
        peer.send(h2.block(stream, h2.OK + h2.status(8, "too large"), end=True))
        assert (await peer.until(frames.RST_STREAM))[2] == stream
        peer.send(frames.window_update(0, 1 << 20))  # room again: nothing of it may come
        await peer.serve()

    async with http2_server(script) as port, client_of(port) as client:
        assert (await failure(client, bytes(300_000))).code is StatusCode.RESOURCE_EXHAUSTED
        assert await ask(client, b"next") == b"next"


async def test_a_server_that_goes_in_the_middle_of_a_frame_fails_all_that_run() -> None:
    visits = 0

    async def script(peer: Peer) -> None:
        nonlocal visits
        visits += 1
        if visits > 1:
            await peer.serve()
        requests = [await peer.request() for _ in range(40)]
        for stream, message in requests[:10]:
            peer.answer(stream, message)
        peer.send(h2.answer(requests[10][0], b"never whole")[:-7])

    async with http2_server(script) as port, client_of(port) as client:
        outcomes = await asyncio.gather(*(ask(client) for _ in range(40)), return_exceptions=True)
        assert outcomes[:10] == [b"?"] * 10
        assert {error.code for error in outcomes[10:]} == {StatusCode.UNAVAILABLE}  # type: ignore[union-attr]
        assert await ask(client) == b"?"  # over the next connection


async def test_after_goaway_what_was_taken_ends_here_and_the_rest_goes_elsewhere() -> None:
    visits = 0

    async def script(peer: Peer) -> None:
        nonlocal visits
        visits += 1
        if visits > 1:
            await peer.serve()
        requests = [await peer.request() for _ in range(3)]
        last = requests[1][0]
        peer.send(frames.head(8, frames.GOAWAY, 0, 0) + last.to_bytes(4, "big") + bytes(4))
        for stream, message in requests[:2]:
            peer.answer(stream, message)
        # Ours to close now; a request on this connection would be a mistake.
        with pytest.raises(asyncio.IncompleteReadError):
            await peer.request()

    greeting = frames.settings({frames.MAX_CONCURRENT_STREAMS: 3})
    async with http2_server(script, greeting=greeting) as port, client_of(port) as client:
        # Of the last three the server has not begun one, and two have never left.
        messages = [b"%d" % number for number in range(5)]
        assert await asyncio.gather(*(ask(client, message) for message in messages)) == messages
    assert visits == 2


async def test_what_a_server_refuses_to_begin_is_begun_anew_but_not_for_ever() -> None:
    refused = 0

    async def script(peer: Peer) -> None:
        nonlocal refused
        while True:
            stream, message = await peer.request()
            if message == b"never" or refused < 2:
                refused += 1
                peer.send(frames.rst_stream(stream, frames.REFUSED_STREAM))
            else:
                peer.answer(stream, message)

    async with http2_server(script) as port, client_of(port) as client:
        assert await ask(client, b"third time") == b"third time"
        assert (await failure(client, b"never")).code is StatusCode.UNAVAILABLE
        assert refused == 2 + REFUSALS


async def test_a_cancelled_call_is_cancelled_at_the_server_and_makes_room() -> None:
    async def script(peer: Peer) -> None:
        stream, _ = await peer.request()
        reset = await peer.until(frames.RST_STREAM)
        assert reset[2] == stream and frames.unpack_long(reset[3], 0)[0] == frames.CANCEL
        peer.answer(stream, b"too late")
        await peer.serve()

    greeting = frames.settings({frames.MAX_CONCURRENT_STREAMS: 1})
    async with http2_server(script, greeting=greeting) as port, client_of(port) as client:
        first, second = (asyncio.ensure_future(ask(client, name)) for name in (b"1", b"2"))
        await until(lambda: any(link.connection and link.connection._calls for link in client._links))
        first.cancel()
        assert await second == b"2"
        assert first.cancelled()


async def test_an_outcome_does_not_hide_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that ends in the moment its caller is cancelled: the caller is cancelled all the same."""
    tasks: list[asyncio.Task[bytes]] = []
    finish = connection.Connection._finish

    def finish_and_cancel(self: connection.Connection, call: Call) -> None:
        finish(self, call)
        for task in tasks:
            task.cancel()

    monkeypatch.setattr(connection.Connection, "_finish", finish_and_cancel)
    async with http2_server(echo) as port, client_of(port) as client:
        tasks.append(asyncio.ensure_future(ask(client)))
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]


def running(client: Http2Client) -> Iterator[Call]:
    for one in client.connections:
        yield from one._calls.values()


async def test_a_deadline_ends_a_call_and_not_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.serve()

    async with http2_server(script) as port, client_of(port) as client:
        late = await failure(client, timeout=0.1)
        assert late.code is StatusCode.DEADLINE_EXCEEDED
        assert await ask(client) == b"?"
        assert len(client.connections) == 1


async def test_a_silent_server_is_pinged_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TICK", 0.05)
    pings = 0

    async def script(peer: Peer) -> None:
        nonlocal pings
        await peer.request()
        await peer.until(frames.PING)
        pings += 1
        await peer.until(frames.GOAWAY)  # the client leaves first

    async with http2_server(script) as silent, http2_server(echo) as good, client_of(silent, good) as client:
        await until(lambda: all(link.connection for link in client._links))
        outcomes = await asyncio.gather(*(ask(client) for _ in range(2)), return_exceptions=True)
        codes = sorted(str(o.code.name if isinstance(o, CallError) else o) for o in outcomes)
        assert codes == ["UNAVAILABLE", "b'?'"]
    assert pings == 1


async def test_dead_endpoints_are_passed_over_and_named_when_all_are_dead() -> None:
    async with http2_server(echo) as good:
        async with http2_server(echo) as gone:
            pass
        async with client_of(gone, good, gone) as client:
            assert await asyncio.gather(*(ask(client) for _ in range(30))) == [b"?"] * 30
        async with client_of(gone) as client:
            dead = await failure(client, timeout=0.3)
            assert dead.code is StatusCode.DEADLINE_EXCEEDED and f"127.0.0.1:{gone}" in dead.text


async def test_a_call_waits_for_its_endpoint_to_come_up() -> None:
    async with http2_server(echo) as port:
        pass
    async with client_of(port) as client:
        waiting = asyncio.ensure_future(ask(client))
        await asyncio.sleep(0.05)
        server = await asyncio.start_server(lambda r, w: serve(r, w), "127.0.0.1", port)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = Peer(reader, writer)
            await peer.start()
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await peer.serve()
            writer.close()

        assert await waiting == b"?"
        server.close()


async def test_closing_fails_what_runs_and_what_waits() -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.frame()

    greeting = frames.settings({frames.MAX_CONCURRENT_STREAMS: 1})
    async with http2_server(script, greeting=greeting) as port, client_of(port) as client:
        calls = [asyncio.ensure_future(ask(client)) for _ in range(3)]
        await until(lambda: list(running(client)))
        await client.close()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {o.code for o in outcomes} == {StatusCode.UNAVAILABLE}  # type: ignore[union-attr]
        assert (await failure(client)).code is StatusCode.UNAVAILABLE
        assert not client.connections

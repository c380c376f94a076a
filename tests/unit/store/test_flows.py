"""Calls that stay open, against a server that is played frame by frame."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from grpc import StatusCode

from bamikube.kit.world import World
from bamikube.store.http2 import CallError, Flow, Http2Client, connection, frames
from tests.support import http2_peer as h2
from tests.support.http2_peer import Peer, Script, framed, http2_server, until


@contextlib.asynccontextmanager
async def flow_to(script: Script) -> AsyncIterator[tuple[Http2Client, Flow]]:
    async with http2_server(script) as port:
        client = Http2Client([("127.0.0.1", port)], tls=None, authority="localhost", world=World())
        try:
            async with asyncio.timeout(20):
                yield client, client.flow(client.method("/a.B/Watch"), b"begin")
        finally:
            await client.close()


async def begun(peer: Peer) -> int:
    """The stream of a flow, whose request is not the end of what we may say."""
    _, flags, stream, payload = await peer.until(frames.DATA)
    assert payload == framed(b"begin") and not flags & frames.END_STREAM
    peer.send(h2.block(stream, h2.OK))
    return stream


def goaway(last: int) -> bytes:
    return frames.head(8, frames.GOAWAY, 0, 0) + last.to_bytes(4, "big") + bytes(4)


async def all_of(flow: Flow) -> list[bytes]:
    found: list[bytes] = []
    while messages := await flow.take():
        found += messages
    return found


@pytest.mark.parametrize("size", [1, 3, 5, 6, 64, 100_000])
async def test_messages_come_whole_and_in_order_in_whatever_pieces_they_were_sent(size: int) -> None:
    wanted = [b"", b"one", bytes(range(256)) * 3, b"", b"x" * 20_000, b"last"]

    async def script(peer: Peer) -> None:
        stream = await begun(peer)
        text = b"".join(map(framed, wanted))
        most = min(size, frames.DEFAULT_FRAME)
        for start in range(0, len(text), most):
            peer.send(h2.data(stream, text[start : start + most]))
        peer.send(h2.block(stream, h2.status(0), end=True))
        reset = await peer.until(frames.RST_STREAM)  # our side of the stream ends, too
        assert reset[2] == stream and frames.unpack_long(reset[3], 0)[0] == frames.NO_ERROR

    async with flow_to(script) as (_, flow):
        assert await all_of(flow) == wanted
        assert await flow.take() == []


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda stream: h2.block(stream, h2.status(14, "no leader"), end=True), StatusCode.UNAVAILABLE),
        (lambda stream: frames.rst_stream(stream, frames.CANCEL), StatusCode.CANCELLED),
        (lambda stream: h2.data(stream, b"\1\0\0\0\0"), StatusCode.INTERNAL),
        (lambda stream: goaway(stream), StatusCode.UNAVAILABLE),
        (lambda stream: frames.head(4, frames.DATA, 0, 0), StatusCode.UNAVAILABLE),
    ],
    ids=["status", "reset", "compressed", "goaway", "broken"],
)
async def test_what_came_before_the_end_is_taken_first(end: object, code: StatusCode) -> None:
    async def script(peer: Peer) -> None:
        stream = await begun(peer)
        peer.send(h2.data(stream, framed(b"1") + framed(b"2")))
        peer.send(end(stream))  # type: ignore[operator]
        await peer.serve()

    async with flow_to(script) as (client, flow):
        found: list[bytes] = []
        with pytest.raises(CallError) as failed:
            while True:
                found += await flow.take()
        assert found == [b"1", b"2"] and failed.value.code is code
        client.drop(flow)


async def test_a_flow_that_nobody_wants_any_more_is_cancelled_at_the_server() -> None:
    told = asyncio.Event()

    async def script(peer: Peer) -> None:
        stream = await begun(peer)
        reset = await peer.until(frames.RST_STREAM)
        assert reset[2] == stream and frames.unpack_long(reset[3], 0)[0] == frames.CANCEL
        told.set()

    async with flow_to(script) as (client, flow):
        taking = asyncio.ensure_future(flow.take())
        await until(lambda: flow.head is not None)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        client.drop(flow)
        await told.wait()


async def test_the_window_is_made_wide_again_only_for_who_takes() -> None:
    """Half of the window is used up and nobody reads: no word of more. Then somebody reads."""
    sent = asyncio.Event()
    widened: list[tuple[int, int]] = []

    async def script(peer: Peer) -> None:
        stream = await begun(peer)
        message = framed(bytes(frames.DEFAULT_FRAME - 5))
        for _ in range(frames.STREAM_WINDOW // 2 // frames.DEFAULT_FRAME):
            peer.send(h2.data(stream, message))
        peer.send(frames.ping(b"all sent", ack=False))
        while (await peer.until(frames.PING))[3] != b"all sent":
            pass
        sent.set()
        frame = await peer.until(frames.WINDOW_UPDATE)
        widened.append((frame[2], frames.unpack_long(frame[3], 0)[0]))
        assert frame[2] == stream
        assert not any(seen[:3] == (frames.WINDOW_UPDATE, 0, stream) for seen in peer.seen[:-1])
        peer.send(h2.block(stream, h2.status(0), end=True))

    async with flow_to(script) as (_, flow):
        await sent.wait()
        found = await all_of(flow)
        assert sum(map(len, found)) + 5 * len(found) == frames.STREAM_WINDOW // 2
    assert widened == [(1, frames.STREAM_WINDOW // 2)]


async def test_a_silent_server_is_found_out_by_a_flow_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TICK", 0.02)

    async def script(peer: Peer) -> None:
        await begun(peer)
        for _ in range(2):  # it answers twice, then no more
            payload = (await peer.until(frames.PING))[3]
            peer.send(frames.ping(payload, ack=True))
        await peer.until(frames.GOAWAY)

    async with flow_to(script) as (_, flow):
        with pytest.raises(CallError) as failed:
            await flow.take()
        assert failed.value.code is StatusCode.UNAVAILABLE and "said nothing" in failed.value.text


async def test_a_refused_call_is_begun_anew_although_a_flow_runs_on() -> None:
    """What was refused waits until another call has ended, and a flow never does."""

    async def script(peer: Peer) -> None:
        await begun(peer)
        stream, _ = await peer.request()
        peer.send(frames.rst_stream(stream, frames.REFUSED_STREAM))
        await peer.serve()

    async with flow_to(script) as (client, flow):
        await until(lambda: flow.head is not None)
        assert await client.call(client.method("/a.B/C"), b"?", 5.0) == b"?"


async def test_a_flow_waits_for_its_server_and_closing_ends_it() -> None:
    client = Http2Client([("127.0.0.1", 1)], tls=None, authority="localhost", world=World())
    flow = client.flow(client.method("/a.B/Watch"), b"begin")
    taking = asyncio.ensure_future(flow.take())
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(CallError, match="closed"):
        await taking

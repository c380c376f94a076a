"""A member that takes a watch and never says that it has begun."""

from __future__ import annotations

import asyncio

from bamikube.kit.world import World
from bamikube.rpc.etcd import kv_pb2, rpc_pb2
from bamikube.store.etcd import EtcdStore
from bamikube.store.http2 import frames
from tests.support import http2_peer as h2
from tests.support.http2_peer import Peer, framed, http2_server


async def test_a_watch_that_does_not_begin_is_asked_for_again() -> None:
    asked: list[int] = []

    async def script(peer: Peer) -> None:
        _, _, first, _ = await peer.until(frames.DATA)
        asked.append(first)
        peer.send(h2.block(first, h2.OK))  # and nothing more
        _, _, second, _ = await peer.until(frames.DATA)
        asked.append(second)
        begun = rpc_pb2.WatchResponse(created=True, header=rpc_pb2.ResponseHeader(revision=6))
        event = kv_pb2.Event(kv=kv_pb2.KeyValue(key=b"/a", value=b"1", mod_revision=7))
        news = rpc_pb2.WatchResponse(events=[event], header=rpc_pb2.ResponseHeader(revision=7))
        peer.send(h2.block(second, h2.OK), h2.data(second, framed(begun.SerializeToString())))
        await asyncio.sleep(0.4)  # longer than a watch may take to begin: one that has begun may be silent
        peer.send(h2.data(second, framed(news.SerializeToString())))
        await peer.until(frames.RST_STREAM)

    async with http2_server(script) as port:
        store = EtcdStore([f"http://127.0.0.1:{port}"], world=World(), timeout=0.2)
        try:
            async with asyncio.timeout(10):
                watch = store.watch(b"", 0)
                changes = await anext(watch)
        finally:
            await store.close()
    assert [(change.key, change.mod_revision) for change in changes] == [(b"/a", 7)]
    assert len(asked) == 2

"""Unary calls against servers that others wrote: gRPC's own (C core) and a real etcd that is killed, frozen or far away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import uvloop

from bamikube.kit.world import World
from bamikube.store.etcd import EtcdStore
from bamikube.store.http2 import CallError, Http2Client, connection
from bamikube.store.port import Compare, Put, Txn, Unavailable
from tests.support.etcd import EtcdServer, etcd_server, free_ports
from tests.support.http2_peer import until


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    """``/t.T/echo`` answers its message, ``/t.T/grow`` that many bytes, ``/t.T/fail`` an error; ``heads`` are kept."""

    def __init__(self) -> None:
        self.heads: list[dict[str, str]] = []

    def service(self, details: Any) -> Any:
        async def answer(message: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            head = dict(details.invocation_metadata)
            self.heads.append({**head, "left": str(context.time_remaining())})
            if details.method == "/t.T/grow":
                return bytes(int(message))
            if details.method == "/t.T/fail":
                await context.abort(
                    grpc.StatusCode.FAILED_PRECONDITION, "100 % of Größe €\n" + message.decode()
                )
            if details.method == "/t.T/wait":
                await asyncio.sleep(60)
            return message

        return grpc.unary_unary_rpc_method_handler(answer)


@contextlib.asynccontextmanager
async def grpc_server() -> AsyncIterator[tuple[Echo, Http2Client]]:
    echo = Echo()
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_concurrent_streams", 50)]
    )
    server.add_generic_rpc_handlers((echo,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = Http2Client([("127.0.0.1", port)], tls=None, authority="localhost", world=World())
    try:
        async with asyncio.timeout(20):
            yield echo, client
    finally:
        await client.close()
        await server.stop(None)


async def test_grpcs_own_server_understands_us_and_we_it() -> None:
    async with grpc_server() as (echo, client):
        one = client.method("/t.T/echo", hasleader="true")
        assert await client.call(one, b"hello", 5) == b"hello"
        assert echo.heads[0]["hasleader"] == "true" and 4 < float(echo.heads[0]["left"]) <= 5
        assert await client.call(one, b"", 5) == b""
        messages = [b"%d" % number * (number * 40) for number in range(200)]
        assert await asyncio.gather(*(client.call(one, m, 15) for m in messages)) == messages
        large = bytes(range(256)) * (12 << 10)  # 3 MiB, there and back
        assert await asyncio.gather(*(client.call(one, large, 15) for _ in range(3))) == [large] * 3
        assert await client.call(client.method("/t.T/grow"), b"20971520", 15) == bytes(20 << 20)


async def test_grpcs_errors_arrive_word_by_word() -> None:
    async with grpc_server() as (_, client):
        with pytest.raises(CallError) as failed:
            await client.call(client.method("/t.T/fail"), b"what", 5)
        assert failed.value.code is grpc.StatusCode.FAILED_PRECONDITION
        assert failed.value.text == "100 % of Größe €\nwhat"
        with pytest.raises(CallError) as late:
            await client.call(client.method("/t.T/wait"), b"", 0.2)
        assert late.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await client.call(client.method("/t.T/echo"), b"on", 5) == b"on"


async def test_a_range_of_twenty_megabytes(tmp_path: Path) -> None:
    async with etcd_server(tmp_path / "etcd", tls=True) as etcd:
        store = EtcdStore(etcd.endpoints, world=World(), **etcd.credentials)
        value = bytes(range(256)) * 4096  # 1 MiB
        await asyncio.gather(*(store.txn([], [Put(b"/large/%02d" % n, value)]) for n in range(20)))
        whole, *small = await asyncio.gather(store.range(b"/large/"), *(store.revision() for _ in range(20)))
        assert [kv.value for kv in whole.kvs] == [value] * 20
        assert all(revision >= whole.revision for revision in small)
        await store.close()


async def create(store: EtcdStore, number: int) -> Txn:
    key = b"/%04d" % number
    return await store.txn([Compare(key, 0)], [Put(key, bytes(2000))])


async def test_a_crash_with_many_calls_in_flight_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Every call ends: reads with an answer, writes with an answer or Unavailable; what was answered is there."""
    async with etcd_server(tmp_path / "etcd") as etcd:
        store = EtcdStore(etcd.endpoints, world=World())
        done = 0

        async def counted(number: int) -> Txn:
            nonlocal done
            outcome = await create(store, number)
            done += 1
            return outcome

        writes = [asyncio.ensure_future(counted(number)) for number in range(600)]
        await until(lambda: done >= 100)
        reads = [asyncio.ensure_future(store.revision()) for _ in range(20)]
        await asyncio.sleep(0)
        etcd.kill()
        await asyncio.to_thread(etcd.start)
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert all(isinstance(outcome, Txn | Unavailable) for outcome in outcomes)
        assert any(isinstance(outcome, Unavailable) for outcome in outcomes)
        there = {kv.key: kv.mod_revision for kv in (await store.range(b"/", keys_only=True)).kvs}
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, Txn):
                assert there[b"/%04d" % number] == outcome.revision
        assert min(await asyncio.gather(*reads)) >= 100
        # After Unavailable a guarded second attempt settles it, whichever of the two it was.
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, Unavailable):
                again = await create(store, number)
                assert again.succeeded == (b"/%04d" % number not in there)
        await store.close()


async def test_of_three_endpoints_one_is_dead_and_one_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "TICK", 0.1)
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    async with etcd_server(tmp_path / "a") as silent, etcd_server(tmp_path / "b") as good:
        store = EtcdStore([dead, silent.endpoint, good.endpoint], world=World())
        while sum(link.connection is not None for link in store._client._links) < 2:
            await store.revision()
        silent.freeze()
        try:
            async with asyncio.timeout(8):
                assert min(await asyncio.gather(*(store.revision() for _ in range(64)))) >= 1
            # From now on nobody waits for the silent one, not even once.
            async with asyncio.timeout(1):
                await asyncio.gather(*(store.revision() for _ in range(64)))
        finally:
            silent.thaw()
        await until(lambda: sum(link.connection is not None for link in store._client._links) == 2)
        await store.close()


def test_the_same_under_uvloop(tmp_path: Path) -> None:
    """The API server runs on uvloop, whose transports are its own."""

    async def work(etcd: EtcdServer) -> None:
        store = EtcdStore(etcd.endpoints, world=World(), **etcd.credentials)
        outcomes = await asyncio.gather(*(create(store, number) for number in range(300)))
        assert len({outcome.revision for outcome in outcomes}) == 300
        found = await store.range(b"/")
        assert found.count == 300 and all(len(kv.value) == 2000 for kv in found.kvs)
        await asyncio.to_thread(etcd.restart)
        assert await store.revision() == found.revision
        await store.close()

    def run(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)

    with etcd_server(tmp_path / "etcd", tls=True) as etcd:
        run(work(etcd))

"""EtcdStore while etcd restarts, crashes, falls silent, fills up or compacts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.store.etcd import EtcdStore, open_client, split_endpoints
from bamikube.store.port import Change, Compacted, Delete, NoSpace, Put, Unavailable
from tests.support.etcd import EtcdServer, etcd_server, free_ports


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    with etcd_server(tmp_path / "etcd") as server:
        yield server


@pytest.fixture
async def store(etcd: EtcdServer) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(etcd.endpoints, world=World(), timeout=5)
    yield store
    await store.close()


async def put_until_done(store: EtcdStore, key: bytes, value: bytes) -> None:
    while True:
        try:
            await store.txn([], [Put(key, value)])
            return
        except Unavailable:
            await asyncio.sleep(0.05)


async def test_a_watch_outlives_restarts_and_crashes_without_a_gap(
    etcd: EtcdServer, store: EtcdStore
) -> None:
    start = await store.revision() + 1
    seen: list[Change] = []
    tasks = Tasks("test")

    async def watch() -> None:
        async for batch in store.watch(b"/w/", start):
            seen.extend(batch)

    task = tasks.spawn(watch())
    for round_number in range(3):
        for number in range(20):
            await put_until_done(store, b"/w/%d" % number, b"%d" % round_number)
        if round_number == 0:
            await asyncio.to_thread(etcd.restart)
        elif round_number == 1:
            etcd.kill()
            await asyncio.to_thread(etcd.start)
    last = (await store.txn([], [Put(b"/w/last", b"")])).revision
    async with asyncio.timeout(20):
        while not seen or seen[-1].mod_revision < last:
            assert not task.done()
            await asyncio.sleep(0.02)
    assert [change.mod_revision for change in seen] == list(range(start, last + 1))
    await tasks.close()


async def test_reads_wait_for_etcd_to_come_back(etcd: EtcdServer, store: EtcdStore) -> None:
    await store.txn([], [Put(b"/a", b"1")])
    etcd.stop()
    read = asyncio.ensure_future(store.get(b"/a"))
    await asyncio.to_thread(etcd.start)
    found = await read
    assert found is not None and found.value == b"1"


async def test_calls_to_a_dead_etcd_end_with_their_deadline(etcd: EtcdServer) -> None:
    etcd.stop()
    store = EtcdStore(etcd.endpoints, world=World(), timeout=0.5)
    async with asyncio.timeout(5):
        for call in (store.get(b"/a"), store.revision(), store.txn([], [Put(b"/a", b"")]), store.grant(5)):
            with pytest.raises(Unavailable, match=etcd.endpoint):
                await call
    await store.close()


async def test_calls_to_a_silent_etcd_end_with_their_deadline(etcd: EtcdServer) -> None:
    store = EtcdStore(etcd.endpoints, world=World(), timeout=0.5)
    await store.revision()
    etcd.freeze()
    try:
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await store.txn([], [Put(b"/a", b"")])
            with pytest.raises(Unavailable):
                await store.get(b"/a")
    finally:
        etcd.thaw()
    await store.close()


async def test_a_watch_that_cannot_resume_says_compacted(etcd: EtcdServer, store: EtcdStore) -> None:
    start = (await store.txn([], [Put(b"/a", b"0")])).revision
    stream = store.watch(b"", start)
    assert (await anext(stream))[0].mod_revision == start
    etcd.stop()
    await asyncio.to_thread(etcd.start)
    other = EtcdStore(etcd.endpoints, world=World())
    for number in range(5):
        await put_until_done(other, b"/a", b"%d" % number)
    current = await other.revision()
    await other.compact(current)
    await other.close()
    try:
        async with asyncio.timeout(10):
            while (await anext(stream))[-1].mod_revision < current:
                pass  # the stream was open again before the compaction: nothing was missed
    except Compacted as compacted:
        assert compacted.revision == current


async def test_closing_the_store_ends_its_watches(store: EtcdStore) -> None:
    stream = store.watch(b"", 1)
    waiting = asyncio.ensure_future(anext(stream))
    await store.revision()
    await store.close()
    with pytest.raises(Unavailable):
        async with asyncio.timeout(5):
            await waiting


async def test_a_cancelled_watch_is_cancelled(store: EtcdStore) -> None:
    waiting = asyncio.ensure_future(anext(store.watch(b"", 0)))
    await store.revision()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_full_etcd_takes_deletions_and_no_puts(tmp_path: Path) -> None:
    async with etcd_server(tmp_path / "small", flags=(f"--quota-backend-bytes={2 * 1024 * 1024}",)) as etcd:
        store = EtcdStore(etcd.endpoints, world=World())
        with pytest.raises(NoSpace, match="etcd alarms"):
            for number in range(200):  # etcd counts what it has committed, every 100 ms
                await store.txn([], [Put(b"/%d" % (number % 5), bytes(1024 * 1024))])
        assert (await store.txn([], [Delete(b"/0")])).succeeded
        await store.close()


async def test_a_dead_endpoint_among_several_is_survived(etcd: EtcdServer) -> None:
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    store = EtcdStore([dead, etcd.endpoint], world=World(), timeout=5)
    outcomes = await asyncio.gather(*(store.txn([], [Put(b"/%d" % n, b"")]) for n in range(20)))
    assert all(outcome.succeeded for outcome in outcomes)
    await store.close()


async def test_several_tls_endpoints(tmp_path: Path) -> None:
    async with etcd_server(tmp_path / "tls", tls=True) as etcd:
        dead = f"https://127.0.0.1:{free_ports(1)[0]}"
        store = EtcdStore([dead, etcd.endpoint], world=World(), timeout=5, **etcd.credentials)
        assert await store.revision() >= 1
        await store.close()


async def test_prefix_keeps_clusters_apart(etcd: EtcdServer) -> None:
    one = EtcdStore(etcd.endpoints, world=World(), prefix=b"/one")
    two = EtcdStore(etcd.endpoints, world=World(), prefix=b"/two")
    start = (await one.txn([], [Put(b"/a", b"1")])).revision
    await two.txn([], [Put(b"/a", b"2")])
    assert [kv.key for kv in (await one.range(b"")).kvs] == [b"/a"]
    assert [kv.key for kv in (await two.range(b"/", start=b"/a")).kvs] == [b"/a"]
    batch = await anext(two.watch(b"", start))
    assert [(change.key, change.value) for change in batch] == [(b"/a", b"2")]
    await one.close()
    await two.close()


def test_endpoints_are_checked() -> None:
    assert split_endpoints(["https://[::1]:2379"]) == (True, [("::1", 2379)])
    for wrong in ([], ["ftp://a:1"], ["http://a"], ["http://a:1", "https://b:1"]):
        with pytest.raises(ValueError, match="etcd endpoint"):
            split_endpoints(wrong)


async def test_several_endpoints_must_be_addresses() -> None:
    with pytest.raises(ValueError, match="must be IP addresses"):
        open_client(["http://a.example:1", "http://b.example:1"], world=World())

"""What every implementation of the store's port must do: the same functions run against etcd and against the model.

A test module makes a fixture ``store`` and imports these functions by ``from tests.support.store_contract import *``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bamikube.store.port import (
    Change,
    Compacted,
    Compare,
    Delete,
    FutureRevision,
    KeyValue,
    Put,
    Store,
    StoreError,
    TooLarge,
)


async def put(store: Store, key: bytes, value: bytes) -> int:
    return (await store.txn([], [Put(key, value)])).revision


async def collect(stream: AsyncIterator[list[Change]], count: int) -> list[list[Change]]:
    """Batches until ``count`` changes have come."""
    batches: list[list[Change]] = []
    async with asyncio.timeout(10):
        while sum(map(len, batches)) < count:
            batches.append(await anext(stream))
    return batches


def flat(batches: list[list[Change]]) -> list[Change]:
    return [change for batch in batches for change in batch]


async def test_create_then_read(store: Store) -> None:
    before = await store.revision()
    outcome = await store.txn([Compare(b"/a", 0)], [Put(b"/a", b"1")])
    assert outcome.succeeded and outcome.revision == before + 1
    assert await store.get(b"/a") == KeyValue(b"/a", b"1", outcome.revision, outcome.revision)
    assert await store.get(b"/missing") is None
    assert await store.revision() == outcome.revision


async def test_failed_guard_tells_what_keys_hold_and_writes_nothing(store: Store) -> None:
    first = await put(store, b"/a", b"1")
    outcome = await store.txn(
        [Compare(b"/none", 0), Compare(b"/a", first + 7)], [Put(b"/b", b"x"), Delete(b"/a")]
    )
    assert not outcome.succeeded
    assert outcome.current == [None, KeyValue(b"/a", b"1", first, first)]
    assert await store.get(b"/b") is None
    assert await store.revision() == first


async def test_compare_and_swap(store: Store) -> None:
    first = await put(store, b"/a", b"1")
    second = await store.txn([Compare(b"/a", first)], [Put(b"/a", b"2")])
    assert second.succeeded
    late = await store.txn([Compare(b"/a", first)], [Put(b"/a", b"3")])
    assert not late.succeeded and late.current[0] is not None and late.current[0].value == b"2"
    assert await store.get(b"/a") == KeyValue(b"/a", b"2", first, second.revision)


async def test_one_revision_for_all_writes_of_a_transaction(store: Store) -> None:
    await put(store, b"/old", b"0")
    outcome = await store.txn([], [Put(b"/x", b"1"), Delete(b"/old"), Put(b"/y", b"2")])
    x, y = await store.get(b"/x"), await store.get(b"/y")
    assert x is not None and y is not None
    assert x.mod_revision == y.mod_revision == outcome.revision
    assert await store.get(b"/old") is None


async def test_nothing_written_moves_no_revision(store: Store) -> None:
    before = await store.revision()
    assert (await store.txn([], [Delete(b"/not-there")])).revision == before
    assert (await store.txn([Compare(b"/not-there", 0)], [])).succeeded
    assert await store.revision() == before


async def test_a_key_may_be_written_once_in_a_transaction(store: Store) -> None:
    with pytest.raises(StoreError, match="duplicate key"):
        await store.txn([], [Put(b"/a", b"1"), Put(b"/a", b"2")])


async def test_recreated_key_has_a_new_create_revision(store: Store) -> None:
    await put(store, b"/a", b"1")
    await store.txn([], [Delete(b"/a")])
    again = await put(store, b"/a", b"2")
    assert await store.get(b"/a") == KeyValue(b"/a", b"2", again, again)


async def test_empty_and_binary_values(store: Store) -> None:
    for value in (b"", b"\x00\xff", bytes(range(256))):
        await put(store, b"/v", value)
        found = await store.get(b"/v")
        assert found is not None and found.value == value


async def test_range_is_ordered_limited_and_continues(store: Store) -> None:
    await store.txn([], [Put(f"/p/{n:02}".encode(), b"%d" % n) for n in (3, 1, 4, 2, 0)])
    await put(store, b"/q", b"other")
    whole = await store.range(b"/p/")
    assert [kv.key for kv in whole.kvs] == [b"/p/00", b"/p/01", b"/p/02", b"/p/03", b"/p/04"]
    assert (whole.count, whole.more) == (5, False)
    page = await store.range(b"/p/", limit=2)
    assert [kv.value for kv in page.kvs] == [b"0", b"1"] and page.more and page.count == 5
    rest = await store.range(b"/p/", start=page.kvs[-1].key + b"\0", revision=page.revision)
    assert [kv.value for kv in rest.kvs] == [b"2", b"3", b"4"] and not rest.more and rest.count == 3


async def test_range_of_keys_only(store: Store) -> None:
    revision = await put(store, b"/p/a", b"long")
    assert (await store.range(b"/p/", keys_only=True)).kvs == [KeyValue(b"/p/a", b"", revision, revision)]


async def test_range_of_everything_and_of_high_bytes(store: Store) -> None:
    await store.txn([], [Put(b"\xff\xff1", b"a"), Put(b"\xff", b"b"), Put(b"m", b"c")])
    assert [kv.key for kv in (await store.range(b"")).kvs] == [b"m", b"\xff", b"\xff\xff1"]
    assert [kv.key for kv in (await store.range(b"\xff\xff")).kvs] == [b"\xff\xff1"]


async def test_reads_of_the_past(store: Store) -> None:
    first = await put(store, b"/a", b"1")
    second = await put(store, b"/a", b"2")
    await store.txn([], [Delete(b"/a")])
    past = await store.get(b"/a", revision=first)
    assert past is not None and past.value == b"1"
    listed = await store.range(b"/", revision=second)
    assert [kv.value for kv in listed.kvs] == [b"2"]
    assert listed.revision == await store.revision()
    with pytest.raises(FutureRevision):
        await store.get(b"/a", revision=second + 100)


async def test_compacted_history_is_refused_with_the_oldest_revision(store: Store) -> None:
    first = await put(store, b"/a", b"1")
    await put(store, b"/a", b"2")
    third = await put(store, b"/a", b"3")
    await store.compact(third)
    await store.compact(third)  # no error
    await store.compact(first)  # neither
    with pytest.raises(Compacted) as refused:
        await store.get(b"/a", revision=first)
    assert refused.value.revision == third
    with pytest.raises(Compacted) as refused:
        await anext(store.watch(b"", first))
    assert refused.value.revision == third
    kept = await store.get(b"/a", revision=third)
    assert kept is not None and kept.value == b"3"
    with pytest.raises(FutureRevision):
        await store.compact(third + 100)


async def test_watch_from_a_compacted_revision_that_is_a_put_misses_nothing_after_it(store: Store) -> None:
    await put(store, b"/a", b"1")
    mark = await put(store, b"/mark", b"")
    gone = (await store.txn([], [Delete(b"/a")])).revision
    await store.compact(mark)
    changes = flat(await collect(store.watch(b"", mark), 2))
    assert [(c.key, c.mod_revision) for c in changes] == [(b"/mark", mark), (b"/a", gone)]


async def test_watch_history_then_live(store: Store) -> None:
    first = await put(store, b"/w/a", b"1")
    await put(store, b"/elsewhere", b"-")
    second = await put(store, b"/w/a", b"2")
    stream = store.watch(b"/w/", first)
    history = flat(await collect(stream, 2))
    assert history == [
        Change(b"/w/a", b"1", first),
        Change(b"/w/a", b"2", second),
    ]
    third = (await store.txn([], [Delete(b"/w/a")])).revision
    live = flat(await collect(stream, 1))
    assert live == [Change(b"/w/a", None, third)]


async def test_watch_of_the_whole_key_space_sees_every_revision(store: Store) -> None:
    start = await store.revision() + 1
    stream = store.watch(b"", start)
    for number in range(20):
        await put(store, b"/%d" % (number % 3), b"x")
    changes = flat(await collect(stream, 20))
    assert [change.mod_revision for change in changes] == list(range(start, start + 20))


async def test_a_batch_never_splits_a_revision(store: Store) -> None:
    start = await store.revision() + 1
    for number in range(5):
        await store.txn([], [Put(b"/big/%02d" % key, bytes(30_000) + b"%d" % number) for key in range(40)])
    batches = await collect(store.watch(b"/big/", start), 200)
    seen: set[int] = set()
    for batch in batches:
        revisions = {change.mod_revision for change in batch}
        assert not revisions & seen
        seen |= revisions
    assert [c.mod_revision for c in flat(batches)] == [start + n // 40 for n in range(200)]


async def test_watch_ahead_of_time_waits(store: Store) -> None:
    start = await store.revision() + 3
    stream = store.watch(b"", start)
    task = asyncio.ensure_future(anext(stream))
    for _ in range(4):
        await put(store, b"/a", b"x")
    async with asyncio.timeout(10):
        assert (await task)[0].mod_revision == start


async def test_a_request_over_the_limit_is_too_large(store: Store) -> None:
    with pytest.raises(TooLarge):
        await store.txn([], [Put(b"/big", bytes(2 * 1024 * 1024))])


async def test_a_lease_takes_its_keys_with_it_in_one_revision(store: Store) -> None:
    lease = await store.grant(1)
    bound = (await store.txn([], [Put(b"/l/b", b"2", lease), Put(b"/l/a", b"1", lease)])).revision
    kept = await store.get(b"/l/a")
    assert kept is not None and kept.lease == lease
    changes = flat(await collect(store.watch(b"/l/", bound + 1), 2))
    assert [(c.key, c.value) for c in changes] == [(b"/l/a", None), (b"/l/b", None)]
    assert len({c.mod_revision for c in changes}) == 1


async def test_a_put_without_lease_leaves_the_lease(store: Store) -> None:
    lease = await store.grant(60)
    await store.txn([], [Put(b"/l/a", b"1", lease), Put(b"/l/b", b"1", lease)])
    await put(store, b"/l/a", b"2")
    await store.revoke(lease)  # type: ignore[attr-defined]
    assert [kv.key for kv in (await store.range(b"/l/")).kvs] == [b"/l/a"]


async def test_an_unknown_lease_is_refused_and_nothing_written(store: Store) -> None:
    with pytest.raises(StoreError, match="lease not found"):
        await store.txn([], [Put(b"/x", b"1"), Put(b"/y", b"1", 424242)])
    assert await store.get(b"/x") is None


async def test_many_transactions_in_flight_each_get_a_revision_of_their_own(store: Store) -> None:
    start = await store.revision()
    outcomes = await asyncio.gather(
        *(store.txn([Compare(b"/%d" % n, 0)], [Put(b"/%d" % n, b"")]) for n in range(200))
    )
    assert sorted(o.revision for o in outcomes) == list(range(start + 1, start + 201))


async def test_of_rivals_for_one_key_one_wins(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(store.txn([Compare(b"/one", 0)], [Put(b"/one", b"%d" % n)]) for n in range(50))
    )
    assert sum(outcome.succeeded for outcome in outcomes) == 1


async def test_what_is_written_takes_room(store: Store) -> None:
    assert await store.size() >= 0
    for number in range(8):
        await store.txn([], [Put(b"/big/%d" % number, b"x" * 200_000)])
    for _ in range(200):  # etcd's file grows when it is next written, ten times a second
        if await store.size() >= 1_600_000:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("what was written takes no room")

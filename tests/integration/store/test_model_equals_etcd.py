"""Any history of operations gives the same answers from the model as from a real etcd, watches included."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bamikube.kit.world import World
from bamikube.store.etcd import EtcdStore
from bamikube.store.model import ModelStore
from bamikube.store.port import Change, Compare, Delete, Put, Store, StoreError
from tests.support.etcd import EtcdServer, etcd_server

KEYS = st.sampled_from([b"/a", b"/a/1", b"/b", b"/b\xff"])
WRITES = st.lists(st.one_of(st.builds(Put, KEYS, st.binary(max_size=3)), st.builds(Delete, KEYS)), max_size=3)
GUARDS = st.lists(st.builds(Compare, KEYS, st.integers(0, 6)), max_size=2)
STEPS = st.one_of(
    st.tuples(st.just("txn"), GUARDS, WRITES),
    st.tuples(st.just("get"), KEYS, st.integers(0, 8)),
    st.tuples(st.just("range"), st.sampled_from([b"", b"/a", b"/b"]), st.integers(0, 8)),
    st.tuples(st.just("compact"), st.integers(1, 6), st.none()),
)


@pytest.fixture(scope="module")
def etcds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    directory: Path = tmp_path_factory.mktemp("etcd")
    with etcd_server(directory) as server:
        yield server


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One loop for all examples: grpc.aio does not like many loops in a row."""
    with asyncio.Runner() as one:
        yield one


class Relative:
    """A store whose revisions count from its first one: etcd's goes on from example to example."""

    def __init__(self, store: Store, base: int) -> None:
        self.store, self.base = store, base

    def absolute(self, revision: int) -> int:
        return self.base + revision if revision else 0

    async def step(self, kind: str, first: object, second: object) -> object:
        try:
            if kind == "txn":
                guards = [Compare(g.key, self.absolute(g.mod_revision)) for g in first]  # type: ignore[attr-defined]
                done = await self.store.txn(guards, second)  # type: ignore[arg-type]
                return done.succeeded, done.revision - self.base, [self.plain(kv) for kv in done.current]
            if kind == "get":
                return self.plain(await self.store.get(first, revision=self.absolute(second)))  # type: ignore[arg-type]
            if kind == "range":
                found = await self.store.range(first, limit=2, revision=self.absolute(second))  # type: ignore[arg-type]
                return (
                    [self.plain(kv) for kv in found.kvs],
                    found.count,
                    found.more,
                    found.revision - self.base,
                )
            return await self.store.compact(self.absolute(first))  # type: ignore[arg-type]
        except StoreError as error:
            return type(error).__name__

    def plain(self, kv: object) -> object:
        if kv is None:
            return None
        return kv.key, kv.value, kv.create_revision - self.base, kv.mod_revision - self.base  # type: ignore[attr-defined]

    async def watched(self, until: int) -> object:
        """Every change of the history that is left, oldest first."""
        seen: list[Change] = []
        start = self.base + 1
        while True:
            try:
                async with asyncio.timeout(5):
                    async for batch in self.store.watch(b"/", start):
                        seen.extend(batch)
                        if seen[-1].mod_revision - self.base >= until:
                            return [(c.key, c.value, c.mod_revision - self.base) for c in seen]
            except StoreError as compacted:
                start = compacted.revision  # type: ignore[attr-defined]


async def compare(server: EtcdServer, steps: list[tuple[str, object, object]]) -> None:
    world = World()
    etcd, model = EtcdStore(server.endpoints, world=world), ModelStore(world)
    left = (await etcd.range(b"")).kvs
    await etcd.txn([], [Delete(kv.key) for kv in left])
    await etcd.txn([], [Put(b"!", b"")])
    await etcd.compact(await etcd.revision())
    await model.txn([], [Put(b"!", b"")])
    await model.compact(await model.revision())
    one, two = Relative(etcd, await etcd.revision()), Relative(model, await model.revision())
    try:
        for step in steps:
            assert await one.step(*step) == await two.step(*step), step
        last = await one.step("txn", [], [Put(b"/last", b"")])
        assert last == await two.step("txn", [], [Put(b"/last", b"")])
        until = last[1]  # type: ignore[index]
        assert await one.watched(until) == await two.watched(until)
    finally:
        await etcd.close()
        await model.close()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=15))
def test_model_equals_etcd(
    etcds: EtcdServer, runner: asyncio.Runner, steps: list[tuple[str, object, object]]
) -> None:
    runner.run(compare(etcds, steps))

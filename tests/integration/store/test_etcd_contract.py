"""EtcdStore on a real etcd keeps the store's contract, with and without TLS and under a prefix."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bamikube.kit.world import World
from bamikube.store.etcd import EtcdStore
from tests.support.etcd import EtcdServer, etcd_server
from tests.support.store_contract import *  # noqa: F403


@pytest.fixture(scope="module", params=["plain", "tls"])
def etcd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    directory: Path = tmp_path_factory.mktemp(f"etcd-{request.param}")
    with etcd_server(directory, tls=request.param == "tls") as server:
        yield server


@pytest.fixture
async def store(etcd: EtcdServer) -> AsyncIterator[EtcdStore]:
    """A store on an emptied key space (revisions go on)."""
    store = EtcdStore(etcd.endpoints, world=World(), **etcd.credentials)
    left = (await store.range(b"", keys_only=True)).kvs
    for start in range(0, len(left), 100):
        await store.txn([], [Delete(kv.key) for kv in left[start : start + 100]])  # noqa: F405
    yield store
    await store.close()

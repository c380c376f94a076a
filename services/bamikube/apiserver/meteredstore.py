"""The store, with its requests timed (``etcd_request_duration_seconds``)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from bamikube.apiserver.apimetrics import store_series
from bamikube.kit.world import World
from bamikube.store.port import Change, Compare, Delete, KeyValue, Put, Range, Store, Txn


def _operation(guards: Sequence[Compare], write: Put | Delete) -> str:
    """What a transaction does, in the words of Kubernetes' metrics."""
    if isinstance(write, Delete):
        return "delete"
    return "create" if guards and not guards[0].mod_revision else "update"


class MeteredStore:
    """A :class:`Store` in front of another one."""

    def __init__(self, store: Store, world: World) -> None:
        self._store = store
        self._now = world.clock.monotonic

    async def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        start = self._now()
        try:
            return await self._store.get(key, revision=revision)
        finally:
            store_series("get", key).observe(self._now() - start)

    async def range(
        self, prefix: bytes, *, limit: int = 0, start: bytes = b"", revision: int = 0, keys_only: bool = False
    ) -> Range:
        began = self._now()
        try:
            return await self._store.range(
                prefix, limit=limit, start=start, revision=revision, keys_only=keys_only
            )
        finally:
            store_series("list", prefix).observe(self._now() - began)

    async def txn(self, guards: Sequence[Compare], writes: Sequence[Put | Delete]) -> Txn:
        start = self._now()
        try:
            return await self._store.txn(guards, writes)
        finally:
            if writes:
                key = writes[0].key
                store_series(_operation(guards, writes[0]), key).observe(self._now() - start)

    async def revision(self) -> int:
        return await self._store.revision()

    def watch(self, prefix: bytes, start_revision: int) -> AsyncIterator[list[Change]]:
        return self._store.watch(prefix, start_revision)

    async def grant(self, ttl: int) -> int:
        return await self._store.grant(ttl)

    async def size(self) -> int:
        return await self._store.size()

    async def compact(self, revision: int) -> None:
        await self._store.compact(revision)

    async def close(self) -> None:
        await self._store.close()

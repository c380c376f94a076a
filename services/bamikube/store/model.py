"""etcd in memory: the store's port for the simulation, with faults on request.

The model keeps what etcd keeps: for every key its versions, each stamped with the revision that made it, and a
tombstone where it was deleted. Reads of the past, watches from the past and compaction follow from that:

    revision   2          3            4          5
    key a      v1 (2)     v2 (3)       deleted
    key b                              w1 (4)     w2 (5)

``get(a, revision=3)`` is v2; a watch from 4 sees one batch ``[a deleted, b=w1]`` and then ``[b=w2]``; ``compact(4)``
forgets v1, v2 and the tombstone (as etcd 3.4 does: a watch from exactly 4 still opens, and sees ``b=w1`` only).

Nothing here asks the time, throws dice or opens a socket: leases run on the injected clock, and everything that may
go either way (was that write done before the connection broke?) is decided by the injected chance. The same seed
gives the same history. The contract tests run the same functions against this model and against real etcd.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.store.keys import ZERO, prefix_end
from bamikube.store.port import (
    Change,
    Compacted,
    Compare,
    Delete,
    FutureRevision,
    KeyValue,
    NoSpace,
    Put,
    Range,
    StoreError,
    TooLarge,
    Txn,
    Unavailable,
)

# etcd raises shorter leases to this (one and a half election timeouts, in whole seconds).
MIN_TTL = 2
# How many revisions etcd puts at most into one answer to a watcher that catches up.
CATCH_UP_REVISIONS = 1000


@dataclass(slots=True)
class _Version:
    """What a key became at ``revision``; ``kv`` is None for a tombstone."""

    revision: int
    kv: KeyValue | None


@dataclass(slots=True)
class _Lease:
    ttl: int
    deadline: float  # monotonic
    keys: set[bytes] = field(default_factory=set)


class _Lost:
    """In a watcher's queue: the stream broke here."""


class ModelStore:
    """:class:`bamikube.store.port.Store` in memory.

    ``timeout`` is the deadline of a call in seconds, ``max_request_bytes`` etcd's limit of the same name.
    Fault knobs: :meth:`lose_watch`, :meth:`pause` / :meth:`resume`, :meth:`unavailable`, :meth:`slow`,
    :attr:`no_space`.
    """

    def __init__(self, world: World, *, timeout: float = 10.0, max_request_bytes: int = 1536 * 1024) -> None:
        self.no_space = False  # while True, puts and leases are refused as with etcd's NOSPACE alarm
        self._world = world
        self._timeout = timeout
        self._max_request_bytes = max_request_bytes
        self._revision = 1
        self._compacted = 0
        self._versions: dict[bytes, list[_Version]] = {}
        self._keys: list[bytes] = []  # sorted; exactly the keys of _versions
        self._log: dict[int, list[bytes]] = {}  # revision -> keys changed, in order; never below _compacted
        self._leases: dict[int, _Lease] = {}
        # In the order they were opened: a set's order would differ from run to run.
        self._streams: dict[asyncio.Queue[list[Change] | _Lost], None] = {}
        self._tasks = Tasks("store-model")
        self._running = asyncio.Event()
        self._running.set()
        self._down_until = 0.0
        self._latency = 0.0
        self._closed = False

    # ---- faults

    def lose_watch(self) -> None:
        """Break every open watch stream: what was on its way is lost, and watchers resume by themselves."""
        for stream in self._streams:
            while not stream.empty():
                stream.get_nowait()
            stream.put_nowait(_Lost())
        self._streams.clear()

    def pause(self) -> None:
        """Fall silent, as a stopped process does: calls hang until their deadline, watches deliver nothing."""
        self._running.clear()

    def resume(self) -> None:
        """End :meth:`pause`."""
        self._running.set()

    def unavailable(self, seconds: float) -> None:
        """Refuse all calls for ``seconds`` from now and break the watches. Some of the writes refused are done."""
        self._down_until = max(self._down_until, self._world.clock.monotonic() + seconds)
        self.lose_watch()

    def slow(self, seconds: float) -> None:
        """From now on every call takes this much longer (0: as fast as it goes)."""
        self._latency = seconds

    # ---- reads

    async def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        await self._arrive()
        self._check_revision(revision)
        return self._at(key, revision or self._revision)

    async def range(
        self, prefix: bytes, *, limit: int = 0, start: bytes = b"", revision: int = 0, keys_only: bool = False
    ) -> Range:
        await self._arrive()
        self._check_revision(revision)
        found = []
        for key in self._under(prefix, start):
            if (kv := self._at(key, revision or self._revision)) is not None:
                found.append(kv)
        kvs = found[:limit] if limit else found
        if keys_only:
            kvs = [KeyValue(kv.key, b"", kv.create_revision, kv.mod_revision, kv.lease) for kv in kvs]
        return Range(kvs, self._revision, len(kvs) < len(found), len(found))

    async def revision(self) -> int:
        await self._arrive()
        return self._revision

    def _check_revision(self, revision: int) -> None:
        if revision > self._revision:
            raise FutureRevision(f"revision {revision} has not happened yet")
        if 0 < revision < self._compacted:
            raise Compacted(self._compacted)

    def _under(self, prefix: bytes, start: bytes = b"") -> Iterator[bytes]:
        end = prefix_end(prefix)
        for position in range(bisect_left(self._keys, max(prefix, start)), len(self._keys)):
            key = self._keys[position]
            if end != ZERO and key >= end:
                return
            yield key

    def _at(self, key: bytes, revision: int) -> KeyValue | None:
        for version in reversed(self._versions.get(key, ())):
            if version.revision <= revision:
                return version.kv
        return None

    # ---- writes

    async def txn(self, guards: Sequence[Compare], writes: Sequence[Put | Delete]) -> Txn:
        if (
            sum(len(w.key) + (len(w.value) if isinstance(w, Put) else 0) for w in writes)
            > self._max_request_bytes
        ):
            raise TooLarge("the request is over etcd's size limit; see etcd's --max-request-bytes")
        # Deleting a key twice is once too many but no error, to etcd; writing one twice is.
        deleted: set[bytes] = set()
        once: list[Put | Delete] = []
        for write in writes:
            if isinstance(write, Delete):
                if write.key in deleted:
                    continue
                deleted.add(write.key)
            once.append(write)
        writes = once
        if len({write.key for write in writes}) < len(writes):
            raise StoreError("etcd refused: etcdserver: duplicate key given in txn request")
        done_unseen = await self._arrive(write=True)
        outcome = self._txn(guards, writes)
        if done_unseen:
            raise Unavailable("the model's connection broke after the write")
        return outcome

    def _txn(self, guards: Sequence[Compare], writes: Sequence[Put | Delete]) -> Txn:
        if self.no_space and any(isinstance(write, Put) for write in writes):
            raise NoSpace("etcd's space quota is used up and it takes no writes; see `bamikube etcd alarms`")
        current = [self._at(guard.key, self._revision) for guard in guards]
        for guard, kv in zip(guards, current, strict=True):
            if (kv.mod_revision if kv else 0) != guard.mod_revision:
                return Txn(False, self._revision, current)
        for write in writes:
            if isinstance(write, Put) and write.lease and write.lease not in self._leases:
                raise StoreError("etcd refused: etcdserver: requested lease not found")
        self._commit(writes)
        return Txn(True, self._revision, [])

    def _commit(self, writes: Sequence[Put | Delete]) -> None:
        """Apply ``writes`` at one new revision (none when nothing changes) and tell the watchers."""
        revision = self._revision + 1
        changed: list[bytes] = []
        for write in writes:
            before = self._at(write.key, self._revision)
            if isinstance(write, Delete) and before is None:
                continue
            if before is not None and before.lease in self._leases:
                self._leases[before.lease].keys.discard(write.key)
            kv = None
            if isinstance(write, Put):
                created = before.create_revision if before else revision
                kv = KeyValue(write.key, write.value, created, revision, write.lease)
                if write.lease:
                    self._leases[write.lease].keys.add(write.key)
            if write.key not in self._versions:
                self._versions[write.key] = []
                insort(self._keys, write.key)
            self._versions[write.key].append(_Version(revision, kv))
            changed.append(write.key)
        if not changed:
            return
        self._revision = revision
        self._log[revision] = changed
        batch = self._changes(revision)
        for stream in self._streams:
            stream.put_nowait(batch)

    async def size(self) -> int:
        await self._arrive()
        return sum(
            len(key) + (len(one.kv.value) if one.kv is not None else 0)
            for key, versions in self._versions.items()
            for one in versions
        )

    async def compact(self, revision: int) -> None:
        await self._arrive(write=True)
        if revision > self._revision:
            raise FutureRevision(f"revision {revision} has not happened yet")
        if revision <= self._compacted:
            return
        self._compacted = revision
        for key in list(self._keys):
            versions = self._versions[key]
            kept = max((i for i, version in enumerate(versions) if version.revision <= revision), default=0)
            del versions[:kept]
            if versions[0].kv is None and versions[0].revision <= revision:
                del versions[0]
            if not versions:
                del self._versions[key]
                del self._keys[bisect_left(self._keys, key)]
        self._log = {at: keys for at, keys in self._log.items() if at >= revision}

    # ---- leases

    async def grant(self, ttl: int) -> int:
        await self._arrive(write=True)
        if self.no_space:
            raise NoSpace("etcd's space quota is used up and it takes no writes; see `bamikube etcd alarms`")
        lease = self._world.chance.randrange(1, 2**63)
        ttl = max(ttl, MIN_TTL)
        self._leases[lease] = _Lease(ttl, self._world.clock.monotonic() + ttl)
        self._tasks.spawn(self._expire(lease), f"lease-{lease:x}")
        return lease

    async def revoke(self, lease: int) -> None:
        """End a lease now; its keys are deleted."""
        await self._arrive(write=True)
        if lease not in self._leases:
            raise StoreError("etcd refused: etcdserver: requested lease not found")
        self._end_lease(lease)

    def _end_lease(self, lease: int) -> None:
        keys = sorted(self._leases[lease].keys)
        self._commit([Delete(key) for key in keys])
        del self._leases[lease]

    async def _expire(self, lease: int) -> None:
        while (found := self._leases.get(lease)) is not None:
            left = found.deadline - self._world.clock.monotonic()
            if left <= 0:
                self._end_lease(lease)
                return
            await self._world.clock.sleep(left)

    # ---- watch

    async def watch(self, prefix: bytes, start_revision: int) -> AsyncIterator[list[Change]]:
        """See the port. ``start_revision`` 0 means: from now on."""
        following = start_revision
        while not self._closed:
            await self._arrive_patiently()
            following = following or self._revision + 1
            if following < self._compacted:
                raise Compacted(self._compacted)
            stream: asyncio.Queue[list[Change] | _Lost] = asyncio.Queue()
            for batch in self._history(prefix, following):
                stream.put_nowait(batch)
            self._streams[stream] = None
            try:
                while True:
                    batch_or_loss = await stream.get()
                    await self._running.wait()
                    if isinstance(batch_or_loss, _Lost):
                        break
                    batch = [
                        change
                        for change in batch_or_loss
                        if change.mod_revision >= following and change.key.startswith(prefix)
                    ]
                    if batch:
                        following = batch[-1].mod_revision + 1
                        yield batch
            finally:
                self._streams.pop(stream, None)
            await self._world.clock.sleep(0.05)
        raise Unavailable("the store was closed")

    def _history(self, prefix: bytes, start: int) -> Iterator[list[Change]]:
        """What a new watcher has missed, many revisions a batch, as etcd sends it."""
        batch: list[Change] = []
        revisions = [revision for revision in sorted(self._log) if revision >= start]
        for number, revision in enumerate(revisions, 1):
            batch.extend(change for change in self._changes(revision) if change.key.startswith(prefix))
            if number % CATCH_UP_REVISIONS == 0 and batch:
                yield batch
                batch = []
        if batch:
            yield batch

    def _changes(self, revision: int) -> list[Change]:
        """The changes of one revision, without those that compaction took away."""
        changes = []
        for key in self._log.get(revision, ()):
            version = next((v for v in self._versions.get(key, ()) if v.revision == revision), None)
            if version is None:
                continue
            changes.append(Change(key, version.kv.value if version.kv is not None else None, revision))
        return changes

    # ---- plumbing

    async def _arrive(self, *, write: bool = False) -> bool:
        """The way to the store: latency, silence, refusal. True: the write is to be done, its answer is lost."""
        clock = self._world.clock
        started = clock.monotonic()
        try:
            # Not wait_for: until Python 3.12 it forgets a cancellation that comes together with the result.
            async with asyncio.timeout(self._timeout):
                await self._running.wait()
        except TimeoutError:
            raise Unavailable(f"the model did not answer within {self._timeout:g} s") from None
        await clock.sleep(min(self._latency, self._timeout))
        late = clock.monotonic() - started >= self._timeout
        if self._closed:
            raise Unavailable("the store was closed")
        if late or clock.monotonic() < self._down_until:
            if write and self._world.chance.random() < 0.5:
                return True
            raise Unavailable("the model is not available")
        return False

    async def _arrive_patiently(self) -> None:
        """As :meth:`_arrive`, for as long as it takes: how a watch reconnects."""
        while True:
            try:
                await self._arrive()
                return
            except Unavailable:
                if self._closed:
                    raise
                await self._world.clock.sleep(0.1)

    async def close(self) -> None:
        self._closed = True
        self._running.set()
        self.lose_watch()
        await self._tasks.close()

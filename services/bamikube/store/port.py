"""The store's port: what the API server needs of a key-value store, and not a word more.

Two implementations exist: :mod:`bamikube.store.etcd` over gRPC, and :mod:`bamikube.store.model` in memory for the
simulation. The semantics are etcd's: one store-wide revision that every write transaction moves by one, and per key
a ``create_revision`` and a ``mod_revision``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class KeyValue:
    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Range:
    """What a range read saw. ``count`` is the number of keys in the whole range, ``more`` says it was cut by ``limit``."""

    kvs: list[KeyValue]
    revision: int
    more: bool = False
    count: int = 0


@dataclass(frozen=True, slots=True)
class Compare:
    """A guard of a transaction: the key's ``mod_revision`` must equal this (0: the key must not exist)."""

    key: bytes
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Put:
    key: bytes
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    key: bytes


@dataclass(frozen=True, slots=True)
class Txn:
    """The outcome of a transaction. When a guard failed nothing was written, and ``current`` holds, per guard in
    order, what its key held (None where it did not exist)."""

    succeeded: bool
    revision: int
    current: list[KeyValue | None]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one key. A deletion has ``value`` None and ``mod_revision`` of the deletion."""

    key: bytes
    value: bytes | None
    mod_revision: int


class StoreError(Exception):
    """The store did not do it, and said why."""


class Unavailable(StoreError):
    """The store cannot be reached or has no leader. The outcome of a write is unknown."""


class Compacted(StoreError):
    """The revision asked for is gone. ``revision`` is the oldest that is still there."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"the requested revision has been compacted; the oldest kept is {revision}")
        self.revision = revision


class FutureRevision(StoreError):
    """The revision asked for has not happened yet."""


class TooLarge(StoreError):
    """The request is over the store's size limit."""


class NoSpace(StoreError):
    """The store's quota is used up; an alarm is raised. See ``bamikube etcd alarms``."""


class Store(Protocol):
    """All calls carry a deadline of their own and raise :class:`StoreError` kinds only."""

    async def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        """Linearizable unless ``revision`` asks for the past."""

    async def range(
        self, prefix: bytes, *, limit: int = 0, start: bytes = b"", revision: int = 0, keys_only: bool = False
    ) -> Range:
        """Keys under ``prefix`` in order, from ``start`` on (inclusive)."""

    async def txn(self, guards: Sequence[Compare], writes: Sequence[Put | Delete]) -> Txn:
        """All writes if all guards hold, else none. One revision for all of them."""

    async def revision(self) -> int:
        """The current revision, linearizable."""

    def watch(self, prefix: bytes, start_revision: int) -> AsyncIterator[list[Change]]:
        """Changes under ``prefix`` (``b""``: the whole key space) from ``start_revision`` on, in batches that never
        split a revision. Survives reconnects by itself; raises :class:`Compacted` when it cannot resume."""

    async def grant(self, ttl: int) -> int:
        """A lease of ``ttl`` seconds; keys bound to it vanish with it."""

    async def size(self) -> int:
        """The bytes that all of it takes, history included."""

    async def compact(self, revision: int) -> None:
        """Forget history before ``revision``."""

    async def close(self) -> None: ...

"""The quota ledger: what a namespace uses is written down in the transaction that uses it.

Kubernetes reserves quota in one write and stores the object in a second one; what fails in between is counted until a
controller looks again. Here both are one transaction, as with the addresses of services (``registry/hooks.py``)::

    create pod      reads quota q at revision 812: used 9 of 10
                    txn(guards=[pod absent, q at 812], writes=[pod, q with used 10])
                    somebody was faster: nothing was written; q is read again, and judged again
    delete pod      txn(guards=[pod at 900, q at 990], writes=[pod gone, q with used 9])

So ``status.used`` is exact at every revision, whoever writes and however many servers there are. Within a server the
writers of a namespace that has quotas wait for each other instead of overtaking each other; a namespace without quotas
pays for one look-up in a dictionary.

A quota that is new, or has new limits, is counted by whoever comes first: the next writer of its namespace, or the
resourcequota controller. A refusal is believed only after the quota has been read from the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from bamikube.api import errors, quota, table
from bamikube.api.quantity import QuantityError
from bamikube.api.resources import Resource
from bamikube.apiserver.cache import keys
from bamikube.apiserver.cache.item import encode
from bamikube.apiserver.registry.reader import Reader
from bamikube.store.port import Compare, Delete, KeyValue, Put, Store, Txn

Object = dict[str, Any]

QUOTAS = ("", "resourcequotas")
TRIES = 12  # how often a write is tried against changing quotas before the client is told


class Held:
    """A quota as we know it: the revision it has there, the kinds it counts, and whether they have been counted."""

    __slots__ = ("kinds", "obj", "revision", "settled")

    def __init__(self, revision: int, obj: Object) -> None:
        self.revision = revision
        self.obj = obj
        going = "deletionTimestamp" in obj["metadata"]  # it limits nothing any more
        try:
            self.kinds = frozenset() if going else frozenset(quota.counted_kinds(obj))
            self.settled = quota.is_settled(obj)
        except QuantityError:  # written past validation
            self.kinds, self.settled = frozenset(), True


@dataclass(frozen=True, slots=True)
class Bill:
    """The quotas a write changes: by name, what is held now and what replaces it."""

    changes: dict[str, tuple[Held, Object]] = field(default_factory=dict)


NOTHING = Bill()
NO_CONCERN = quota.Charge()


class QuotaLedger:
    """All quotas of the cluster, as new as this server can know them."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._held: dict[str, dict[str, Held]] = {}
        self._locks: dict[
            str, tuple[asyncio.Lock, list[None]]
        ] = {}  # with as many entries as there are users
        self._row = table.by_name("resourcequotas")
        reader.subscribe(QUOTAS, self._changed)

    def watches(self, namespace: str, kind: tuple[str, str]) -> bool:
        """Whether any quota of the namespace counts objects of a kind."""
        held = self._held.get(namespace)
        return held is not None and any(kind in one.kinds for one in held.values())

    # -- writing -------------------------------------------------------------------------------------------------

    async def write(
        self,
        store: Store,
        resource: Resource,
        namespace: str,
        change: tuple[Object | None, Object | None],
        guards: Sequence[Compare],
        writes: Sequence[Put | Delete],
    ) -> Txn:
        """The transaction of a write that turns ``change[0]`` into ``change[1]``, together with its bill.

        When it is one of ``guards`` that failed, the outcome says so, with what these guards found; when a quota was
        overtaken, this tries again. Raises ApiError 403 when a quota has no room, 409 after too many tries.
        """
        if self._leaves_alone(resource, namespace, *change):
            return await store.txn(guards, writes)
        async with self._alone(namespace):
            for _ in range(TRIES):
                bill = await self.bill(store, resource, namespace, *change)
                changes = [
                    (self._key(namespace, name), held, new) for name, (held, new) in bill.changes.items()
                ]
                done = await store.txn(
                    [*guards, *(Compare(key, held.revision) for key, held, _ in changes)],
                    [*writes, *(Put(key, encode(new)) for key, _, new in changes)],
                )
                if done.succeeded:
                    for name, (_, new) in bill.changes.items():
                        self._learn(namespace, name, Held(done.revision, new))
                    return done
                theirs = done.current[len(guards) :]
                overtaken = False
                for name, kv in zip(bill.changes, theirs, strict=True):
                    if kv is None or kv.mod_revision != bill.changes[name][0].revision:
                        self._read(namespace, name, kv)
                        overtaken = True
                mine = zip(guards, done.current, strict=False)
                failed = any((kv.mod_revision if kv else 0) != one.mod_revision for one, kv in mine)
                if failed or not overtaken:
                    return replace(done, current=done.current[: len(guards)])
        raise errors.conflict(
            resource.plural, _name(change), "its quotas change all the time; try again", resource.group
        )

    def _leaves_alone(
        self, resource: Resource, namespace: str, old: Object | None, new: Object | None
    ) -> bool:
        """Whether an update changes nothing that is counted: most do not, and need not wait for anybody."""
        if old is None or new is None:
            return False
        for held in self._held.get(namespace, {}).values():
            if resource.storage_key in held.kinds:
                try:
                    if (
                        not held.settled
                        or quota.charge(held.obj, resource.storage_key, old, new) != NO_CONCERN
                    ):
                        return False
                except QuantityError:
                    continue
        return True

    async def bill(
        self, store: Store, resource: Resource, namespace: str, old: Object | None, new: Object | None
    ) -> Bill:
        """What a write changes in the quotas of its namespace. Raises ApiError 403 when there is no room."""
        bill, refused = await self._judge(store, resource, namespace, old, new)
        if refused:
            # Judged by what may be an old state: look once more.
            for name in list(self._held.get(namespace, ())):
                self._read(namespace, name, await store.get(self._key(namespace, name)))
            bill, refused = await self._judge(store, resource, namespace, old, new)
        if refused:
            raise errors.forbidden(resource.plural, _name((old, new)), refused, resource.group)
        return bill

    async def _judge(
        self, store: Store, resource: Resource, namespace: str, old: Object | None, new: Object | None
    ) -> tuple[Bill, str]:
        changes: dict[str, tuple[Held, Object]] = {}
        for name, held in sorted(self._held.get(namespace, {}).items()):
            if resource.key == QUOTAS and name == _name((old, new)):
                continue  # a quota does not count itself: its own write is under way
            if resource.storage_key not in held.kinds:
                continue
            try:
                obj = held.obj if held.settled else await self._settle(namespace, held)
                verdict = quota.charge(obj, resource.storage_key, old, new)
            except QuantityError:
                continue  # an object that nobody can read was written past validation
            if verdict.refused:
                return NOTHING, verdict.refused
            if verdict.used:
                changes[name] = held, {**obj, "status": {**obj["status"], "used": verdict.used}}
            elif obj is not held.obj:
                changes[name] = held, obj
        return Bill(changes), ""

    async def _settle(self, namespace: str, held: Held) -> Object:
        """Count a quota from scratch. Everything that was written before is in the reader after the wait; whoever
        writes later changes the quota, too, and so overtakes us."""
        await self._reader.consistent()
        used = quota.recount(held.obj, lambda kind: self._reader.list(kind, namespace))
        return quota.settled(held.obj, used)

    # -- knowing -------------------------------------------------------------------------------------------------

    def _key(self, namespace: str, name: str) -> bytes:
        return keys.key(self._row, namespace, name)

    def _learn(self, namespace: str, name: str, held: Held) -> None:
        known = self._held.setdefault(namespace, {})
        before = known.get(name)
        if before is None or before.revision < held.revision:
            known[name] = held

    def _forget(self, namespace: str, name: str) -> None:
        known = self._held.get(namespace)
        if known is not None:
            known.pop(name, None)
            if not known:
                del self._held[namespace]

    def _read(self, namespace: str, name: str, kv: KeyValue | None) -> None:
        """Take in what the store holds."""
        if kv is None:
            self._forget(namespace, name)
        else:
            self._learn(namespace, name, Held(kv.mod_revision, orjson.loads(kv.value)))

    def _changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        metadata = (new or old or {})["metadata"]
        if new is None:
            self._forget(metadata["namespace"], metadata["name"])
        else:
            held = Held(int(metadata.get("resourceVersion") or 0), new)
            self._learn(metadata["namespace"], metadata["name"], held)

    @asynccontextmanager
    async def _alone(self, namespace: str) -> AsyncIterator[None]:
        """One writer of a namespace at a time, in the order they came."""
        lock, users = self._locks.setdefault(namespace, (asyncio.Lock(), []))
        users.append(None)
        try:
            async with lock:
                yield
        finally:
            users.pop()
            if not users:
                self._locks.pop(namespace, None)


def _name(change: tuple[Object | None, Object | None]) -> str:
    return str(((change[1] or change[0] or {}).get("metadata") or {}).get("name") or "")

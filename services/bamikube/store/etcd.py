"""The store's port over real etcd: gRPC from the event loop, many calls in flight, no threads.

Everything goes over HTTP/2 connections of our own (:mod:`bamikube.store.http2`: a fifth of grpc.aio's cost).

What a caller can rely on:

* **Every call has a deadline** (``timeout`` seconds, 10 by default: a busy disk may hold etcd's fsync for seconds)
  and raises nothing but :class:`~bamikube.store.port.StoreError` kinds.
* **Reads are repeated** within their deadline when etcd goes away in the middle. **Writes are never repeated**: when
  a write raises :class:`Unavailable`, nobody knows whether it happened. The rule for callers: *give every write a
  guard*, and after ``Unavailable`` read the key. A guard on the old ``mod_revision`` makes the second attempt
  fail, harmlessly, if the first one did happen; what the key then holds tells which of the two it was.
* **A watch outlives etcd.** It has begun within that deadline, or is asked for again. It reopens from the last revision it has handed out plus one, whatever ended the stream:
  a restart, a lost leader (the ``hasleader`` header asks etcd to end streams on a member without one), or a member
  that died without a word (pings notice it). Only :class:`Compacted` ends it.
* **A batch never splits a revision.** etcd itself sends a revision whole, or in fragments that are put together here.

A deletion at exactly the compacted revision cannot be watched any more in etcd 3.4 (compaction drops tombstones up to
and including its revision, though etcd accepts a watch from there). :mod:`bamikube.store.compaction` therefore
compacts only at revisions that are a write of its own, which is never a deletion.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import grpc

from bamikube.kit.world import World
from bamikube.rpc.etcd import kv_pb2, rpc_pb2
from bamikube.store.http2 import CallError, Flow, Http2Client, Method, client_context
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

log = logging.getLogger(__name__)

# A member without a leader answers "unavailable" at once, and ends streams, instead of waiting.
_METADATA = (("hasleader", "true"),)

_UNAVAILABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.ABORTED,
}

_DELETE = kv_pb2.Event.DELETE

# A question that only its answer's header matters of.
_NOTHING = rpc_pb2.RangeRequest(key=ZERO, count_only=True)


def split_endpoints(endpoints: Sequence[str]) -> tuple[bool, list[tuple[str, int]]]:
    """``["https://10.99.0.10:2379"]`` -> ``(True, [("10.99.0.10", 2379)])``.

    Raises ValueError for an endpoint without host or port, and for a mix of http and https.
    """
    if not endpoints:
        raise ValueError("no etcd endpoint given; use for example http://127.0.0.1:2379")
    schemes, hosts = set(), []
    for endpoint in endpoints:
        parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}", scheme="http")
        if parts.scheme not in ("http", "https") or not parts.hostname or not parts.port:
            raise ValueError(f"etcd endpoint {endpoint!r} is not of the form https://HOST:PORT")
        schemes.add(parts.scheme)
        hosts.append((parts.hostname, parts.port))
    if len(schemes) > 1:
        raise ValueError(f"etcd endpoints mix http and https: {', '.join(endpoints)}")
    return schemes == {"https"}, hosts


def open_client(
    endpoints: Sequence[str],
    *,
    ca: str | Path | None = None,
    cert: str | Path | None = None,
    key: str | Path | None = None,
    world: World,
) -> Http2Client:
    """Connections to all endpoints, calls going round over those that are up. Needs a running loop.

    ``ca``, ``cert``, ``key`` are PEM files, read now. Several endpoints must be IP addresses. The name checked in their
    certificates is then ``localhost``, which every etcd server certificate carries; else it is the endpoint's own.
    """
    tls, hosts = split_endpoints(endpoints)
    one = hosts[0]
    if len(hosts) > 1 and not all(_is_address(host) for host, _ in hosts):
        raise ValueError(f"several etcd endpoints must be IP addresses; got {', '.join(endpoints)}")
    return Http2Client(
        hosts,
        tls=client_context(ca, cert, key) if tls else None,
        server_name="localhost" if len(hosts) > 1 else "",
        authority="localhost"
        if len(hosts) > 1
        else (f"[{one[0]}]" if ":" in one[0] else one[0]) + f":{one[1]}",
        world=world,
    )


def _is_address(host: str) -> bool:
    return ":" in host or all(part.isdigit() for part in host.split("."))


async def _taken(flow: Flow, patience: float) -> list[bytes]:
    """What the flow brings. Raises TimeoutError when nothing comes in time."""
    async with asyncio.timeout(patience):
        return await flow.take()


class EtcdStore:
    """:class:`bamikube.store.port.Store` over etcd. Create it inside the running event loop; ``close`` it there.

    ``prefix`` is put before every key and taken off again, so that several clusters can share one etcd.
    """

    def __init__(
        self,
        endpoints: list[str],
        *,
        ca: str | Path | None = None,
        cert: str | Path | None = None,
        key: str | Path | None = None,
        world: World,
        prefix: bytes = b"",
        timeout: float = 10.0,
    ) -> None:
        self.endpoints = list(endpoints)
        self._world = world
        self._prefix = prefix
        self._timeout = timeout
        self._client = open_client(endpoints, ca=ca, cert=cert, key=key, world=world)
        self._closed = False

        def method(path: str) -> Method:
            return self._client.method(f"/etcdserverpb.{path}", **dict(_METADATA))

        self._range = method("KV/Range")
        self._txn = method("KV/Txn")
        self._compact = method("KV/Compact")
        self._grant = method("Lease/LeaseGrant")
        self._revoke = method("Lease/LeaseRevoke")
        self._status = method("Maintenance/Status")
        self._watch = method("Watch/Watch")

    # ---- reads

    async def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        answer = await self._read(rpc_pb2.RangeRequest(key=self._prefix + key, revision=revision))
        return self._key_value(answer.kvs[0]) if answer.kvs else None

    async def range(
        self, prefix: bytes, *, limit: int = 0, start: bytes = b"", revision: int = 0, keys_only: bool = False
    ) -> Range:
        """See the port. With ``start``, ``count`` is the number of keys from there on, as in etcd."""
        full = self._prefix + prefix
        answer = await self._read(
            rpc_pb2.RangeRequest(
                key=max(full, self._prefix + start) or ZERO,
                range_end=prefix_end(full),
                limit=limit,
                revision=revision,
                keys_only=keys_only,
            )
        )
        cut = len(self._prefix)
        kvs = [
            KeyValue(kv.key[cut:] if cut else kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.lease)
            for kv in answer.kvs
        ]
        return Range(kvs, answer.header.revision, answer.more, answer.count)

    async def revision(self) -> int:
        """The current revision: a linearizable read of a key that does not exist, the cheapest etcd offers."""
        answer = await self._read(_NOTHING)
        return int(answer.header.revision)

    async def _read(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        """A range call, repeated while etcd is away, until the deadline."""
        clock = self._world.clock
        message = request.SerializeToString()
        deadline = clock.monotonic() + self._timeout
        left = self._timeout
        pause = 0.02
        while True:
            try:
                answer = await self._client.call(self._range, message, left)
                return rpc_pb2.RangeResponse.FromString(answer)
            except CallError as error:
                left = deadline - clock.monotonic()
                if (
                    error.code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
                    or left <= pause
                    or self._closed
                ):
                    await self._fail(error, error.code, error.text, request.revision)
            await clock.sleep(pause)
            pause = min(pause * 2, 0.5)
            left = max(deadline - clock.monotonic(), 0.001)

    # ---- writes

    async def txn(self, guards: Sequence[Compare], writes: Sequence[Put | Delete]) -> Txn:
        """See the port. Raises :class:`TooLarge`, :class:`NoSpace`, :class:`Unavailable` (outcome unknown)."""
        prefix = self._prefix
        request = rpc_pb2.TxnRequest()
        for guard in guards:
            key = prefix + guard.key
            # EQUAL is 0, the default: setting the union's member is all that is left to do.
            request.compare.add(target=rpc_pb2.Compare.MOD, key=key, mod_revision=guard.mod_revision)
            request.failure.add().request_range.key = key
        for write in writes:
            if isinstance(write, Put):
                put = request.success.add().request_put
                put.key = prefix + write.key
                put.value = write.value
                if write.lease:
                    put.lease = write.lease
            else:
                request.success.add().request_delete_range.key = prefix + write.key
        answer = rpc_pb2.TxnResponse.FromString(await self._call(self._txn, request))
        if answer.succeeded:
            return Txn(True, answer.header.revision, [])
        current = [
            self._key_value(response.response_range.kvs[0]) if response.response_range.kvs else None
            for response in answer.responses
        ]
        return Txn(False, answer.header.revision, current)

    async def grant(self, ttl: int) -> int:
        answer = await self._call(self._grant, rpc_pb2.LeaseGrantRequest(TTL=ttl))
        return int(rpc_pb2.LeaseGrantResponse.FromString(answer).ID)

    async def revoke(self, lease: int) -> None:
        """End a lease now; its keys are deleted. Raises :class:`StoreError` when there is no such lease."""
        await self._call(self._revoke, rpc_pb2.LeaseRevokeRequest(ID=lease))

    async def compact(self, revision: int) -> None:
        """Forget history before ``revision``. Compacting what is compacted already is no error."""
        message = rpc_pb2.CompactionRequest(revision=revision).SerializeToString()
        try:
            await self._client.call(self._compact, message, self._timeout)
        except CallError as error:
            if error.code is grpc.StatusCode.OUT_OF_RANGE and "compacted" in error.text:
                return
            await self._fail(error, error.code, error.text, revision)

    async def size(self) -> int:
        """The size of the database file of the member that answers, in bytes."""
        answer = await self._call(self._status, rpc_pb2.StatusRequest())
        return int(rpc_pb2.StatusResponse.FromString(answer).dbSize)

    async def _call(self, method: Method, request: Any) -> bytes:
        """One unary call, exactly once. Returns the answer's message."""
        try:
            return await self._client.call(method, request.SerializeToString(), self._timeout)
        except CallError as error:
            await self._fail(error, error.code, error.text)

    # ---- watch

    async def watch(self, prefix: bytes, start_revision: int) -> AsyncIterator[list[Change]]:
        """See the port. ``start_revision`` 0 means: from now on, that is, from the first answer of etcd on."""
        full = self._prefix + prefix
        create = rpc_pb2.WatchCreateRequest(
            key=full or ZERO, range_end=prefix_end(full), start_revision=start_revision, fragment=True
        )
        pause = 0.05
        while not self._closed:
            flow = self._open_watch(create)
            parts: list[Any] = []
            patience: float | None = self._timeout  # for etcd to say that the watch has begun
            try:
                while messages := await (flow.take() if patience is None else _taken(flow, patience)):
                    patience = None
                    changes: list[Change] = []
                    refused: rpc_pb2.WatchResponse | None = None
                    for message in messages:
                        answer = rpc_pb2.WatchResponse.FromString(message)
                        if answer.canceled:
                            refused = answer
                            break
                        if answer.created and not create.start_revision:
                            create.start_revision = answer.header.revision + 1
                        pause = 0.05
                        parts.extend(answer.events)
                        if parts and not answer.fragment:
                            changes += map(self._change, parts)
                            parts = []
                    if changes:
                        create.start_revision = changes[-1].mod_revision + 1
                        yield changes
                    if refused is not None:
                        if refused.compact_revision:
                            raise Compacted(refused.compact_revision)
                        break  # no leader, or auth: try again
            except CallError as error:
                if error.code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                    raise StoreError(f"etcd refuses the watch: {error.text}") from error
                log.info("etcd's watch stream ended (%s); reopening", error.text or error.code.name)
            except TimeoutError:
                log.warning("etcd did not begin a watch within %g s; asking again", self._timeout)
            finally:
                self._client.drop(flow)
            await self._world.clock.sleep(pause)
            pause = min(pause * 2, 1.0)
        raise Unavailable("the store was closed")

    def _open_watch(self, create: rpc_pb2.WatchCreateRequest) -> Flow:
        """A watch, as soon as there is a connection. Whoever opens it drops it."""
        request = rpc_pb2.WatchRequest(create_request=create)
        return self._client.flow(self._watch, request.SerializeToString())

    def _change(self, event: Any) -> Change:
        cut = len(self._prefix)
        kv = event.kv
        return Change(kv.key[cut:], None if event.type == _DELETE else kv.value, kv.mod_revision)

    # ---- plumbing

    def _key_value(self, kv: Any) -> KeyValue:
        return KeyValue(kv.key[len(self._prefix) :], kv.value, kv.create_revision, kv.mod_revision, kv.lease)

    async def _fail(self, error: Exception, code: grpc.StatusCode, text: str, revision: int = 0) -> NoReturn:
        """Raise what ``error`` means in the port's words."""
        if code is grpc.StatusCode.OUT_OF_RANGE and "compacted" in text:
            raise Compacted(await self._oldest(revision)) from error
        if code is grpc.StatusCode.OUT_OF_RANGE and "future" in text:
            raise FutureRevision(f"revision {revision} has not happened yet") from error
        if "request is too large" in text or "message larger than max" in text:
            raise TooLarge("the request is over etcd's size limit; see etcd's --max-request-bytes") from error
        if "database space exceeded" in text:
            raise NoSpace(
                "etcd's space quota is used up and it takes no writes; "
                "compact and defragment it, then disarm the alarm: see `bamikube etcd alarms`"
            ) from error
        if code in _UNAVAILABLE or "too many requests" in text:
            where = ", ".join(self.endpoints)
            raise Unavailable(f"etcd at {where} did not answer: {text or code.name}") from error
        raise StoreError(f"etcd refused: {text or code.name}") from error

    async def _oldest(self, revision: int) -> int:
        """The compacted revision: etcd tells it only to a watch that asks for something older."""
        flow = self._open_watch(rpc_pb2.WatchCreateRequest(key=ZERO, start_revision=max(revision, 1)))
        try:
            async with asyncio.timeout(min(self._timeout, 2.0)):
                while messages := await flow.take():
                    for answer in map(rpc_pb2.WatchResponse.FromString, messages):
                        if answer.canceled:
                            return int(answer.compact_revision)
        except (CallError, TimeoutError):
            pass  # the error being reported matters more than this number
        finally:
            self._client.drop(flow)
        return revision + 1

    async def close(self) -> None:
        self._closed = True
        await self._client.close()

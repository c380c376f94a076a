"""The store's port over real etcd: gRPC from the event loop, many calls in flight, no threads.

Calls of one question and one answer go over connections of our own (:mod:`bamikube.store.unary`: a fifth of grpc.aio's
cost); streams - watches, keep-alives of leases - over grpc.aio.

What a caller can rely on:

* **Every call has a deadline** (``timeout`` seconds, 10 by default: a busy disk may hold etcd's fsync for seconds)
  and raises nothing but :class:`~bamikube.store.port.StoreError` kinds.
* **Reads are repeated** within their deadline when etcd goes away in the middle. **Writes are never repeated**: when
  a write raises :class:`Unavailable`, nobody knows whether it happened. The rule for callers: *give every write a
  guard*, and after ``Unavailable`` read the key. A guard on the old ``mod_revision`` makes the second attempt
  fail, harmlessly, if the first one did happen; what the key then holds tells which of the two it was.
* **A watch outlives etcd.** It reopens from the last revision it has handed out plus one, whatever ended the stream:
  a restart, a lost leader (the ``hasleader`` header asks etcd to end streams on a member without one), or a member
  that died without a word (keepalive pings notice it). Only :class:`Compacted` ends it.
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
import grpc.aio

from bamikube.kit.world import World
from bamikube.rpc.etcd import kv_pb2, rpc_pb2
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
from bamikube.store.unary import CallError, Method, UnaryClient, client_context

log = logging.getLogger(__name__)

# A member without a leader answers "unavailable" at once, and ends streams, instead of waiting.
_METADATA = (("hasleader", "true"),)

_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.enable_retries", 0),
    # Notice a peer that vanished without closing its connection. etcd refuses pings closer than 5 s apart.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Two stores in one process have connections of their own.
    ("grpc.use_local_subchannel_pool", 1),
)

# Seconds a watch waits for a connection before it looks whether it is still wanted: in grpc.aio a call that is cancelled
# before it was connected never ends.
OPENING = 1.0

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


def open_channel(
    endpoints: Sequence[str],
    *,
    ca: str | Path | None = None,
    cert: str | Path | None = None,
    key: str | Path | None = None,
) -> grpc.aio.Channel:
    """A channel to all endpoints, calls going round over those that are up. Needs a running loop.

    ``ca``, ``cert``, ``key`` are PEM files, read now. Several endpoints must be IP addresses. The name checked in
    their certificates is then the first endpoint's or ``localhost``, which every etcd server certificate carries.
    """
    tls, hosts = split_endpoints(endpoints)
    options = list(_OPTIONS)
    if len(hosts) == 1:
        host, port = hosts[0]
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        target = f"{'ipv6' if ':' in host else 'ipv4'}:{target}" if _is_address(host) else f"dns:///{target}"
    else:
        names = [host for host, _ in hosts if not _is_address(host)]
        families = {":" in host for host, _ in hosts}
        if names or len(families) > 1:
            raise ValueError(
                f"several etcd endpoints must be IP addresses of one family; got {', '.join(endpoints)}"
            )
        ipv6 = families == {True}
        target = ("ipv6:" if ipv6 else "ipv4:") + ",".join(
            f"[{host}]:{port}" if ipv6 else f"{host}:{port}" for host, port in hosts
        )
        options.append(("grpc.ssl_target_name_override" if tls else "grpc.default_authority", "localhost"))
    if not tls:
        return grpc.aio.insecure_channel(target, options=options)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=Path(ca).read_bytes() if ca else None,
        private_key=Path(key).read_bytes() if key else None,
        certificate_chain=Path(cert).read_bytes() if cert else None,
    )
    return grpc.aio.secure_channel(target, credentials, options=options)


def open_client(
    endpoints: Sequence[str],
    *,
    ca: str | Path | None = None,
    cert: str | Path | None = None,
    key: str | Path | None = None,
    world: World,
) -> UnaryClient:
    """Connections for unary calls to the same endpoints, under the same names, as :func:`open_channel`."""
    tls, hosts = split_endpoints(endpoints)
    one = hosts[0]
    return UnaryClient(
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
        self._channel = open_channel(endpoints, ca=ca, cert=cert, key=key)
        self._client = open_client(endpoints, ca=ca, cert=cert, key=key, world=world)
        self._closed = False

        def unary(path: str) -> Method:
            return self._client.method(f"/etcdserverpb.{path}", **dict(_METADATA))

        self._range = unary("KV/Range")
        self._txn = unary("KV/Txn")
        self._compact = unary("KV/Compact")
        self._grant = unary("Lease/LeaseGrant")
        self._revoke = unary("Lease/LeaseRevoke")
        self._watch = self._channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc_pb2.WatchRequest.SerializeToString,
            response_deserializer=rpc_pb2.WatchResponse.FromString,
        )
        self._keep_alive = self._channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=rpc_pb2.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=rpc_pb2.LeaseKeepAliveResponse.FromString,
        )

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

    async def keep_alive(self, lease: int) -> int:
        """Renew a lease once. Returns its time to live in seconds; 0 when it has expired already."""
        call = self._keep_alive(timeout=self._timeout, wait_for_ready=True, metadata=_METADATA)
        try:
            await call.write(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
            answer = await call.read()
        except grpc.aio.AioRpcError as error:
            await self._fail(error, error.code(), error.details() or "")
        finally:
            call.cancel()
        if answer is grpc.aio.EOF:
            raise Unavailable("etcd closed the keep-alive stream")
        return int(answer.TTL)

    async def compact(self, revision: int) -> None:
        """Forget history before ``revision``. Compacting what is compacted already is no error."""
        message = rpc_pb2.CompactionRequest(revision=revision).SerializeToString()
        try:
            await self._client.call(self._compact, message, self._timeout)
        except CallError as error:
            if error.code is grpc.StatusCode.OUT_OF_RANGE and "compacted" in error.text:
                return
            await self._fail(error, error.code, error.text, revision)

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
            key=full or ZERO,
            range_end=prefix_end(full),
            start_revision=start_revision,
            prev_kv=True,
            fragment=True,
        )
        pause = 0.05
        while not self._closed:
            call = self._watch(wait_for_ready=True, metadata=_METADATA)
            parts: list[Any] = []
            try:
                async with asyncio.timeout(OPENING):
                    await call.write(rpc_pb2.WatchRequest(create_request=create))
                while (answer := await call.read()) is not grpc.aio.EOF:
                    if answer.canceled:
                        if answer.compact_revision:
                            raise Compacted(answer.compact_revision)
                        break  # no leader, or auth: try again
                    if answer.created and not create.start_revision:
                        create.start_revision = answer.header.revision + 1
                    pause = 0.05
                    parts.extend(answer.events)
                    if answer.fragment or not parts:
                        continue
                    changes, parts = [self._change(event) for event in parts], []
                    create.start_revision = changes[-1].mod_revision + 1
                    yield changes
            except grpc.aio.AioRpcError as error:
                if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                    raise StoreError(f"etcd refuses the watch: {error.details()}") from error
                log.info("etcd's watch stream ended (%s); reopening", error.details() or error.code().name)
            except TimeoutError:
                continue  # not connected yet
            except asyncio.InvalidStateError:
                pass  # the stream ended between two of our operations: open the next one
            except asyncio.CancelledError:
                # Closing the channel cancels its calls, which looks like a cancelled task but is none.
                task = asyncio.current_task()
                if not self._closed or (task is not None and task.cancelling()):
                    raise
            finally:
                call.cancel()
            await self._world.clock.sleep(pause)
            pause = min(pause * 2, 1.0)
        raise Unavailable("the store was closed")

    def _change(self, event: Any) -> Change:
        cut = len(self._prefix)
        kv = event.kv
        previous = self._key_value(event.prev_kv) if event.HasField("prev_kv") else None
        if event.type == _DELETE:
            created = previous.create_revision if previous else 0
            return Change(kv.key[cut:], None, kv.mod_revision, created, previous)
        return Change(kv.key[cut:], kv.value, kv.mod_revision, kv.create_revision, previous)

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
        call = self._watch(timeout=min(self._timeout, 2.0), wait_for_ready=True, metadata=_METADATA)
        try:
            create = rpc_pb2.WatchCreateRequest(key=ZERO, start_revision=max(revision, 1))
            await call.write(rpc_pb2.WatchRequest(create_request=create))
            while (answer := await call.read()) is not grpc.aio.EOF:
                if answer.canceled:
                    return int(answer.compact_revision)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the error being reported matters more than this number
        finally:
            call.cancel()
        return revision + 1

    async def close(self) -> None:
        self._closed = True
        await self._client.close()
        await self._channel.close()

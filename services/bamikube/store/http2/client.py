"""Calls to whichever endpoint answers.

Every endpoint has a :class:`Link` that keeps one connection open and opens the next one when it goes; calls go round
over the connections that are up, those with a ping unanswered last. A call that finds none up waits for one, within its
deadline::

    link 10.0.0.1  ----connection----GOAWAY  0.1 s  ----connection----
    link 10.0.0.2  refused  0.1 s  refused  0.2 s  refused  0.4 s ... (2 s at most)

A call is sent once. Whether it may be asked again is for the caller to know.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from math import ceil
from typing import Any

from grpc import StatusCode

from bamikube.kit.backoff import Backoff
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.store.http2 import headers
from bamikube.store.http2.connection import Call, Connection
from bamikube.store.http2.flow import Flow

log = logging.getLogger(__name__)

CONNECT = 5.0  # seconds until an endpoint has greeted us
STEADY = 5.0  # seconds after which a connection counts as a success, and the back-off begins anew


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the server: its header block up to the deadline, for all calls the same."""

    block: bytes


class Link:
    """One endpoint, and the connection to it while there is one."""

    def __init__(self, client: Http2Client, host: str, port: int) -> None:
        self._client = client
        self._host = host
        self._port = port
        self.name = f"{host}:{port}"
        self.connection: Connection | None = None
        self.trouble = "not connected yet"

    async def keep(self, world: World) -> None:
        """Keep a connection open until cancelled."""
        backoff = Backoff(0.1, 2.0, jitter=0.2, chance=world.chance)
        clock = world.clock
        while True:
            began = clock.monotonic()
            connection: Connection | None = None
            try:
                connection = await self._open()
                self.connection = connection
                self._client.arrived()
                await connection.gone.wait()
                self.trouble = connection.why
            except (OSError, TimeoutError) as error:
                self._failed(str(error) or f"no greeting within {CONNECT:g} s")
            except Exception as error:
                log.exception("the connection to etcd at %s could not be made", self.name)
                self.trouble = repr(error)
            finally:
                self.connection = None
            if connection is not None and clock.monotonic() - began > STEADY:
                backoff.reset()
            await clock.sleep(backoff.next())

    def _failed(self, why: str) -> None:
        (log.debug if why == self.trouble else log.info)("etcd at %s cannot be reached: %s", self.name, why)
        self.trouble = why

    async def _open(self) -> Connection:
        """Connect and wait for the greeting. Raises OSError and TimeoutError."""
        client = self._client
        loop = asyncio.get_running_loop()
        connection = Connection(f"etcd at {self.name}", client.orphaned)
        client.connections[connection] = None
        connection.on_lost = lambda: client.connections.pop(connection, None)
        try:
            async with asyncio.timeout(CONNECT):
                transport, _ = await loop.create_connection(
                    lambda: connection,
                    self._host,
                    self._port,
                    ssl=client.tls,
                    server_hostname=(client.server_name or self._host) if client.tls else None,
                )
                if client.tls is not None:
                    spoken = transport.get_extra_info("ssl_object").selected_alpn_protocol()
                    if spoken != "h2":
                        raise ConnectionError(
                            f"the server speaks {spoken or 'no protocol that it names'}, not h2"
                        )
                await connection.greeted
        except BaseException:
            connection.abort("the connection was not made")
            client.connections.pop(connection, None)
            raise
        return connection


class Http2Client:
    """Calls to a set of endpoints. Create it inside the running loop, ``close`` it there.

    ``tls`` None means plain text. ``server_name`` is what certificates are checked for (default: the endpoint's host),
    ``authority`` what requests name.
    """

    def __init__(
        self,
        endpoints: list[tuple[str, int]],
        *,
        tls: ssl.SSLContext | None,
        server_name: str = "",
        authority: str,
        world: World,
    ) -> None:
        self.tls = tls
        self.server_name = server_name
        self._authority = authority
        self._loop = asyncio.get_running_loop()
        self._links = [Link(self, host, port) for host, port in endpoints]
        self._turn = 0
        self._waiting: dict[Call, None] = {}  # for a connection
        self._timeouts: dict[int, bytes] = {}
        self._closed = False
        self._tasks = Tasks("etcd")
        self.connections: dict[Connection, None] = {}  # all that are open, those that only finish included
        for link in self._links:
            self._tasks.spawn(link.keep(world), link.name)

    def method(self, path: str, **fields: str) -> Method:
        """``path`` is ``/package.Service/Method``; ``fields`` are sent with every call."""
        return Method(
            headers.request(
                "https" if self.tls is not None else "http",
                self._authority,
                path,
                {
                    "content-type": "application/grpc",
                    "te": "trailers",
                    "user-agent": "bamikube",
                    **fields,
                }.items(),
            )
        )

    async def call(self, method: Method, message: bytes, timeout: float) -> bytes:
        """The answer's message. Raises :class:`CallError`, after ``timeout`` seconds at the latest."""
        loop = self._loop
        outcome: asyncio.Future[bytes] = loop.create_future()
        call = Call(method.block + self._deadline(timeout), frame(message), outcome)
        timer = loop.call_later(timeout, self._late, call)
        self._begin(call)
        try:
            return await outcome
        except asyncio.CancelledError:
            self.drop(call)
            raise
        finally:
            timer.cancel()

    def flow(self, method: Method, message: bytes) -> Flow:
        """A call whose answers keep coming, as soon as there is a connection. Whoever opens it drops it."""
        flow = Flow(method.block, frame(message), self._loop.create_future())
        self._begin(flow)
        return flow

    def _deadline(self, timeout: float) -> bytes:
        """The server's copy of the deadline, so that it does not work on for nobody: whole seconds will do."""
        seconds = ceil(timeout)
        field = self._timeouts.get(seconds)
        if field is None:
            field = self._timeouts[seconds] = headers.literal("grpc-timeout", f"{seconds}S")
        return field

    def _begin(self, call: Call) -> None:
        connection = self._pick()
        if connection is not None:
            connection.start(call)
        elif self._closed:
            call.fail(StatusCode.UNAVAILABLE, "the store was closed")
        else:
            call.connection = None
            self._waiting[call] = None

    def _pick(self) -> Connection | None:
        links = self._links
        doubtful = None
        for _ in links:
            self._turn = (self._turn + 1) % len(links)
            connection = links[self._turn].connection
            if connection is not None and not connection.leaving:
                if not connection.doubtful:
                    return connection
                doubtful = connection
        return doubtful

    def _late(self, call: Call) -> None:
        reached = call.stream > 0
        self.drop(call)
        if reached:
            call.fail(StatusCode.DEADLINE_EXCEEDED, "no answer within the deadline")
        else:
            trouble = "; ".join(
                f"{link.name}: {link.trouble}" for link in self._links if link.connection is None
            )
            call.fail(StatusCode.DEADLINE_EXCEEDED, trouble or "the server takes no more calls")

    def drop(self, call: Call) -> None:
        """Nobody wants the call any more."""
        if call.connection is not None:
            call.connection.drop(call)
        else:
            self._waiting.pop(call, None)

    def arrived(self) -> None:
        """A connection is up: calls that waited for one go on."""
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            self._begin(call)

    def orphaned(self, calls: list[Call]) -> None:
        """Calls that a connection has taken and never sent."""
        for call in calls:
            if not call.outcome.done():
                self._begin(call)

    async def close(self) -> None:
        self._closed = True
        await self._tasks.close()
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            call.fail(StatusCode.UNAVAILABLE, "the store was closed")
        for connection in list(self.connections):
            connection.abort("the store was closed")


def frame(message: bytes) -> bytes:
    """A message as gRPC sends it: uncompressed, with its length."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def client_context(ca: Any, cert: Any, key: Any) -> ssl.SSLContext:
    """TLS towards etcd. Files are read now. Raises OSError and ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    if ca:
        context.load_verify_locations(ca)
    else:
        context.load_default_certs()
    if cert:
        context.load_cert_chain(cert, key or None)
    return context

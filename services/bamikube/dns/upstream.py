"""Asking other name servers for names that are not ours.

One connected UDP socket a server (so that only that server can answer on it), questions told apart by random
identifiers; a question must come back with the answer, or it is ignored. What does not fit UDP is asked again over TCP.
Servers are asked in order, two seconds each, twice round; a server that did not answer is asked last for a while.

Answers are kept for their shortest time to live, 30 seconds at most, so that a name that changes outside is seen soon; the
times in a kept answer count down, as RFC 2181 wants it.

Against loops: our own addresses are never upstream servers, and at most :data:`MAX_PENDING` questions are out at a time;
beyond that we answer SERVFAIL instead of feeding the fire.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import struct
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bamikube.dns.wire import OPT, QR, SOA, TC, Question
from bamikube.kit.world import World

log = logging.getLogger(__name__)

TIMEOUT = 2.0
ROUNDS = 2
REST_SECONDS = 10.0
MAX_TTL = 30
NEGATIVE_TTL = 5
MAX_KEPT = 10_000
MAX_PENDING = 1000


@dataclass(frozen=True, slots=True)
class Server:
    host: str
    port: int = 53


def servers_of(texts: Iterable[str], own: Iterable[str]) -> list[Server]:
    """Servers from ``host``, ``host:port`` or ``[v6]:port``, without our own addresses (a loop). Raises ValueError."""
    found = []
    for text in texts:
        host, port = text, "53"
        if text.startswith("["):
            host, _, rest = text[1:].partition("]")
            port = rest.removeprefix(":") or "53"
        elif text.count(":") == 1:
            host, _, port = text.partition(":")
        try:
            ipaddress.ip_address(host.partition("%")[0])
            server = Server(host, int(port))
        except ValueError:
            raise ValueError(f"upstream server {text!r} is not an address with an optional port") from None
        if host in own and server.port == 53:
            log.warning(
                "upstream server %s is this very server; left out, or questions would go in circles", text
            )
        else:
            found.append(server)
    return found


def resolv_conf(path: Path) -> list[str]:
    """The name servers of a resolv.conf that are addresses; none where there is no such file. IPv6 in brackets."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        parts = line.split()
        if len(parts) >= 2 and parts[0] == "nameserver":
            try:
                version = ipaddress.ip_address(parts[1].partition("%")[0]).version
            except ValueError:
                log.warning("%s: nameserver %s is not an address; left out", path, parts[1])
                continue
            found.append(f"[{parts[1]}]" if version == 6 else parts[1])
    return found


class _Channel(asyncio.DatagramProtocol):
    """The UDP socket to one server."""

    def __init__(self) -> None:
        self.pending: dict[int, tuple[bytes, asyncio.Future[bytes]]] = {}
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, _address: object) -> None:
        if len(data) < 12:
            return
        identifier, flags = struct.unpack_from(">HH", data)
        waiting = self.pending.get(identifier)
        if waiting is None or not flags & QR:
            return
        asked, future = waiting
        if data[12 : 12 + len(asked)].lower() == asked.lower() and not future.done():
            future.set_result(data)

    def error_received(self, error: Exception) -> None:
        for _, future in list(self.pending.values()):
            if not future.done():
                future.set_exception(OSError(f"refused: {error}"))


class Upstream:
    """The way out."""

    def __init__(self, world: World, servers: list[Server]) -> None:
        self.servers = servers
        self._world = world
        self._channels: dict[Server, _Channel] = {}
        self._resting: dict[Server, float] = {}
        self._kept: OrderedDict[bytes, tuple[float, bytes, list[tuple[int, int]]]] = OrderedDict()
        self._pending = 0

    async def ask(self, query: bytes, question: Question) -> bytes | None:
        """The answer to ``query``, with its identifier, or None when nobody gave one."""
        key = question.owner + query[2:4] + question.raw[-4:] + query[12 + len(question.raw) :]
        held = self._kept.get(key)
        now = self._world.clock.monotonic()
        if held is not None and now < held[0]:
            aged = self._aged(held, now)
            return query[:2] + aged[2:12] + question.raw + aged[12 + len(question.raw) :]
        if self._pending >= MAX_PENDING:
            return None
        self._pending += 1
        try:
            answer = await self._ask_all(query, question)
        finally:
            self._pending -= 1
        if answer is not None:
            self._keep(key, answer, now)
            answer = query[:2] + answer[2:]
        return answer

    async def _ask_all(self, query: bytes, question: Question) -> bytes | None:
        now = self._world.clock.monotonic()
        order = sorted(self.servers, key=lambda server: self._resting.get(server, 0.0) > now)
        for _ in range(ROUNDS):
            for server in order:
                try:
                    answer = await self._ask_udp(server, query, question)
                    if struct.unpack_from(">H", answer, 2)[0] & TC:
                        answer = await self._ask_tcp(server, query)
                except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                    log.debug("upstream server %s: %s", server.host, error or "no answer")
                    self._resting[server] = self._world.clock.monotonic() + REST_SECONDS
                    continue
                self._resting.pop(server, None)
                return answer
        return None

    async def _ask_udp(self, server: Server, query: bytes, question: Question) -> bytes:
        channel = self._channels.get(server)
        if channel is None or channel.transport is None or channel.transport.is_closing():
            _, channel = await asyncio.get_running_loop().create_datagram_endpoint(
                _Channel, remote_addr=(server.host, server.port)
            )
            self._channels[server] = channel
        identifier = self._world.chance.randrange(0, 65536)
        while identifier in channel.pending:
            identifier = self._world.chance.randrange(0, 65536)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        channel.pending[identifier] = (question.raw, future)
        assert channel.transport is not None
        try:
            channel.transport.sendto(struct.pack(">H", identifier) + query[2:])
            async with asyncio.timeout(TIMEOUT):
                return await future
        finally:
            del channel.pending[identifier]

    async def _ask_tcp(self, server: Server, query: bytes) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            try:
                writer.write(struct.pack(">H", len(query)) + query)
                size = struct.unpack(">H", await reader.readexactly(2))[0]
                return await reader.readexactly(size)
            finally:
                writer.close()

    def _keep(self, key: bytes, answer: bytes, now: float) -> None:
        rcode = answer[3] & 15
        if rcode not in (0, 3):
            return
        try:
            times, lifetime = _times(answer)
        except (IndexError, struct.error):
            return
        if lifetime <= 0:
            return
        self._kept[key] = (now + lifetime, answer, [(at, ttl) for at, ttl in times] + [(-1, int(now))])
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    @staticmethod
    def _aged(held: tuple[float, bytes, list[tuple[int, int]]], now: float) -> bytes:
        _, answer, times = held
        age = int(now) - times[-1][1]
        patched = bytearray(answer)
        for at, ttl in times[:-1]:
            struct.pack_into(">I", patched, at, max(0, ttl - age))
        return bytes(patched)

    def close(self) -> None:
        for channel in self._channels.values():
            if channel.transport is not None:
                channel.transport.close()


def _skip(data: bytes, offset: int) -> int:
    while True:
        size = data[offset]
        if size & 0xC0:
            return offset + 2
        offset += size + 1
        if not size:
            return offset


def _times(data: bytes) -> tuple[list[tuple[int, int]], int]:
    """Where the times to live stand (offset, value), and how long the whole may be kept, in seconds."""
    _, _, questions, answers, authority, additional = struct.unpack_from(">HHHHHH", data)
    offset = 12
    for _ in range(questions):
        offset = _skip(data, offset) + 4
    times: list[tuple[int, int]] = []
    lifetime = MAX_TTL if answers else NEGATIVE_TTL
    for _ in range(answers + authority + additional):
        offset = _skip(data, offset)
        kind, _, ttl, size = struct.unpack_from(">HHIH", data, offset)
        if kind != OPT:
            times.append((offset + 4, ttl))
            lifetime = min(lifetime, ttl)
            if kind == SOA and not answers:
                minimum = struct.unpack_from(">I", data, offset + 10 + size - 4)[0]
                lifetime = min(lifetime, minimum)
        offset += 10 + size
    return times, lifetime

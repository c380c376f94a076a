"""One query to one answer: the zone first, then upstream; and the sockets queries come in by.

UDP queries that the zone can answer are answered right in the receive callback, without a task. Everything that has to
wait (upstream, aliases) gets a task of its own. TCP serves any number of queries a connection, in order.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import Any

import dnslib
from prometheus_client import Counter, Histogram

from bamikube.dns.upstream import Upstream
from bamikube.dns.wire import (
    CNAME,
    FORMERR,
    NOERROR,
    OWN_UDP,
    POINTER_TO_QUESTION,
    RCODE_NAMES,
    SERVFAIL,
    TC,
    TYPE_NAMES,
    Question,
    parse,
    record,
    respond,
    shown,
)
from bamikube.dns.zone import Elsewhere, Zone
from bamikube.kit.metrics import REGISTRY
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World

log = logging.getLogger(__name__)

REQUESTS = Counter("coredns_dns_requests", "Queries received", ["proto", "type"], registry=REGISTRY)
RESPONSES = Counter("coredns_dns_responses", "Answers sent", ["proto", "rcode"], registry=REGISTRY)
FORWARDED = Counter("coredns_forward_requests", "Queries sent upstream", registry=REGISTRY)
FORWARD_SECONDS = Histogram(
    "coredns_forward_request_duration_seconds", "Time an upstream answer took, in seconds", registry=REGISTRY
)
MAX_ALIASES = 8
IDLE_SECONDS = 10.0


class Resolver:
    """Answers queries. ``synced`` False: names of the cluster get SERVFAIL, for we do not know yet."""

    def __init__(self, zone: Zone, upstream: Upstream, world: World) -> None:
        self.zone = zone
        self.upstream = upstream
        self.synced = False
        self._world = world
        # one label lookup a query is a tenth of its cost: bind the common ones once
        self._fast = [REQUESTS.labels("udp", "kept"), RESPONSES.labels("udp", "kept")]

    def now(self, query: bytes) -> bytes | Question | None:
        """For UDP: the answer if it can be given at once, else the question; None: say nothing (it is no query)."""
        kept = self.zone.kept(query)
        if kept is not None:
            self._fast[0].inc()
            self._fast[1].inc()
            return kept
        question = parse(query)
        if question is None:
            return _malformed(query)
        REQUESTS.labels("udp", TYPE_NAMES.get(question.kind, "other")).inc()
        answer = self._local(question, query, min(question.size, 4096))
        if isinstance(answer, Elsewhere):
            return question
        _count("udp", answer)
        return answer

    def _local(self, question: Question, query: bytes, limit: int) -> bytes | Elsewhere:
        if self.synced:
            return self.zone.answer(question, query, limit)
        if question.owner.endswith(self.zone.apex):
            return respond(question, SERVFAIL, authoritative=False)
        return Elsewhere.UPSTREAM

    async def later(self, query: bytes, question: Question, limit: int) -> bytes:
        """The answer to a question that has to wait for somebody."""
        if self.synced:
            found = self.zone.answer(question)
            if found is Elsewhere.FOLLOW:
                return await self._follow(question, limit)
            if isinstance(found, bytes):  # the zone learned of the name meanwhile
                return found
        return await self._forward(query, question, limit)

    async def tcp(self, query: bytes) -> bytes | None:
        """The answer to a query that came over TCP."""
        question = parse(query)
        if question is None:
            return _malformed(query)
        REQUESTS.labels("tcp", TYPE_NAMES.get(question.kind, "other")).inc()
        answer = self._local(question, b"", 65535)
        if isinstance(answer, Elsewhere):
            answer = await self.later(query, question, 65535)
        _count("tcp", answer)
        return answer

    async def _forward(self, query: bytes, question: Question, limit: int) -> bytes:
        if not self.upstream.servers:
            return respond(question, SERVFAIL, authoritative=False)
        FORWARDED.inc()
        started = self._world.clock.monotonic()
        answer = await self.upstream.ask(query, question)
        FORWARD_SECONDS.observe(self._world.clock.monotonic() - started)
        if answer is None:
            return respond(question, SERVFAIL, authoritative=False)
        if len(answer) > limit:
            flags = struct.unpack_from(">H", answer, 2)[0] | TC
            return answer[:2] + struct.pack(">HHHHH", flags, 1, 0, 0, 0) + question.raw
        return answer

    async def _follow(self, question: Question, limit: int) -> bytes:
        """An ExternalName service: the alias, and what it leads to as far as anybody can tell."""
        answers = b""
        count = 0
        owner, written = question.owner, POINTER_TO_QUESTION
        for _ in range(MAX_ALIASES):
            target = self.zone.alias(owner)
            answers += record(written, CNAME, self.zone.ttl, target)
            count += 1
            asked = Question(
                question.identifier,
                question.flags,
                target,
                question.kind,
                question.klass,
                target + question.raw[-4:],
            )
            found = self.zone.answer(asked)
            if found is Elsewhere.FOLLOW:
                owner = written = target
                continue
            if found is Elsewhere.UPSTREAM:
                head = struct.pack(">HHHHHH", question.identifier, 0x0100, 1, 0, 0, 0)
                found = await self._forward(head + asked.raw, asked, 65535)
            assert isinstance(found, bytes)
            for packed in _answers(found):
                answers += packed
                count += 1
            break
        return respond(question, NOERROR, answers=answers, count=count, limit=limit)


def _answers(message: bytes) -> list[bytes]:
    """The answer records of a message, packed without compression so that they can stand in another."""
    try:
        parsed = dnslib.DNSRecord.parse(message)
    except dnslib.DNSError as error:
        log.debug("an upstream server sent what cannot be read: %s", error)
        return []
    packed = []
    for found in parsed.rr:
        buffer = dnslib.DNSBuffer()
        found.pack(buffer)
        packed.append(bytes(buffer.data))
    return packed


def _malformed(query: bytes) -> bytes | None:
    """FORMERR for a broken query; nothing at all for what is an answer itself (or two servers would talk for ever)."""
    if len(query) < 12 or query[2] & 0x80:
        return None
    return query[:2] + struct.pack(">HHHHH", 0x8000 | FORMERR, 0, 0, 0, 0)


def _count(protocol: str, answer: bytes) -> None:
    rcode = answer[3] & 15
    RESPONSES.labels(protocol, RCODE_NAMES[rcode] if rcode < len(RCODE_NAMES) else str(rcode)).inc()


class Udp(asyncio.DatagramProtocol):
    """A UDP socket of the server."""

    def __init__(self, resolver: Resolver, tasks: Tasks) -> None:
        self._resolver = resolver
        self._tasks = tasks
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, address: Any) -> None:
        answer = self._resolver.now(data)
        if isinstance(answer, Question):
            self._tasks.spawn(self._later(data, answer, address), "query")
        elif answer is not None and self._transport is not None:
            self._transport.sendto(answer, address)

    async def _later(self, data: bytes, question: Question, address: Any) -> None:
        # whatever the client claims to take, what is longer than this is likely to be lost in fragments
        limit = min(question.size, OWN_UDP)
        try:
            answer = await self._resolver.later(data, question, limit)
        except Exception:
            log.exception("cannot answer %s", shown(question.owner))
            answer = respond(question, SERVFAIL, authoritative=False)
        _count("udp", answer)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(answer, address)


async def serve_tcp(resolver: Resolver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One TCP connection, until the client leaves or says nothing for ten seconds."""
    try:
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                size = struct.unpack(">H", await reader.readexactly(2))[0]
                query = await reader.readexactly(size)
            answer = await resolver.tcp(query)
            if answer is None:
                return
            writer.write(struct.pack(">H", len(answer)) + answer)
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()

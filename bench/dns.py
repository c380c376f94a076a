"""Queries a second of one bamikube-dns process, over loopback UDP. Run: ``python bench/dns.py``.

The server runs in a process of its own with 2 000 services; this process asks from many sockets at once, first as fast as
it can, then at half of the budget's rate for the latencies. Both share the machine's cores, so the figures are lower bounds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import statistics
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "services"))

from bamikube.dns.model import Port, Service
from bamikube.dns.resolver import Resolver, Udp
from bamikube.dns.upstream import Upstream
from bamikube.dns.wire import name
from bamikube.dns.zone import Zone
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World

SERVICES = 2000
SECONDS = 3.0
HALF_THE_BUDGET = 5000


async def _serve(sock: socket.socket) -> None:
    zone = Zone()
    for number in range(SERVICES):
        key = f"ns{number % 20}/web{number}"
        zone.service(key, Service(key, (f"10.96.{number >> 8}.{number & 255}",), (Port("http", "tcp", 80),)))
    resolver = Resolver(zone, Upstream(World(), []), World())
    resolver.synced = True
    await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Udp(resolver, Tasks("bench")), sock=sock
    )
    await asyncio.Event().wait()


class Client(asyncio.DatagramProtocol):
    """Keeps ``window`` queries in the air, or sends at a rate; takes the time of each."""

    def __init__(self, seed: int) -> None:
        self.sent: dict[int, float] = {}
        self.times: list[float] = []
        self.count = 0
        self._next = seed
        self.window = False

    def connection_made(self, transport) -> None:
        self.transport = transport

    def ask(self) -> None:
        self._next += 1
        number = self._next * 7919 % SERVICES
        identifier = self._next & 0xFFFF
        self.sent[identifier] = time.perf_counter()
        question = name(f"web{number}.ns{number % 20}.svc.cluster.local") + b"\0\x01\0\x01"
        self.transport.sendto(struct.pack(">HHHHHH", identifier, 0x0100, 1, 0, 0, 0) + question)

    def datagram_received(self, data: bytes, _address) -> None:
        started = self.sent.pop(struct.unpack_from(">H", data)[0], None)
        if started is not None:
            self.times.append(time.perf_counter() - started)
            self.count += 1
        if self.window:
            self.ask()


async def _load(address: tuple[str, int]) -> None:
    loop = asyncio.get_running_loop()
    clients = []
    for index in range(16):
        _, client = await loop.create_datagram_endpoint(
            lambda index=index: Client(index * 1000), remote_addr=address
        )
        clients.append(client)
    for client in clients:
        client.window = True
        for _ in range(4):
            client.ask()
    await asyncio.sleep(SECONDS)
    for client in clients:
        client.window = False
    rate = sum(client.count for client in clients) / SECONDS
    await asyncio.sleep(0.2)
    for client in clients:
        client.times.clear()
    half = HALF_THE_BUDGET
    started, sent = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < SECONDS:
        while sent < elapsed * half:
            clients[sent % 16].ask()
            sent += 1
        await asyncio.sleep(0.0005)
    await asyncio.sleep(0.2)
    times = sorted(value for client in clients for value in client.times)
    print(
        f"{rate:.0f} queries/s flat out; at {HALF_THE_BUDGET}/s: p50 {statistics.median(times) * 1000:.2f} ms, "
        f"p99 {times[int(len(times) * 0.99)] * 1000:.2f} ms, {sent - len(times)} of {sent} lost"
    )


def main() -> None:
    import uvloop

    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", 0))
    child = os.fork()
    if not child:
        uvloop.run(_serve(sock))
    try:
        time.sleep(0.5)
        uvloop.run(_load(sock.getsockname()))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()

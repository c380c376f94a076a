"""Forgetting connections.

A UDP "connection" is a conntrack entry that lives as long as packets keep coming. When an endpoint goes away, clients
that keep sending from the same port would be sent to the dead address for ever; so the proxy deletes those entries.
Linux from 6.9 on takes a filter and deletes in one request (1-2 ms); before, entries are listed and deleted one by one.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_CTNETLINK
from pyroute2.netlink.nfnetlink.nfctsocket import AsyncNFCTSocket

from bamikube.netlink.wire import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLMSG_DONE,
    NLMSG_ERROR,
    attr,
    attributes,
    message,
    nest,
    replies,
)

log = logging.getLogger(__name__)

_GET, _DELETE = 1, 2
_TUPLE_ORIGINAL, _TUPLE_REPLY, _ID, _FILTER = 1, 2, 12, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_SOURCE, _IP_DESTINATION = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
# which parts of a tuple count, CTA_FILTER
_F_SOURCE, _F_DESTINATION, _F_NUMBER, _F_SOURCE_PORT, _F_DESTINATION_PORT = 1, 2, 8, 16, 32


@dataclass(frozen=True, slots=True)
class Flow:
    """Connections to forget: those sent to ``address:port`` (any address if empty) and, if an endpoint is given,
    answered by ``endpoint:endpoint_port``."""

    protocol: int
    address: str
    port: int
    endpoint: str = ""
    endpoint_port: int = 0


class Conntrack:
    """The connection table of the network namespace where this was made."""

    def __init__(self) -> None:
        self._netlink = AsyncNFCTSocket()
        self._socket: socket.socket = self._netlink.socket
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="conntrack")
        self._sequence = 0
        self._filtered = True

    async def forget(self, flows: list[Flow]) -> None:
        """Delete the connections of these flows; those that do not exist are no error."""
        if flows:
            # a dump of a busy table takes milliseconds of kernel time inside recv: not on the event loop
            await asyncio.get_running_loop().run_in_executor(self._thread, self._forget, flows)

    async def entries(self, protocol: int = 17) -> list[tuple[str, int, str, int]]:
        """(original destination, its port, who answers, its port) of all connections of a protocol."""
        found = await asyncio.get_running_loop().run_in_executor(self._thread, self._dump)
        return [
            entry[1:]
            for entry in (_read(body) for body in found)
            if entry is not None and entry[0] == protocol
        ]

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._netlink.close()

    def _forget(self, flows: list[Flow]) -> None:
        left = flows
        if self._filtered:
            left = [flow for flow in flows if not self._forget_filtered(flow)]
        if left:
            self._forget_listed(left)

    def _forget_filtered(self, flow: Flow) -> bool:
        original = _F_NUMBER | _F_DESTINATION_PORT | (_F_DESTINATION if flow.address else 0)
        body = _tuple(
            _TUPLE_ORIGINAL, _IP_DESTINATION, flow.address, flow.protocol, _DESTINATION_PORT, flow.port
        )
        reply = 0
        if flow.endpoint:
            reply = _F_NUMBER | _F_SOURCE | _F_SOURCE_PORT
            body += _tuple(
                _TUPLE_REPLY, _IP_SOURCE, flow.endpoint, flow.protocol, _SOURCE_PORT, flow.endpoint_port
            )
        body += nest(_FILTER, attr(1, struct.pack("=I", original)), attr(2, struct.pack("=I", reply)))
        code = self._request(_DELETE, body)
        if code == 0:
            return True
        if code != errno.ENOENT:
            # an older kernel takes the partial tuple for a whole one, and refuses it
            self._filtered = False
        return False

    def _forget_listed(self, flows: list[Flow]) -> None:
        wanted: dict[tuple[int, int], list[Flow]] = {}
        for flow in flows:
            wanted.setdefault((flow.protocol, flow.port), []).append(flow)
        for body in self._dump():
            entry = _read(body)
            if entry is None:
                continue
            protocol, address, port, endpoint, endpoint_port = entry
            for flow in wanted.get((protocol, port), ()):
                if flow.address in ("", address) and (flow.endpoint, flow.endpoint_port) in (
                    ("", 0),
                    (endpoint, endpoint_port),
                ):
                    found = attributes(body[4:])
                    exact = attr(_TUPLE_ORIGINAL | 0x8000, found[_TUPLE_ORIGINAL]) + attr(_ID, found[_ID])
                    self._request(_DELETE, exact)
                    break

    def _request(self, kind: int, body: bytes, flags: int = NLM_F_ACK) -> int:
        """Send, and return the error number of the answer (0: done)."""
        self._sequence += 1
        head = struct.pack(">BBH", socket.AF_INET, 0, 0)
        self._socket.sendto(
            message(NFNL_SUBSYS_CTNETLINK << 8 | kind, flags, self._sequence, head + body), (0, 0)
        )
        while True:
            for answered, _flags, sequence, data in replies(self._socket.recv(1 << 16)):
                if answered == NLMSG_ERROR and sequence == self._sequence:
                    return int(-struct.unpack_from("=i", data)[0])

    def _dump(self) -> list[bytes]:
        self._sequence += 1
        head = struct.pack(">BBH", socket.AF_INET, 0, 0)
        self._socket.sendto(
            message(NFNL_SUBSYS_CTNETLINK << 8 | _GET, NLM_F_DUMP, self._sequence, head), (0, 0)
        )
        found: list[bytes] = []
        while True:
            for kind, _flags, sequence, body in replies(self._socket.recv(1 << 18)):
                if sequence != self._sequence:
                    continue
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    return found
                found.append(body)


def _tuple(kind: int, side: int, address: str, protocol: int, port_side: int, port: int) -> bytes:
    addresses = nest(_TUPLE_IP, attr(side, ipaddress.IPv4Address(address or "0.0.0.0").packed))
    ports = nest(_TUPLE_PROTO, attr(_NUMBER, bytes([protocol])), attr(port_side, struct.pack(">H", port)))
    return nest(kind, addresses, ports)


def _read(body: bytes) -> tuple[int, str, int, str, int] | None:
    """Protocol, original destination and port, reply source and port of a dumped entry."""
    found = attributes(body[4:])
    try:
        sides = []
        for kind, address_side, port_side in (
            (_TUPLE_ORIGINAL, _IP_DESTINATION, _DESTINATION_PORT),
            (_TUPLE_REPLY, _IP_SOURCE, _SOURCE_PORT),
        ):
            parts = attributes(found[kind])
            proto = attributes(parts[_TUPLE_PROTO])
            address = str(ipaddress.IPv4Address(attributes(parts[_TUPLE_IP])[address_side]))
            sides.append((proto[_NUMBER][0], address, struct.unpack(">H", proto[port_side])[0]))
    except KeyError:  # a protocol without ports
        return None
    return sides[0][0], sides[0][1], sides[0][2], sides[1][1], sides[1][2]

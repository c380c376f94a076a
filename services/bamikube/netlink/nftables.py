"""Transactions: a batch of messages that the kernel takes whole or not at all.

Three things went wrong with simpler ways of doing this, and shape the code:

* A failed batch can look like success when only its last message asks for an acknowledgement. So every message has a
  sequence number of its own, the acknowledgement is asked for on the *end* message, and no acknowledgement is a failure;
  errors are read back by sequence number and name the message that caused them.
* The default socket refuses batches beyond 2.3 MB; ``SO_SNDBUFFORCE`` lifts that.
* ``send()`` returns only when the kernel has done the work (half a second for ten thousand services). It therefore runs
  in a thread of its own, the one place where the house allows that: the alternative is an event loop that stands still,
  with health checks and watches waiting behind it. Replies are already queued when ``send()`` returns.

pyroute2 owns the socket; the bytes are packed by :mod:`.tables`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES
from pyroute2.netlink.nfnetlink.nftsocket import AsyncNFTSocket

from bamikube.netlink.tables import (
    ADDRESS,
    DELSETELEM,
    DESTROYSETELEM,
    GETTABLE,
    OWNER,
    PERSIST,
    Message,
    Set,
    Table,
    delete_table,
    difference,
    elements,
    replacement,
    table_message,
)
from bamikube.netlink.wire import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLMSG_ERROR, message, replies, text

log = logging.getLogger(__name__)

_BEGIN, _END = 0x10, 0x11
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_AF_INET = 2


class TransactionError(OSError):
    """The kernel refused a batch; nothing of it was done. ``errno`` is the first error's, ``what`` its message."""

    def __init__(self, number: int, what: str, count: int) -> None:
        more = f" (and {count - 1} more errors in the same batch)" if count > 1 else ""
        super().__init__(number, f"netfilter refused '{what}': {os.strerror(number)}{more}")
        self.what = what


@dataclass(frozen=True, slots=True)
class Features:
    """What this kernel can do. Older ones get the plain way."""

    owner: bool = (
        False  # tables that others cannot change, and that outlive their owner's restart (Linux 6.9)
    )
    destroy: bool = False  # deleting an element that may be missing (Linux 6.3)

    @property
    def flags(self) -> int:
        # an owner table without persistence vanishes with its socket: both or neither
        return OWNER | PERSIST if self.owner else 0

    @property
    def delete_kind(self) -> int:
        return DESTROYSETELEM if self.destroy else DELSETELEM


class Nftables:
    """The connection to nf_tables in the network namespace where it was made.

    Keep it for the life of the service: a table with an owner belongs to this very socket.
    """

    def __init__(self) -> None:
        self._netlink = AsyncNFTSocket()
        self._socket: socket.socket = self._netlink.socket
        for option, fallback, size in (
            (_SO_SNDBUFFORCE, socket.SO_SNDBUF, 96 << 20),
            (_SO_RCVBUFFORCE, socket.SO_RCVBUF, 4 << 20),
        ):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, size)
            except OSError:
                self._socket.setsockopt(socket.SOL_SOCKET, fallback, size)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nftables")
        self._sequence = 0
        self.features = Features()

    async def probe(self, name: str = "bamikube-probe") -> Features:
        """Find out what this kernel can do, on a table that is gone afterwards."""
        owner = await self._works([table_message(name, OWNER | PERSIST), delete_table(name)])
        probe = Set("probe", (ADDRESS,))
        missing = list(elements(name, probe, {b"\0\0\0\0": None}, add=False, kind=DESTROYSETELEM))
        table = Table(name, sets={"probe": probe})
        destroy = await self._works([*replacement(table), *missing, delete_table(name)])
        self.features = Features(owner=owner, destroy=destroy)
        return self.features

    async def _works(self, messages: Sequence[Message]) -> bool:
        try:
            await self.send(messages)
        except OSError as error:
            log.debug("kernel feature missing: %s", error)
            return False
        return True

    async def replace(self, table: Table) -> None:
        """Make the kernel's table exactly this one, whatever was there, in one step."""
        await self.send(replacement(table, self.features.flags))

    async def update(self, old: Table, new: Table) -> int:
        """Send what differs; the number of messages sent. Raises TransactionError where the kernel's table is not ``old``."""
        messages = difference(old, new, flags=self.features.flags, delete_kind=self.features.delete_kind)
        if messages:
            await self.send(messages)
        return len(messages)

    async def remove(self, name: str) -> None:
        """Remove the table if there is one."""
        await self.send([table_message(name, self.features.flags), delete_table(name)])

    async def exists(self, name: str) -> bool:
        """Whether the kernel has the table: one question, whatever the table's size."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._exists, name)

    def _exists(self, name: str) -> bool:
        self._drain()
        self._sequence += 1
        body = struct.pack(">BBH", _AF_INET, 0, 0) + text(1, name)
        self._socket.sendto(
            message(NFNL_SUBSYS_NFTABLES << 8 | GETTABLE, NLM_F_ACK, self._sequence, body), (0, 0)
        )
        for kind, _flags, _sequence, answer in self._drain():
            if kind == NLMSG_ERROR and struct.unpack_from("=i", answer)[0] == -errno.ENOENT:
                return False
        return True

    async def send(self, messages: Sequence[Message]) -> None:
        """One transaction. Raises TransactionError with the first error; then nothing was changed."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._send, messages)

    def _send(self, messages: Sequence[Message]) -> None:
        first = self._sequence + 1
        batch = struct.pack(">BBH", _AF_INET, 0, NFNL_SUBSYS_NFTABLES)
        generic = struct.pack(">BBH", _AF_INET, 0, 0)
        parts = [message(_BEGIN, 0, first, batch)]
        for number, item in enumerate(messages, first + 1):
            flags = (NLM_F_CREATE if item.create else 0) | (NLM_F_APPEND if item.append else 0)
            parts.append(message(NFNL_SUBSYS_NFTABLES << 8 | item.kind, flags, number, generic + item.body))
        last = first + len(messages) + 1
        parts.append(message(_END, NLM_F_ACK, last, batch))
        self._sequence = last & 0x3FFFFFFF
        self._drain()  # nothing of an earlier batch may be taken for ours
        try:
            self._socket.sendto(b"".join(parts), (0, 0))
        except OSError as error:
            raise TransactionError(
                error.errno or errno.EIO, f"a batch of {len(messages)} messages", 1
            ) from error
        errors: dict[int, int] = {}
        acknowledged = False
        for kind, _flags, sequence, body in self._drain():
            if kind != NLMSG_ERROR:
                continue
            code = -struct.unpack_from("=i", body)[0]
            if code:
                errors.setdefault(sequence, code)
            elif sequence == last:
                acknowledged = True
        if errors:
            sequence = min(errors)
            index = sequence - first - 1
            what = messages[index].what if 0 <= index < len(messages) else "the batch"
            raise TransactionError(errors[sequence], what, len(errors))
        if not acknowledged:
            raise TransactionError(errno.EIO, f"a batch of {len(messages)} messages (no acknowledgement)", 1)

    def _drain(self) -> list[tuple[int, int, int, bytes]]:
        found: list[tuple[int, int, int, bytes]] = []
        while True:
            try:
                found += replies(self._socket.recv(1 << 18, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        """Let go of the socket. A persistent table stays."""
        self._thread.shutdown(wait=True)
        self._netlink.close()

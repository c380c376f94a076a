"""Pod addresses of this node: who has which, in files that survive the agent and the machine.

One file per address, named by it, as the ``host-local`` plugin keeps them, so that ``ls`` shows what is taken. A file is
written beside and linked into place: the link fails if the address is taken, and a crash leaves a whole file or none.
Addresses are handed out in turn, never the one just freed, because something may still be talking to the old pod.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from bamikube.network.calls import HostPort


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod's interface: all that is needed to check it, undo it, and to program its host ports again."""

    address: str
    container: str
    interface: str
    netns: str
    host_interface: str
    mtu: int
    ports: tuple[HostPort, ...] = ()


class AddressesExhausted(Exception):
    """Every address of the node's pod CIDR is taken."""


class Addresses:
    """The attachments of a node. ``directory`` is made if missing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._held: dict[str, Attachment] = {}
        self._last = 0
        for path in directory.iterdir():
            if path.name.startswith("."):
                path.unlink(missing_ok=True)  # an attempt that was cut off
                continue
            try:
                raw = orjson.loads(path.read_bytes())
                raw["ports"] = tuple(HostPort(**port) for port in raw["ports"])
                self._held[path.name] = Attachment(**raw)
            except (ValueError, TypeError, KeyError):
                path.unlink()  # not ours, or from another time: nobody can be using it through us

    def all(self) -> list[Attachment]:
        return list(self._held.values())

    def find(self, container: str, interface: str) -> Attachment | None:
        for attachment in self._held.values():
            if attachment.container == container and attachment.interface == interface:
                return attachment
        return None

    def next(self, network: str) -> str:
        """A free address of ``network``. Raises AddressesExhausted. The first is left free, for the node's own use."""
        net = ipaddress.IPv4Network(network)
        first, last = int(net.network_address) + 2, int(net.broadcast_address) - 1
        if last < first:
            raise AddressesExhausted(f"the pod CIDR {network} has no room for pods")
        start = self._last + 1 if first <= self._last < last else first
        for number in (*range(start, last + 1), *range(first, start)):
            address = str(ipaddress.IPv4Address(number))
            if address not in self._held:
                self._last = number
                return address
        raise AddressesExhausted(f"all {last - first + 1} addresses of the pod CIDR {network} are taken")

    def keep(self, attachment: Attachment) -> None:
        """Write the reservation. Raises FileExistsError when the address is taken."""
        temporary = self._directory / f".{attachment.address}.{os.getpid()}"
        temporary.write_bytes(orjson.dumps(asdict(attachment)))
        try:
            os.link(temporary, self._directory / attachment.address)
        finally:
            temporary.unlink()
        self._held[attachment.address] = attachment

    def free(self, address: str) -> None:
        self._held.pop(address, None)
        (self._directory / address).unlink(missing_ok=True)

    def vanished(self, links: Iterable[str]) -> list[Attachment]:
        """Attachments whose node end is not among ``links``, or whose namespace is gone: nobody will ever free them."""
        present = set(links)
        return [
            attachment
            for attachment in self._held.values()
            if attachment.host_interface not in present or not os.path.exists(attachment.netns)
        ]

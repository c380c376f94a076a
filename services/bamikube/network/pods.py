"""Answering CNI calls: the agent's work for one pod at a time.

ADD reserves an address, wires the pod, programs its host ports, in that order, and undoes what it did when a later step
fails. DEL undoes all three, however little is left of them, and never fails because something is gone already. Calls for
one container are served one after the other.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from prometheus_client import Histogram

from bamikube.kit.metrics import REGISTRY
from bamikube.kit.world import World
from bamikube.netlink.links import Links
from bamikube.netlink.nftables import Nftables
from bamikube.netlink.pods import Plug, check, names, plug, set_loopback_up, unplug
from bamikube.netlink.tables import Table
from bamikube.network.addresses import Addresses, AddressesExhausted, Attachment
from bamikube.network.calls import FAILED, TRY_LATER, Call, CniError, loopback_result, parse, result
from bamikube.network.rules import rules

log = logging.getLogger(__name__)

SECONDS = Histogram(
    "bamikube_network_cni_seconds", "Time to answer a CNI call, in seconds", ["command"], registry=REGISTRY
)


@dataclass(frozen=True, slots=True)
class Site:
    """Where pods live on this node, once known."""

    cidr: str
    cluster: str
    mtu: int


class Pods:
    """The pods' attachments of this node."""

    def __init__(self, world: World, links: Links, tables: Nftables, addresses: Addresses) -> None:
        self.site: Site | None = None
        self._world = world
        self._links = links
        self._tables = tables
        self._addresses = addresses
        self._table: Table | None = None
        self._lock = asyncio.Lock()

    async def answer(self, data: bytes) -> bytes:
        """The plugin's output, with the exit status as its first byte."""
        version = "1.0.0"
        started = self._world.clock.monotonic()
        command = "?"
        try:
            call = parse(data)
            version, command = call.version, call.command
            async with self._lock:
                return b"0" + await self._serve(call)
        except CniError as error:
            log.warning("%s failed: %s %s", command, error, error.details)
            return b"1" + error.encode(version)
        except OSError as error:
            log.warning("%s failed: %s", command, error)
            return b"1" + CniError(FAILED, f"cannot do {command}: {error}").encode(version)
        finally:
            SECONDS.labels(command).observe(self._world.clock.monotonic() - started)

    async def _serve(self, call: Call) -> bytes:
        if call.plugin == "loopback":
            if call.command == "ADD":
                await set_loopback_up(self._links, call.netns)
                return loopback_result(call)
            return b""
        if call.command == "ADD":
            return await self._add(call)
        if call.command == "DEL":
            await self._delete(call)
        else:
            await self._check(call)
        return b""

    async def _add(self, call: Call) -> bytes:
        if self.site is None:
            raise CniError(
                TRY_LATER,
                "this node has no pod CIDR yet",
                "the node IPAM controller sets spec.podCIDR; is it running, and is this node registered?",
            )
        if self._addresses.find(call.container, call.interface):
            raise CniError(FAILED, f"container {call.container} already has an interface {call.interface}")
        self._claim_ports(call)
        host, mac, host_mac = names(call.container, call.interface)
        try:
            address = self._addresses.next(self.site.cidr)
        except AddressesExhausted as error:
            raise CniError(
                TRY_LATER, str(error), "delete pods on this node, or give it a larger pod CIDR"
            ) from None
        attachment = Attachment(
            address, call.container, call.interface, call.netns, host, self.site.mtu, call.ports
        )
        self._addresses.keep(attachment)
        try:
            await plug(
                self._links, Plug(call.netns, call.interface, host, address, self.site.mtu, mac, host_mac)
            )
            if call.ports:
                await self.program()
        except BaseException:
            self._addresses.free(address)
            await unplug(self._links, host)
            raise
        return result(call, address, host, host_mac, mac)

    def _claim_ports(self, call: Call) -> None:
        taken = {
            (port.protocol, port.port, port.address): held
            for held in self._addresses.all()
            for port in held.ports
        }
        for port in call.ports:
            held = taken.get((port.protocol, port.port, port.address))
            if held is not None:
                raise CniError(
                    FAILED,
                    f"host port {port.port}/{port.protocol} is taken by the pod with address {held.address}",
                    "pods that name the same hostPort cannot share a node",
                )

    async def _delete(self, call: Call) -> None:
        attachment = self._addresses.find(call.container, call.interface)
        await unplug(self._links, names(call.container, call.interface)[0])
        if attachment is not None:
            self._addresses.free(attachment.address)
            if attachment.ports:
                await self.program()

    async def _check(self, call: Call) -> None:
        attachment = self._addresses.find(call.container, call.interface)
        if attachment is None:
            raise CniError(
                FAILED, f"container {call.container} has no interface {call.interface} of this network"
            )
        host, mac, host_mac = names(call.container, call.interface)
        plugged = Plug(call.netns, call.interface, host, attachment.address, attachment.mtu, mac, host_mac)
        wrong = await check(self._links, plugged)
        if wrong:
            raise CniError(FAILED, f"the network of container {call.container} is broken: {wrong}")

    async def collect(self) -> int:
        """Free what belongs to sandboxes that are gone (after a crash or a reboot); how many."""
        gone = self._addresses.vanished(await self._links.names("bk"))
        for attachment in gone:
            await unplug(self._links, attachment.host_interface)
            self._addresses.free(attachment.address)
            log.info("freed %s of container %s, which is gone", attachment.address, attachment.container)
        return len(gone)

    async def program(self) -> None:
        """Bring netfilter up to date: what differs, or everything when that is refused."""
        if self.site is None:
            return
        wanted = rules(self.site.cidr, self.site.cluster, self._addresses.all())
        if self._table is not None:
            try:
                await self._tables.update(self._table, wanted)
                self._table = wanted
                return
            except OSError as error:
                log.warning("%s; replacing the whole table", error)
        self._table = None
        await self._tables.replace(wanted)
        self._table = wanted

    async def verify(self) -> None:
        """Make the table again if somebody removed it."""
        async with self._lock:
            if self._table is not None and not await self._tables.exists(self._table.name):
                log.warning("the netfilter table %s is gone; making it again", self._table.name)
                self._table = None
                await self.program()

    async def move(self, site: Site) -> None:
        """The node's place became known, or changed."""
        async with self._lock:
            self.site = site
            await self.program()

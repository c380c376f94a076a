"""Links, addresses, routes, neighbours and forwarding entries of a node, as the services need them.

Everything here is idempotent: it says how things should be, and does nothing where they are so already. Routes that
belong to us carry protocol number 66, so that ours can be told from the administrator's and removed when their node
goes (``ip route show proto 66``).
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from bamikube.netlink.thread import RouteThread

PROTOCOL = 66
_SCOPE_LINK = 253
_ONLINK = 4
_NUD_PERMANENT = 0x80
_NUD_NOARP = 0x40
_NTF_SELF = 0x02


@dataclass(frozen=True, slots=True)
class Route:
    """A route of ours. ``gateway`` empty: directly on ``device``. ``onlink``: the gateway needs no route of its own."""

    destination: str
    device: str
    gateway: str = ""
    source: str = ""
    onlink: bool = False


@dataclass(frozen=True, slots=True)
class Device:
    """The link that carries an address."""

    name: str
    index: int
    mtu: int
    mac: str
    prefix: int


@dataclass(frozen=True, slots=True)
class Vxlan:
    """A VXLAN device without learning: who is where is told by the API, not by broadcasts."""

    name: str
    identifier: int
    port: int
    local: str
    device: str
    mtu: int
    mac: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node behind the VXLAN: the node's address, and the hardware address of its VXLAN device."""

    address: str
    mac: str
    inner: str  # the gateway address that stands for the peer inside the overlay


def attribute(message: Any, name: str) -> Any:
    return message.get_attr(name)


def index_of(connection: IPRoute, name: str) -> int | None:
    """The number of a link, None where there is none of that name."""
    try:
        found = connection.link("get", ifname=name)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
    return int(found[0]["index"]) if found else None


def sysctl(name: str, value: str) -> bool:
    """Set a sysctl of the calling thread's namespace; False where the kernel does not have it or does not let us."""
    path = Path("/proc/sys") / name
    try:
        if path.read_text().strip() != value:
            path.write_text(value)
    except OSError:
        return False
    return True


class Links:
    """The rtnetlink view of the node we run on."""

    def __init__(self) -> None:
        self.thread = RouteThread()

    def close(self) -> None:
        self.thread.close()

    async def device_with(self, address: str) -> Device | None:
        """The device that carries ``address``."""

        def find(connection: IPRoute) -> Device | None:
            for message in connection.get_addr(family=socket.AF_INET):
                if attribute(message, "IFA_LOCAL") == address:
                    link = connection.link("get", index=message["index"])[0]
                    return Device(
                        attribute(link, "IFLA_IFNAME"),
                        int(link["index"]),
                        int(attribute(link, "IFLA_MTU")),
                        str(attribute(link, "IFLA_ADDRESS")),
                        int(message["prefixlen"]),
                    )
            return None

        return await self.thread.call(find)

    async def reachable(self, address: str) -> bool:
        """Whether the node has any route for ``address`` (a packet without one never meets netfilter)."""

        def ask(connection: IPRoute) -> bool:
            try:
                return bool(connection.route("get", dst=address))
            except NetlinkError:
                return False

        return await self.thread.call(ask)

    async def routes(self) -> dict[str, Route]:
        """Our routes by destination."""

        def listed(connection: IPRoute) -> dict[str, Route]:
            names: dict[int, str] = {}
            found: dict[str, Route] = {}
            for message in connection.get_routes(family=socket.AF_INET, proto=PROTOCOL):
                if message["proto"] != PROTOCOL:
                    continue
                index = attribute(message, "RTA_OIF")
                if index not in names:
                    names[index] = attribute(connection.link("get", index=index)[0], "IFLA_IFNAME")
                destination = f"{attribute(message, 'RTA_DST')}/{message['dst_len']}"
                found[destination] = Route(
                    destination,
                    names[index],
                    attribute(message, "RTA_GATEWAY") or "",
                    attribute(message, "RTA_PREFSRC") or "",
                    bool(message["flags"] & _ONLINK),
                )
            return found

        return await self.thread.call(listed)

    async def put_route(self, route: Route) -> None:
        """Add the route or replace the one to the same destination. Raises OSError where the device is missing."""

        def put(connection: IPRoute) -> None:
            index = index_of(connection, route.device)
            if index is None:
                raise OSError(
                    errno.ENODEV, f"cannot route to {route.destination}: there is no device {route.device}"
                )
            more: dict[str, Any] = {"gateway": route.gateway} if route.gateway else {"scope": _SCOPE_LINK}
            if route.source:
                more["prefsrc"] = route.source
            if route.onlink:
                more["flags"] = _ONLINK
            connection.route("replace", dst=route.destination, oif=index, proto=PROTOCOL, **more)

        await self.thread.call(put)

    async def remove_route(self, route: Route) -> None:
        def remove(connection: IPRoute) -> None:
            try:
                connection.route("del", dst=route.destination, proto=PROTOCOL)
            except NetlinkError as error:
                if error.code != errno.ESRCH:
                    raise

        await self.thread.call(remove)

    async def put_vxlan(self, wanted: Vxlan) -> None:
        """Make the VXLAN device, or make it anew when it differs in what cannot be changed."""

        def put(connection: IPRoute) -> None:
            index = index_of(connection, wanted.name)
            if index is not None:
                link = connection.link("get", index=index)[0]
                data = attribute(attribute(link, "IFLA_LINKINFO"), "IFLA_INFO_DATA")
                same = (
                    attribute(data, "IFLA_VXLAN_ID") == wanted.identifier
                    and attribute(data, "IFLA_VXLAN_LOCAL") == wanted.local
                    and str(attribute(link, "IFLA_ADDRESS")) == wanted.mac
                )
                if not same:
                    connection.link("del", index=index)
                    index = None
            if index is None:
                connection.link(
                    "add",
                    ifname=wanted.name,
                    kind="vxlan",
                    address=wanted.mac,
                    vxlan_id=wanted.identifier,
                    vxlan_link=index_of(connection, wanted.device),
                    vxlan_local=wanted.local,
                    vxlan_port=wanted.port,
                    vxlan_learning=False,
                )
                index = index_of(connection, wanted.name)
            connection.link("set", index=index, mtu=wanted.mtu, state="up")

        await self.thread.call(put)

    async def put_peers(self, device: str, peers: list[Peer]) -> None:
        """Exactly these peers: a permanent neighbour and a forwarding entry each, others removed."""

        def put(connection: IPRoute) -> None:
            index = index_of(connection, device)
            if index is None:
                raise OSError(errno.ENODEV, f"there is no device {device}; the overlay is not up")
            wanted = {peer.inner for peer in peers}
            macs = {peer.mac for peer in peers}
            for message in connection.get_neighbours(family=socket.AF_INET, ifindex=index):
                if attribute(message, "NDA_DST") not in wanted:
                    connection.neigh("del", dst=attribute(message, "NDA_DST"), ifindex=index)
            for message in connection.fdb("dump", ifindex=index):
                mac = str(attribute(message, "NDA_LLADDR"))
                if message["ifindex"] == index and mac not in macs and attribute(message, "NDA_DST"):
                    connection.fdb("del", ifindex=index, lladdr=mac, dst=attribute(message, "NDA_DST"))
            for peer in peers:
                connection.neigh(
                    "replace", dst=peer.inner, lladdr=peer.mac, ifindex=index, state=_NUD_PERMANENT
                )
                connection.fdb(
                    "replace",
                    ifindex=index,
                    lladdr=peer.mac,
                    dst=peer.address,
                    state=_NUD_PERMANENT | _NUD_NOARP,
                    flags=_NTF_SELF,
                )

        await self.thread.call(put)

    async def put_address(self, device: str, address: str, prefix: int = 32) -> None:
        def put(connection: IPRoute) -> None:
            index = index_of(connection, device)
            connection.addr("replace", index=index, address=address, prefixlen=prefix)

        await self.thread.call(put)

    async def remove_link(self, name: str) -> None:
        """Remove the link if there is one."""

        def remove(connection: IPRoute) -> None:
            index = index_of(connection, name)
            if index is not None:
                connection.link("del", index=index)

        await self.thread.call(remove)

    async def names(self, prefix: str = "") -> list[str]:
        """The names of the links that start with ``prefix``."""

        def listed(connection: IPRoute) -> list[str]:
            found = [str(attribute(link, "IFLA_IFNAME")) for link in connection.get_links()]
            return [name for name in found if name.startswith(prefix)]

        return await self.thread.call(listed)


def in_network(address: str, network: str) -> bool:
    """Whether an IPv4 address lies in a network."""
    return ipaddress.IPv4Address(address) in ipaddress.IPv4Network(network, strict=False)

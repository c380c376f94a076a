"""How to reach the pods of the other nodes: the decision, pure.

A node on our own network is reached by a plain route to its pod CIDR through its address: nothing is wrapped, nothing
costs MTU. A node elsewhere is reached through VXLAN: its pod CIDR is routed to an address that stands for it (the first
of its CIDR), which a permanent neighbour turns into the hardware address of its VXLAN device, which a forwarding entry
turns into the node's address. Nothing is learned by broadcast; the API knows it all::

    10.244.2.0/24 via 10.99.0.12 dev eth0                                     one network
    10.244.3.0/24 via 10.244.3.0 dev bamikube.1 onlink                        VXLAN
    neighbour 10.244.3.0 is 02:5f:...     fdb 02:5f:... dst 192.0.2.13
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bamikube.netlink.links import Device, Peer, Route, Vxlan

Overlay = Literal["auto", "none", "vxlan"]

VXLAN = "bamikube.1"
VXLAN_ID = 1
VXLAN_PORT = 8472
VXLAN_COST = 50  # outer Ethernet, IP, UDP and VXLAN heads


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A node as far as routes go. ``cidr`` or ``address`` empty: not known yet."""

    name: str
    address: str
    cidr: str


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """What should be, and why (one reason a node)."""

    routes: tuple[Route, ...]
    vxlan: Vxlan | None
    peers: tuple[Peer, ...]
    mtu: int
    reasons: dict[str, str]


def vxlan_mac(name: str) -> str:
    """The hardware address of a node's VXLAN device: every node can work it out from the name."""
    digest = hashlib.sha256(f"vxlan/{name}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in bytes([digest[0] & 0xFC | 0x02]) + digest[1:6])


def plan_routes(own: Neighbour, device: Device, others: Iterable[Neighbour], overlay: Overlay) -> RoutePlan:
    """Routes to all ``others`` from the node ``own``, whose address is on ``device``."""
    link = ipaddress.IPv4Network(f"{own.address}/{device.prefix}", strict=False)
    routes: list[Route] = []
    peers: list[Peer] = []
    reasons: dict[str, str] = {}
    for other in sorted(others, key=lambda node: node.name):
        if other.name == own.name:
            continue
        if not other.cidr or not other.address:
            reasons[other.name] = "NoPodCIDR" if not other.cidr else "NoAddress"
            continue
        near = ipaddress.IPv4Address(other.address) in link
        if overlay != "vxlan" and near:
            routes.append(Route(other.cidr, device.name, gateway=other.address))
            reasons[other.name] = "SameNetwork"
        elif overlay == "none":
            reasons[other.name] = "NotOnOurNetwork"
        else:
            inner = str(ipaddress.IPv4Network(other.cidr).network_address)
            routes.append(Route(other.cidr, VXLAN, gateway=inner, onlink=True))
            peers.append(Peer(other.address, vxlan_mac(other.name), inner))
            reasons[other.name] = "Overlay"
    wrapped = bool(peers) or overlay == "vxlan"
    mtu = device.mtu - VXLAN_COST if wrapped else device.mtu
    vxlan = None
    if wrapped:
        vxlan = Vxlan(VXLAN, VXLAN_ID, VXLAN_PORT, own.address, device.name, mtu, vxlan_mac(own.name))
    return RoutePlan(tuple(routes), vxlan, tuple(peers), mtu, reasons)

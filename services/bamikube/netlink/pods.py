"""Wiring one pod: a point-to-point veth with /32 routes on both ends.

The pod's own address is a /32, its default gateway the link-local 169.254.1.1, whose hardware address (that of the
node's end) is written down as a permanent neighbour; nobody has to carry that address and nothing is resolved::

    pod    eth0 10.244.1.7/32      169.254.1.1 dev eth0 scope link      default via 169.254.1.1
    node   bk3f2a...               10.244.1.7 dev bk3f2a... scope link  neighbour 10.244.1.7 is the pod's eth0

There is no bridge: every packet between two pods is routed, so netfilter sees it without ``bridge-nf-call-iptables``,
and a pod can reach itself through a service without port hairpin.
"""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from bamikube.netlink.links import Links, attribute, index_of, sysctl
from bamikube.netlink.thread import inside

GATEWAY = "169.254.1.1"
_SCOPE_LINK = 253
_NUD_PERMANENT = 0x80
PREFIX = "bk"


@dataclass(frozen=True, slots=True)
class Plug:
    """A pod's end and the node's end of one attachment. ``netns`` is a path."""

    netns: str
    interface: str
    host_interface: str
    address: str
    mtu: int
    mac: str
    host_mac: str


def names(container: str, interface: str) -> tuple[str, str, str]:
    """The node's link name and the two hardware addresses of an attachment: always the same for the same attachment."""
    digest = hashlib.sha256(f"{container}/{interface}".encode()).digest()

    def mac(part: bytes) -> str:
        return ":".join(f"{byte:02x}" for byte in bytes([part[0] & 0xFC | 0x02]) + part[1:6])

    return PREFIX + digest.hex()[:11], mac(digest[8:14]), mac(digest[16:22])


async def plug(links: Links, wanted: Plug) -> None:
    """Wire the pod. On failure nothing is left. Raises OSError (NetlinkError) saying what was in the way."""

    def work(connection: IPRoute) -> None:
        old = index_of(connection, wanted.host_interface)
        if old is not None:  # left over from an attempt that was cut off
            connection.link("del", index=old)
        descriptor = os.open(wanted.netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            connection.link(
                "add",
                ifname=wanted.host_interface,
                kind="veth",
                mtu=wanted.mtu,
                address=wanted.host_mac,
                peer={
                    "ifname": wanted.interface,
                    "net_ns_fd": descriptor,
                    "mtu": wanted.mtu,
                    "address": wanted.mac,
                },
            )
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                raise OSError(
                    errno.EEXIST,
                    f"the pod's namespace {wanted.netns} already has an interface {wanted.interface}",
                ) from error
            raise
        finally:
            os.close(descriptor)
        index = index_of(connection, wanted.host_interface)
        try:
            with inside(wanted.netns) as pod:
                _inside(pod, wanted)
            connection.link("set", index=index, state="up")
            # an answer may come in another way than the route out; the pod must not be able to send redirects around
            sysctl(f"net/ipv4/conf/{wanted.host_interface}/rp_filter", "0")
            sysctl(f"net/ipv4/conf/{wanted.host_interface}/send_redirects", "0")
            connection.neigh(
                "replace", dst=wanted.address, lladdr=wanted.mac, ifindex=index, state=_NUD_PERMANENT
            )
            connection.route("replace", dst=f"{wanted.address}/32", oif=index, scope=_SCOPE_LINK)
        except BaseException:
            connection.link("del", index=index)
            raise

    await links.thread.call(work)


def _inside(pod: IPRoute, wanted: Plug) -> None:
    """The pod's end; runs within its namespace."""
    pod.link("set", index=1, state="up")  # lo is always the first
    index = index_of(pod, wanted.interface)
    pod.addr("add", index=index, address=wanted.address, prefixlen=32)
    pod.link("set", index=index, state="up")
    pod.neigh("replace", dst=GATEWAY, lladdr=wanted.host_mac, ifindex=index, state=_NUD_PERMANENT)
    pod.route("add", dst=f"{GATEWAY}/32", oif=index, scope=_SCOPE_LINK)
    pod.route("add", dst="0.0.0.0/0", gateway=GATEWAY, oif=index)


async def unplug(links: Links, host_interface: str) -> None:
    """Take the wire away, both ends; fine when it is gone already (the namespace took it along)."""
    await links.remove_link(host_interface)


async def set_loopback_up(links: Links, netns: str) -> None:
    """``lo`` of a namespace."""

    def work(_connection: IPRoute) -> None:
        with inside(netns) as pod:
            pod.link("set", index=1, state="up")

    await links.thread.call(work)


async def check(links: Links, wanted: Plug) -> str:
    """What is wrong with an attachment, in words; empty when it is as it was made."""

    def work(connection: IPRoute) -> str:
        if index_of(connection, wanted.host_interface) is None:
            return f"the node's end {wanted.host_interface} is gone"
        with inside(wanted.netns) as pod:
            index = index_of(pod, wanted.interface)
            if index is None:
                return f"there is no interface {wanted.interface} in {wanted.netns}"
            held = [attribute(message, "IFA_LOCAL") for message in pod.get_addr(index=index)]
            if wanted.address not in held:
                return f"{wanted.interface} does not carry {wanted.address}"
            if not list(pod.get_routes(family=2, dst_len=0)):
                return "the pod has no default route"
        return ""

    return await links.thread.call(work)

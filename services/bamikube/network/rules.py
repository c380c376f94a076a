"""The netfilter table of the network agent: host ports, and the way out of the cluster. Pure.

Pods that talk to the world outside do so with the node's address: nobody out there knows a way back to a pod's. A host
port is one element of a map; the pod answers itself.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from bamikube.netlink import statements as nft
from bamikube.netlink.tables import ADDRESS, PROTO, SERVICE, Chain, Hook, Set, Table
from bamikube.network.addresses import Attachment

TABLE = "bamikube-network"


def rules(cidr: str, cluster: str, attachments: Iterable[Attachment]) -> Table:
    """The whole table for a node with pod CIDR ``cidr`` in a cluster whose pods live in ``cluster``."""
    anywhere: dict[bytes, bytes] = {}
    at_address: dict[bytes, bytes] = {}
    hairpin: dict[bytes, None] = {}
    for attachment in attachments:
        for port in attachment.ports:
            pod = socket.inet_aton(attachment.address)
            key = struct.pack(">BxxxHxx", nft.PROTOCOLS[port.protocol], port.port)
            value = pod + struct.pack(">HH", port.target, 0)
            if port.address:
                at_address[socket.inet_aton(port.address) + key] = value
            else:
                anywhere[key] = value
            hairpin[pod * 2] = None
    sets = [
        Set("hostports", (PROTO, SERVICE), (ADDRESS, SERVICE), elements=anywhere),
        Set("hostports-at", (ADDRESS, PROTO, SERVICE), (ADDRESS, SERVICE), elements=at_address),
        Set("hairpin", (ADDRESS, ADDRESS), elements=hairpin),
    ]
    to_node = (nft.destination_is_local(), nft.destination_in("127.0.0.0/8", negate=True))
    # one step behind the proxy's chains: where a node port and a host port are the same number, the node port wins
    chains = [
        Chain("nat-prerouting", ((nft.jump("hostports"),),), Hook("nat", "prerouting", -95)),
        Chain("nat-output", ((nft.jump("hostports"),),), Hook("nat", "output", -95)),
        Chain(
            "hostports",
            (
                (nft.dnat_by_map((nft.DESTINATION, nft.PROTOCOL, nft.PORT), "hostports-at"),),
                (*to_node, nft.dnat_by_map((nft.PROTOCOL, nft.PORT), "hostports")),
            ),
        ),
        Chain(
            "nat-postrouting",
            (
                (
                    # Only what came back to its sender by way of a service: a node that speaks to itself directly
                    # must keep its addresses.
                    nft.destination_was_changed(),
                    nft.in_set((nft.SOURCE, nft.DESTINATION), "hairpin"),
                    nft.masquerade(fully_random=True),
                ),
                (
                    nft.source_in(cidr),
                    nft.destination_in(cluster, negate=True),
                    nft.destination_in("224.0.0.0/4", negate=True),
                    nft.masquerade(fully_random=True),
                ),
            ),
            Hook("nat", "postrouting", 105),
        ),
    ]
    return Table(TABLE, {part.name: part for part in sets}, {chain.name: chain for chain in chains})

"""One pod CIDR per node, cut from the cluster's.

The allocation is read off the nodes themselves: what a node carries in ``spec.podCIDR`` is taken, and nothing else
has to be remembered. Only the leader allocates, one node at a time, and it lists the nodes afresh before it does: the
copy of a new leader may lack what the old one wrote last, and two nodes must never get the same piece.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.controllers.shared import Controller, Shared, enqueue

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The CIDR a node gets, or why it gets none."""

    cidr: str = ""
    reason: str = ""


def allocate(cluster_cidr: str, mask: int, taken: Iterable[str]) -> Verdict:
    """The first free piece of ``cluster_cidr`` with ``mask`` bits that overlaps nothing in ``taken``."""
    network = ipaddress.ip_network(cluster_cidr)
    used = {ipaddress.ip_network(text, strict=False) for text in taken if text}
    used = {net for net in used if net.version == network.version}
    same = {net for net in used if net.prefixlen == mask}
    others = [net for net in used if net.prefixlen != mask]
    for piece in network.subnets(new_prefix=mask):
        if piece not in same and not any(piece.overlaps(net) for net in others):
            return Verdict(cidr=str(piece))
    return Verdict(reason=f"no free /{mask} is left in the cluster CIDR {cluster_cidr}")


class NodeIpamController(Controller):
    name = "node-ipam-controller"
    reports_as = "cidrAllocator"
    workers = 1  # one at a time is what makes an allocation unique

    def __init__(self, shared: Shared, cluster_cidr: str, mask: int) -> None:
        super().__init__(shared)
        self.cluster_cidr = cluster_cidr
        self.mask = mask
        self.nodes = shared.informers.of("nodes")
        self.nodes.on_change(enqueue(self))
        self._given: dict[str, str] = {}  # what we wrote and may not have seen come back

    async def sync(self, key: str) -> float | None:
        await self.nodes.synced.wait()
        node = self.nodes.get(key)
        if node is None:
            self._given.pop(key, None)
            return None
        if (node.get("spec") or {}).get("podCIDR"):
            self._given.pop(key, None)
            return None
        live = (await self.client.list("nodes")).get("items") or []
        taken = set(self._given.values())
        for other in live:
            spec = other.get("spec") or {}
            taken |= {spec.get("podCIDR") or "", *(spec.get("podCIDRs") or [])}
        verdict = (
            Verdict(self._given[key]) if key in self._given else allocate(self.cluster_cidr, self.mask, taken)
        )
        if not verdict.cidr:
            self.record(node, "Warning", "CIDRNotAvailable", verdict.reason)
            return 30.0
        self._given[key] = verdict.cidr
        try:
            patch = {"spec": {"podCIDR": verdict.cidr, "podCIDRs": [verdict.cidr]}}
            await self.client.patch("nodes", key, patch, kind="strategic")
        except ApiError as error:
            if error.code == 404:
                self._given.pop(key, None)
                return None
            if error.code in (409, 422):
                # The node has got another one meanwhile, which its next event will show.
                self._given.pop(key, None)
            raise
        return None

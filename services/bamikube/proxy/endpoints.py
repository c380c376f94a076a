"""Which endpoints a service port uses, and why.

The rules are Kubernetes': ready endpoints; where none is ready, those that still serve while they terminate (KEP-1669);
of these, for a ``Local`` policy, the node's own (KEP-2086), with the same fallback; and with topology hints on every
endpoint, those kept for the node's zone (KEP-2433).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bamikube.proxy.model import Endpoint, Port, Slice

Target = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Targets for the ``Cluster`` and the ``Local`` policy, sorted. ``reason`` says how ``cluster`` came about."""

    cluster: tuple[Target, ...]
    local: tuple[Target, ...]
    reason: str = "Ready"


def choose(port: Port, slices: Iterable[Slice], node: str, zone: str = "") -> Chosen:
    """The endpoints of ``port`` as seen from ``node``."""
    found: dict[Target, Endpoint] = {}
    for part in slices:
        for name, protocol, number in part.ports:
            if name == port.name and protocol == port.protocol:
                for endpoint in part.endpoints:
                    target = (endpoint.address, number)
                    held = found.get(target)
                    # one address may stand in two slices while it moves between them
                    if held is None or (endpoint.ready and not held.ready):
                        found[target] = endpoint
    ready = [target for target, endpoint in found.items() if endpoint.ready]
    reason = "Ready"
    cluster = ready
    if not ready:
        cluster = [target for target, endpoint in found.items() if endpoint.serving and endpoint.terminating]
        reason = "Terminating" if cluster else "NoEndpoints"
    elif zone and all(found[target].zones for target in ready):
        near = [target for target in ready if zone in found[target].zones]
        if near:
            cluster, reason = near, "SameZone"
    local = [target for target in ready if found[target].node == node]
    if not local:
        local = [
            target
            for target, endpoint in found.items()
            if endpoint.node == node and endpoint.serving and endpoint.terminating
        ]
    return Chosen(tuple(sorted(cluster)), tuple(sorted(local)), reason)

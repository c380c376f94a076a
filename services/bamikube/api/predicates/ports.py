"""Ports of the node that a pod occupies. Two pods clash when protocol and port agree and the addresses overlap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# Address, protocol, port.
HostPort = tuple[str, str, int]


def host_ports(pod: Mapping[str, Any]) -> tuple[HostPort, ...]:
    """Every node port of the pod's containers and sidecars; all addresses are written ``0.0.0.0``."""
    spec = pod.get("spec") or {}
    sidecars = [c for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    found: dict[HostPort, None] = {}
    for container in [*(spec.get("containers") or []), *sidecars]:
        for port in container.get("ports") or []:
            number = int(
                port.get("hostPort") or (port.get("containerPort") if spec.get("hostNetwork") else 0) or 0
            )
            if number > 0:
                address = port.get("hostIP") or "0.0.0.0"
                found[("0.0.0.0" if address == "::" else address, port.get("protocol") or "TCP", number)] = (
                    None
                )
    return tuple(found)


def clash(wanted: Iterable[HostPort], taken: Iterable[HostPort]) -> bool:
    """Whether any wanted port is taken."""
    held = list(taken)
    return any(
        port == other
        and protocol == other_protocol
        and (address in ("0.0.0.0", other_address) or other_address == "0.0.0.0")
        for address, protocol, port in wanted
        for other_address, other_protocol, other in held
    )

"""Ranges of service addresses: which addresses a ServiceCIDR can give, and whether it gives any at present.

The network's own address, and of an IPv4 network its broadcast address, are never given to a service, so that a
service cannot belong to a range through one of those two.

Source: KEP-1880 (multiple service CIDRs), the ServiceCIDR and IPAddress API.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any

from bamikube.api.predicates import conditions

Object = dict[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

DEFAULT = "kubernetes"  # the ServiceCIDR of --service-cluster-ip-range
FINALIZER = "networking.k8s.io/service-cidr-finalizer"
READY = "Ready"
# Labels of the IPAddresses that services hold.
FAMILY_LABEL = "ipaddress.kubernetes.io/ip-family"
MANAGED_BY_LABEL = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"


@lru_cache(4096)
def address(text: str) -> Address:
    """The address behind a text. Raises ValueError. Remembered: one is looked at a dozen times when it is given."""
    return ipaddress.ip_address(text)


@lru_cache(256)
def _network(text: str) -> Network:
    return ipaddress.ip_network(text)


def networks(service_cidr: Object) -> list[Network]:
    """The networks of a ServiceCIDR; what cannot be read is left out."""
    found: list[Network] = []
    for text in (service_cidr.get("spec") or {}).get("cidrs") or ():
        try:
            found.append(_network(text))
        except ValueError:
            continue
    return found


def gives(network: Network, ip: Address) -> bool:
    """Whether ``ip`` is one that a service can be given out of ``network``."""
    if ip.version != network.version or ip not in network or ip == network.network_address:
        return False
    return ip.version == 6 or ip != network.broadcast_address


def holds(service_cidr: Object, ip: Address) -> bool:
    """Whether one of a ServiceCIDR's networks can give ``ip``."""
    return any(gives(network, ip) for network in networks(service_cidr))


def overlap(one: Object, other: Object) -> bool:
    """Whether two ServiceCIDRs have addresses in common."""
    return any(
        mine.version == theirs.version and mine.overlaps(theirs)
        for mine in networks(one)
        for theirs in networks(other)
    )


def is_going(service_cidr: Object) -> bool:
    return "deletionTimestamp" in service_cidr["metadata"]


def is_ready(service_cidr: Object) -> bool:
    """Whether services may be given its addresses. One that nobody has judged yet counts as ready, so that services
    can be created while no controller runs."""
    condition = conditions.find(service_cidr, READY)
    return not is_going(service_cidr) and (condition is None or condition.get("status") == "True")


def is_allocated(ip_address: Object) -> bool:
    """Whether an IPAddress was made for a service."""
    labels = ip_address["metadata"].get("labels") or {}
    return bool(labels.get(MANAGED_BY_LABEL) == ALLOCATOR)


def address_of(ip_address: Object) -> Address | None:
    """The address an IPAddress is called after."""
    try:
        return address(ip_address["metadata"]["name"])
    except ValueError:
        return None


def family(ip: Address | Network) -> str:
    return "IPv4" if ip.version == 4 else "IPv6"

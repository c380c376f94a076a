"""What is wrong between services and the records of what they hold, and what puts it right. Pure.

Service and IPAddress name each other, and are written in one transaction. A difference means that somebody wrote one of
them by himself: an IPAddress was deleted by hand, a backup was put back. Each finding says what to do and what to tell.

Source: KEP-1880; Kubernetes' ipallocator-repair-controller and portallocator-repair-controller (behaviour).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from bamikube.api.predicates.servicecidrs import (
    FAMILY_LABEL,
    Network,
    address_of,
    family,
    is_allocated,
)
from bamikube.api.predicates.servicecidrs import address as parsed
from bamikube.api.times import seconds
from bamikube.apiserver.allocators import ports
from bamikube.apiserver.allocators.services import held_addresses

Object = dict[str, Any]
AddressBook = Callable[[str], Object | None]  # the IPAddress of a canonical address
ServiceBook = Callable[[str, str], Object | None]  # the service of a namespace and a name

GRACE = 60.0  # seconds for which an address may be without its service
_OF_CLUSTER_IP, _OF_ADDRESS, _OF_PORT = "ClusterIPAllocation", "IPAddressAllocation", "PortAllocation"


@dataclass(frozen=True, slots=True)
class Finding:
    """``action`` is create (also in place of what is there), delete or "" (only a person can put it right); ``value`` the
    address or port; ``event`` what to tell of the object: reason, action, note; ``again`` seconds until the next look.
    """

    action: str
    value: str
    event: tuple[str, str, str] | None = None
    again: float | None = None


def of_service(
    service: Object, address: AddressBook, service_of: ServiceBook, networks: Iterable[Network]
) -> list[Finding]:
    """What is wrong with the cluster IPs of a service."""
    findings: list[Finding] = []
    known = list(networks)
    for written in held_addresses(service.get("spec") or {}):
        ip = parsed(written)
        shown = f"[{family(ip)}]: {ip}"
        if not any(ip in network for network in known):
            note = f"Cluster IP {shown} is not within any configured Service CIDR; please recreate service"
            findings.append(Finding("", str(ip), ("ClusterIPOutOfRange", _OF_CLUSTER_IP, note)))
            continue
        found = _of_record(service, address(str(ip)), service_of, shown)
        if found is not None:
            findings.append(Finding(found[0], str(ip), found[1]))
    return findings


def _of_record(
    service: Object, record: Object | None, service_of: ServiceBook, shown: str
) -> tuple[str, tuple[str, str, str] | None] | None:
    reason = "ClusterIPNotAllocated"
    if record is None:
        note = f"Cluster IP {shown} is not allocated; repairing"
        return "create", (reason, _OF_CLUSTER_IP, note)
    metadata = service["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    wrong = f"the ClusterIP {shown} for Service {namespace}/{name} has a wrong reference; repairing"
    parent = (record.get("spec") or {}).get("parentRef") or {}
    if not _is_service(parent):
        return "create", (reason, _OF_CLUSTER_IP, wrong)
    if (parent.get("namespace", ""), parent.get("name")) != (namespace, name):
        other = service_of(parent.get("namespace", ""), parent.get("name", ""))
        if other is None or not _holds(other, record):
            return "create", (reason, _OF_CLUSTER_IP, wrong)
        note = f"Cluster IP {shown.replace(': ', ':')} was assigned to multiple services; please recreate service"
        return "", ("ClusterIPAlreadyAllocated", _OF_CLUSTER_IP, note)
    ip = address_of(record)
    labels = record["metadata"].get("labels") or {}
    if not is_allocated(record) or ip is None or labels.get(FAMILY_LABEL) != family(ip):
        return "create", None
    return None


def of_address(record: Object, service_of: ServiceBook, now: float) -> Finding | None:
    """What is wrong with an IPAddress. Those that were not made for services are their makers' business."""
    if not is_allocated(record):
        return None
    name = record["metadata"]["name"]
    parent = (record.get("spec") or {}).get("parentRef") or {}
    if not _is_service(parent):
        shown = " ".join(parent.get(field, "") for field in ("group", "resource", "namespace", "name"))
        note = f"IPAddress {name} appears to have been modified, not referencing a Service &{{{shown}}}: cleaning up"
        return Finding("delete", name, ("IPAddressNotAllocated", _OF_ADDRESS, note))
    holder = f"{parent.get('namespace', '')}/{parent.get('name', '')}"
    service = service_of(parent.get("namespace", ""), parent.get("name", ""))
    if service is None:
        left = GRACE - (now - seconds(record["metadata"].get("creationTimestamp")))
        if left > 0:
            return Finding("", name, again=left)
        note = f"IPAddress: {name} for Service {holder} appears to have leaked: cleaning up"
        return Finding("delete", name, ("IPAddressNotAllocated", _OF_ADDRESS, note))
    if _holds(service, record):
        return None
    note = f"IPAddress: {name} for Service {holder} has a wrong reference; cleaning up"
    return Finding("delete", name, ("IPAddressWrongReference", _OF_ADDRESS, note))


def of_ports(
    services: Iterable[Object], recorded: Collection[int], first: int, last: int
) -> list[tuple[Object, Finding]]:
    """What is wrong with the node ports of all services; ``recorded``: those that have a record.

    The service of a finding is its own; for a record that nobody needs it is empty.
    """
    findings: list[tuple[Object, Finding]] = []
    holders: dict[int, Object] = {}
    for service in services:
        for port in ports.held(service.get("spec") or {}):
            reason = note = ""
            if not first <= port <= last:
                reason = "PortOutOfRange"
                note = f"Port {port} is not within the port range {first}-{last}; please recreate service"
            elif port in holders:
                reason = "PortAlreadyAllocated"
                note = f"Port {port} was assigned to multiple services; please recreate service"
            elif port not in recorded:
                reason, note = "PortNotAllocated", f"Port {port} is not allocated; repairing"
            holders.setdefault(port, service)
            if reason:
                action = "create" if reason == "PortNotAllocated" else ""
                findings.append((service, Finding(action, str(port), (reason, _OF_PORT, note))))
    findings += [({}, Finding("delete", str(port))) for port in recorded if port not in holders]
    return findings


def _is_service(parent: Object) -> bool:
    return not parent.get("group") and parent.get("resource") == "services"


def _holds(service: Object, record: Object) -> bool:
    name = record["metadata"]["name"]
    held = held_addresses(service.get("spec") or {})
    return any(str(parsed(ip)) == name for ip in held)

"""What DNS keeps of services, slices and pods: names and addresses, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

SERVICE_NAME = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Port:
    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Service:
    """``addresses`` empty and no ``external``: headless."""

    key: str
    addresses: tuple[str, ...]
    ports: tuple[Port, ...]
    external: str = ""
    publish_not_ready: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    address: str
    hostname: str
    ready: bool


@dataclass(frozen=True, slots=True)
class Slice:
    key: str
    service: str
    ports: tuple[Port, ...]
    endpoints: tuple[Endpoint, ...]


def service_of(obj: Object) -> Service:
    meta, spec = obj["metadata"], obj.get("spec") or {}
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or "None"]
    external = spec.get("externalName") or "" if spec.get("type") == "ExternalName" else ""
    return Service(
        f"{meta['namespace']}/{meta['name']}",
        () if external else tuple(address for address in addresses if address and address != "None"),
        tuple(
            Port(port.get("name") or "", (port.get("protocol") or "TCP").lower(), int(port["port"]))
            for port in spec.get("ports") or ()
        ),
        external,
        bool(spec.get("publishNotReadyAddresses")),
    )


def slice_of(obj: Object) -> Slice | None:
    meta = obj["metadata"]
    service = (meta.get("labels") or {}).get(SERVICE_NAME)
    if not service or obj.get("addressType") not in ("IPv4", "IPv6"):
        return None
    return Slice(
        f"{meta['namespace']}/{meta['name']}",
        f"{meta['namespace']}/{service}",
        tuple(
            Port(port.get("name") or "", (port.get("protocol") or "TCP").lower(), int(port["port"]))
            for port in obj.get("ports") or ()
            if port.get("port")
        ),
        tuple(
            Endpoint(
                entry["addresses"][0], entry.get("hostname") or "", _ready(entry.get("conditions") or {})
            )
            for entry in obj.get("endpoints") or ()
            if entry.get("addresses")
        ),
    )


def _ready(conditions: Object) -> bool:
    ready = conditions.get("ready")
    return True if ready is None else bool(ready)


def namespace_of(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def pod_of(obj: Object) -> tuple[str, str] | None:
    """(namespace, address) of a running pod with an address of its own."""
    status = obj.get("status") or {}
    address = status.get("podIP")
    if (
        not address
        or (obj.get("spec") or {}).get("hostNetwork")
        or status.get("phase") in ("Succeeded", "Failed")
    ):
        return None
    return obj["metadata"]["namespace"], address

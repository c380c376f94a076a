"""What the proxy keeps of a Service and of an EndpointSlice: only what decides where packets go."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

SERVICE_NAME = "kubernetes.io/service-name"
_PROXY_NAME = "service.kubernetes.io/service-proxy-name"
_HEADLESS = "service.kubernetes.io/headless"


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a service. ``node_port`` 0: none."""

    name: str
    protocol: str
    port: int
    node_port: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """``affinity`` is the session affinity in seconds, 0 for none."""

    key: str
    cluster_ips: tuple[str, ...]
    ports: tuple[Port, ...]
    external_ips: tuple[str, ...] = ()
    balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    affinity: int = 0
    internal_local: bool = False
    external_local: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address behind a service. ``zones``: the zones that topology hints keep it for."""

    address: str
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """An EndpointSlice: every endpoint has every port."""

    key: str
    service: str
    ports: tuple[tuple[str, str, int], ...]  # name, protocol, number
    endpoints: tuple[Endpoint, ...]


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def service_of(obj: Object) -> Service | None:
    """The service, or None where the proxy has nothing to do: headless, ExternalName, another proxy's, IPv6 only."""
    meta, spec = obj["metadata"], obj.get("spec") or {}
    labels = meta.get("labels") or {}
    if _PROXY_NAME in labels or _HEADLESS in labels or spec.get("type") == "ExternalName":
        return None
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    cluster_ips = tuple(address for address in addresses if _is_ipv4(address))
    if not cluster_ips:
        return None
    ports = tuple(
        Port(
            port.get("name") or "",
            port.get("protocol") or "TCP",
            int(port["port"]),
            int(port.get("nodePort") or 0),
        )
        for port in spec.get("ports") or ()
    )
    affinity = 0
    if spec.get("sessionAffinity") == "ClientIP":
        config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        affinity = int(config.get("timeoutSeconds") or 10800)
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return Service(
        key=f"{meta['namespace']}/{meta['name']}",
        cluster_ips=cluster_ips,
        ports=ports,
        external_ips=tuple(sorted(address for address in spec.get("externalIPs") or () if _is_ipv4(address))),
        balancer_ips=tuple(
            sorted(
                entry["ip"]
                for entry in ingress
                if _is_ipv4(entry.get("ip") or "") and entry.get("ipMode", "VIP") == "VIP"
            )
        ),
        source_ranges=_ranges(spec),
        affinity=affinity,
        internal_local=spec.get("internalTrafficPolicy") == "Local",
        external_local=spec.get("externalTrafficPolicy") == "Local",
    )


def _ranges(spec: Object) -> tuple[str, ...]:
    found = []
    for text in spec.get("loadBalancerSourceRanges") or ():
        try:
            found.append(str(ipaddress.IPv4Network(text.strip(), strict=False)))
        except ValueError:
            continue  # an IPv6 range says nothing about IPv4 clients
    return tuple(sorted(found))


def slice_of(obj: Object) -> Slice | None:
    """The slice, or None for one that is not IPv4 or belongs to no service."""
    meta = obj["metadata"]
    name = (meta.get("labels") or {}).get(SERVICE_NAME)
    if not name or obj.get("addressType") != "IPv4":
        return None
    ports = tuple(
        (port.get("name") or "", port.get("protocol") or "TCP", int(port["port"]))
        for port in obj.get("ports") or ()
        if port.get("port")
    )
    endpoints = []
    for entry in obj.get("endpoints") or ():
        conditions = entry.get("conditions") or {}
        ready = conditions.get("ready")
        ready = True if ready is None else bool(ready)
        serving = conditions.get("serving")
        zones = tuple(zone["name"] for zone in (entry.get("hints") or {}).get("forZones") or ())
        for address in (entry.get("addresses") or ())[
            :1
        ]:  # the rest is reserved, and consumers must ignore it
            endpoints.append(
                Endpoint(
                    address,
                    entry.get("nodeName") or "",
                    ready,
                    ready if serving is None else bool(serving),
                    bool(conditions.get("terminating")),
                    zones,
                )
            )
    return Slice(
        f"{meta['namespace']}/{meta['name']}", f"{meta['namespace']}/{name}", ports, tuple(endpoints)
    )

"""Rules of endpoints and endpoint slices."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1123_label, is_dns1123_subdomain
from bamikube.api.validation.containers import PROTOCOLS
from bamikube.api.validation.rules import (
    duplicate,
    invalid,
    ip,
    ip_of,
    named,
    one_of,
    port_number,
    required,
    too_many,
)

_LINK_LOCAL = ("169.254.0.0/16", "fe80::/10")
_LINK_LOCAL_GROUPS = ("224.0.0.0/24", "ff02::/16")


def endpoint_address(field: str, text: str) -> list[Cause]:
    """An address traffic may be sent to: not loopback, link-local or unspecified."""
    found = ip_of(text)
    if found is None:
        return ip(field, text)
    found = getattr(found, "ipv4_mapped", None) or found
    if found.is_unspecified:
        return [invalid(field, text, f"may not be unspecified ({text})")]
    if found.is_loopback:
        return [invalid(field, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if _within(found, _LINK_LOCAL):
        return [invalid(field, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    if _within(found, _LINK_LOCAL_GROUPS):
        return [
            invalid(field, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
        ]
    return []


def _within(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, ranges: tuple[str, str]) -> bool:
    return ip in ipaddress.ip_network(ranges[ip.version == 6])


def _endpoint_ports(field: str, ports: list[dict[str, Any]], name_needed: bool) -> list[Cause]:
    causes: list[Cause] = []
    for index, port in enumerate(ports):
        path = f"{field}[{index}]"
        causes += named(f"{path}.name", port.get("name"), is_dns1123_label, needed=name_needed)
        causes += port_number(f"{path}.port", port.get("port", 0))
        causes += one_of(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
    return causes


def _endpoints(obj: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    for index, subset in enumerate(obj.get("subsets") or ()):
        path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            causes.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for kind in ("addresses", "notReadyAddresses"):
            for place, address in enumerate(subset.get(kind) or ()):
                where = f"{path}.{kind}[{place}]"
                causes += endpoint_address(f"{where}.ip", address.get("ip") or "")
                causes += named(f"{where}.hostname", address.get("hostname"), is_dns1123_label, needed=False)
        ports = subset.get("ports") or []
        causes += _endpoint_ports(f"{path}.ports", ports, len(ports) > 1)
    return causes


_SLICE_ENDPOINTS, _SLICE_PORTS, _SLICE_ADDRESSES = 1000, 100, 100


def _endpoint_slice(obj: dict[str, Any]) -> list[Cause]:
    kind = obj.get("addressType") or ""
    causes = one_of("addressType", kind, ("FQDN", "IPv4", "IPv6"))
    endpoints, ports = obj.get("endpoints") or [], obj.get("ports") or []
    if len(endpoints) > _SLICE_ENDPOINTS:
        causes.append(too_many("endpoints", len(endpoints), _SLICE_ENDPOINTS))
    for index, endpoint in enumerate(endpoints[:_SLICE_ENDPOINTS]):
        path = f"endpoints[{index}]"
        addresses = endpoint.get("addresses") or []
        if not addresses:
            causes.append(required(f"{path}.addresses", "must contain at least 1 address"))
        elif len(addresses) > _SLICE_ADDRESSES:
            causes.append(too_many(f"{path}.addresses", len(addresses), _SLICE_ADDRESSES))
        for place, address in enumerate(addresses):
            where = f"{path}.addresses[{place}]"
            if kind == "FQDN":
                causes += [invalid(where, address, message) for message in is_dns1123_subdomain(address)]
            else:
                wrong = endpoint_address(where, address)
                if not wrong and (":" in address) != (kind == "IPv6"):
                    wrong = [invalid(where, address, f"must be an {kind} address")]
                causes += wrong
        causes += named(f"{path}.hostname", endpoint.get("hostname"), is_dns1123_label, needed=False)
        causes += named(f"{path}.nodeName", endpoint.get("nodeName"), is_dns1123_subdomain, needed=False)
    if len(ports) > _SLICE_PORTS:
        causes.append(too_many("ports", len(ports), _SLICE_PORTS))
    names: set[str] = set()
    for index, port in enumerate(ports[:_SLICE_PORTS]):
        name = port.get("name") or ""
        causes += named(f"ports[{index}].name", name, is_dns1123_label, needed=False)
        if name in names:
            causes.append(duplicate(f"ports[{index}].name", name))
        names.add(name)
        causes += one_of(f"ports[{index}].protocol", port.get("protocol"), PROTOCOLS)
        if port.get("port") is not None:
            causes += port_number(f"ports[{index}].port", port["port"])
    return causes


def _endpoint_slice_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    if new.get("addressType") != old.get("addressType"):
        return [invalid("addressType", new.get("addressType"), "field is immutable")]
    return []


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("", "endpoints"): _endpoints,
    ("discovery.k8s.io", "endpointslices"): _endpoint_slice,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("discovery.k8s.io", "endpointslices"): _endpoint_slice_change,
}

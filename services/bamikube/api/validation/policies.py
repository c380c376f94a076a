"""Rules of network policies, and of the kinds that say which addresses services may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1123_subdomain, is_path_segment
from bamikube.api.validation.containers import PROTOCOLS, port_ref
from bamikube.api.validation.rules import (
    IMMUTABLE,
    canonical_cidr,
    cidr,
    forbidden,
    immutable,
    invalid,
    label_selector,
    named,
    network,
    one_of,
    required,
)


def _ports(field: str, ports: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    for index, port in enumerate(ports):
        path = f"{field}[{index}]"
        causes += one_of(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
        number, end = port.get("port"), port.get("endPort")
        if number is not None:
            causes += port_ref(f"{path}.port", number)
        if end is None:
            continue
        if number is None:
            detail = "may not be specified when `port` is not specified"
        elif isinstance(number, str):
            detail = "may not be specified when `port` is non-numeric"
        elif end < number:
            detail = "must be greater than or equal to `port`"
        elif end > 65535:
            detail = "must be between 1 and 65535, inclusive"
        else:
            continue
        causes.append(invalid(f"{path}.endPort", end, detail))
    return causes


def _block(path: str, block: dict[str, Any]) -> list[Cause]:
    text = block.get("cidr") or ""
    if not text:
        return [required(f"{path}.cidr")]
    causes = cidr(f"{path}.cidr", text)
    outer = network(text)
    if outer is None:
        return causes
    for index, text in enumerate(block.get("except") or ()):
        where, inner = f"{path}.except[{index}]", network(text)
        if inner is None:
            causes += cidr(where, text)
        elif (
            inner.version != outer.version or inner.prefixlen <= outer.prefixlen or not inner.overlaps(outer)
        ):
            causes.append(invalid(where, text, "must be a strict subset of `cidr`"))
    return causes


def _peer(path: str, peer: dict[str, Any]) -> list[Cause]:
    given = [kind for kind in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(kind) is not None]
    if not given:
        return [required(path, "must specify a peer")]
    if "ipBlock" in given:
        if len(given) > 1:
            return [forbidden(path, "may not specify both ipBlock and another peer")]
        return _block(f"{path}.ipBlock", peer["ipBlock"])
    causes: list[Cause] = []
    for kind in given:
        causes += label_selector(f"{path}.{kind}", peer[kind])
    return causes


def _network_policy(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = label_selector("spec.podSelector", spec.get("podSelector"))
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            path = f"spec.{direction}[{index}]"
            causes += _ports(f"{path}.ports", rule.get("ports") or [])
            for place, peer in enumerate(rule.get(peers) or ()):
                causes += _peer(f"{path}.{peers}[{place}]", peer)
    kinds = spec.get("policyTypes") or []
    if len(kinds) > 2:
        causes.append(invalid("spec.policyTypes", kinds, "may not specify more than two policyTypes"))
        return causes
    for index, kind in enumerate(kinds):
        causes += one_of(f"spec.policyTypes[{index}]", kind, ("Egress", "Ingress"))
    return causes


# --- addresses of services (KEP-1880) ------------------------------------------------------------------------------


def _ip_address(obj: dict[str, Any]) -> list[Cause]:
    ref, field = (obj.get("spec") or {}).get("parentRef"), "spec.parentRef"
    if ref is None:
        return [required(field)]
    causes = named(f"{field}.group", ref.get("group"), is_dns1123_subdomain, needed=False)
    for name in ("resource", "name"):
        causes += named(f"{field}.{name}", ref.get(name), is_path_segment)
    return causes + named(f"{field}.namespace", ref.get("namespace"), is_path_segment, needed=False)


def _ip_address_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    return immutable("spec.parentRef", after.get("parentRef"), before.get("parentRef"))


def _service_cidr(obj: dict[str, Any]) -> list[Cause]:
    ranges, field = (obj.get("spec") or {}).get("cidrs") or [], "spec.cidrs"
    if not ranges:
        return [required(field, "at least one CIDR required")]
    if len(ranges) > 2:
        return [invalid(field, {"CIDRs": ranges}, "may only hold up to 2 values")]
    causes: list[Cause] = []
    for index, text in enumerate(ranges):
        causes += canonical_cidr(f"{field}[{index}]", text)
    families = [found.version for found in map(network, ranges) if found is not None]
    if len(families) == 2 and families[0] == families[1]:
        detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        causes.append(invalid(field, ranges, detail))
    return causes


def _service_cidr_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """Ranges stay; one of the other family may be added to a single one."""
    after = (new.get("spec") or {}).get("cidrs") or []
    before = (old.get("spec") or {}).get("cidrs") or []
    if len(after) == len(before):
        return [
            invalid(f"spec.cidrs[{index}]", text, IMMUTABLE)
            for index, text in enumerate(after)
            if text != before[index]
        ]
    if len(before) == 1 and len(after) == 2:
        changed = [] if after[0] == before[0] else [invalid("spec.cidrs[0]", after[0], IMMUTABLE)]
        return changed + _service_cidr(new)
    return [invalid("spec.cidrs", after, IMMUTABLE)]


_GROUP = "networking.k8s.io"
CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    (_GROUP, "networkpolicies"): _network_policy,
}
ONLY_NEW: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    (_GROUP, "ipaddresses"): _ip_address,
    (_GROUP, "servicecidrs"): _service_cidr,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    (_GROUP, "ipaddresses"): _ip_address_change,
    (_GROUP, "servicecidrs"): _service_cidr_change,
}

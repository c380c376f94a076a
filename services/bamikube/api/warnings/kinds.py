"""Warnings about kinds that make no pods."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from bamikube.api.validation.rules import network
from bamikube.api.warnings.pods import NODE_LABELS, VOLUMES, fractional, selector_term

_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_STORAGE_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_HINTS = "service.kubernetes.io/topology-aware-hints"
_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"


def _annotations(obj: dict[str, Any]) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}


def address(field: str, text: str) -> list[str]:
    """An address that is not written the one canonical way."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return []
    mapped = getattr(found, "ipv4_mapped", None)
    if mapped is not None:
        return [
            f'{field}: non-standard IP address "{text}" will be considered invalid in a future Kubernetes release: '
            f'use "{mapped}"'
        ]
    if str(found) != text:
        return [f'{field}: IPv6 address "{text}" should be in RFC 5952 canonical format ("{found}")']
    return []


def address_range(field: str, text: str) -> list[str]:
    """A range whose address has bits beyond its prefix, or that is not written the one canonical way."""
    found = network(text)
    if found is None or str(found) == text:
        return []
    given = ipaddress.ip_address(text.partition("/")[0])
    mapped = getattr(given, "ipv4_mapped", None)
    shown = f"{mapped}/{max(found.prefixlen - 96, 0)}" if mapped is not None else str(found)
    warnings = []
    if given != found.network_address:
        whole = f"{mapped or given}/{32 if mapped is not None else found.max_prefixlen}"
        warnings.append(
            f'{field}: CIDR value "{text}" is ambiguous in this context (should be "{shown}" or "{whole}"?)'
        )
    if mapped is not None:
        warnings.append(
            f'{field}: non-standard CIDR value "{text}" will be considered invalid in a future Kubernetes release: '
            f'use "{shown}"'
        )
    if not warnings:
        warnings.append(
            f'{field}: IPv6 CIDR value "{text}" should be in RFC 5952 canonical format ("{shown}")'
        )
    return warnings


def _service(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    spec = new.get("spec") or {}
    found: list[str] = []
    if _HINTS in _annotations(new):
        found.append(
            f"annotation {_HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        )
    if spec.get("clusterIP") == "None":
        if spec.get("loadBalancerIP"):
            found.append("spec.loadBalancerIP is ignored for headless services")
        if spec.get("externalIPs"):
            found.append("spec.externalIPs is ignored for headless services")
        if spec.get("sessionAffinity", "None") != "None":
            found.append("spec.SessionAffinity is ignored for headless services")
    else:
        for index, text in enumerate(spec.get("clusterIPs") or ()):
            found += address(f"spec.clusterIPs[{index}]", text)
    for index, text in enumerate(spec.get("externalIPs") or ()):
        found += address(f"spec.externalIPs[{index}]", text)
    for index, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        found += address_range(f"spec.loadBalancerSourceRanges[{index}]", text)
    if spec.get("loadBalancerIP"):
        found += address("spec.loadBalancerIP", spec["loadBalancerIP"])
    if spec.get("type") == "ExternalName":
        if spec.get("externalIPs"):
            found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    elif spec.get("externalName"):
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    return found


def _ingress(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    if old is None and _CLASS_ANNOTATION in _annotations(new):
        return [
            f"annotation \"{_CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"
        ]
    return []


def _network_policy(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    found: list[str] = []
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate((new.get("spec") or {}).get(direction) or ()):
            for place, peer in enumerate(rule.get(peers) or ()):
                block = peer.get("ipBlock")
                if block is None:
                    continue
                path = f"spec.{direction}[{index}].{peers}[{place}].ipBlock"
                found += address_range(f"{path}.cidr", block.get("cidr") or "")
                for position, text in enumerate(block.get("except") or ()):
                    found += address_range(f"{path}.except[{position}]", text)
    return found


def _old_class(obj: dict[str, Any]) -> list[str]:
    if _STORAGE_ANNOTATION not in _annotations(obj):
        return []
    field = f"metadata.annotations[{_STORAGE_ANNOTATION}]"
    return [f'{field}: deprecated since v1.8; use "storageClassName" attribute instead']


def _volume(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    spec = new.get("spec") or {}
    found = _old_class(new)
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        found.append(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended "
            "approach is to use dynamic provisioning."
        )
    found += [f"spec.{kind}: {text}" for kind, text in VOLUMES.items() if spec.get(kind) is not None]
    terms = ((spec.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or ()
    for index, term in enumerate(terms):
        found += selector_term(f"spec.nodeAffinity.required.nodeSelectorTerms[{index}]", term)
    return found + fractional("spec.capacity[storage]", (spec.get("capacity") or {}).get("storage"))


def _claim(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    found = _old_class(new)
    resources = (new.get("spec") or {}).get("resources") or {}
    for kind in ("limits", "requests"):
        found += fractional(f"spec.resources.{kind}[storage]", (resources.get(kind) or {}).get("storage"))
    return found


def _storage_class(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    return [
        f"allowedTopologies[{index}].matchLabelExpressions[{place}].key: {each['key']} is {NODE_LABELS[each['key']]}"
        for index, term in enumerate(new.get("allowedTopologies") or ())
        for place, each in enumerate(term.get("matchLabelExpressions") or ())
        if each.get("key") in NODE_LABELS
    ]


def _node(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    spec = new.get("spec") or {}
    found: list[str] = []
    if spec.get("configSource") is not None:
        found.append("spec.configSource: the feature is removed")
    if spec.get("externalID"):
        found.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
    return found


def _service_account(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    if _MOUNTABLE not in _annotations(new) or (old is not None and _MOUNTABLE in _annotations(old)):
        return []
    field = f"metadata.annotations[{_MOUNTABLE}]"
    return [f"{field}: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"]


WARN: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any] | None], list[str]]] = {
    ("", "nodes"): _node,
    ("", "persistentvolumeclaims"): _claim,
    ("", "persistentvolumes"): _volume,
    ("", "serviceaccounts"): _service_account,
    ("", "services"): _service,
    ("networking.k8s.io", "ingresses"): _ingress,
    ("networking.k8s.io", "networkpolicies"): _network_policy,
    ("storage.k8s.io", "storageclasses"): _storage_class,
}

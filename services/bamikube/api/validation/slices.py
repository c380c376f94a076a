"""Rules of slices: the devices that a node, or all nodes, can give to pods.

Source: the API reference (resource.k8s.io/v1), KEP-4381.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_c_identifier, is_dns1123_label, is_dns1123_subdomain
from bamikube.api.validation.devices import pool_name
from bamikube.api.validation.pod import node_selector_term
from bamikube.api.validation.rules import duplicate, immutable, invalid, named, required, too_long, too_many

MOST_DEVICES = 128
MOST_ENTRIES = 32  # attributes and capacities of a device
LONGEST_VALUE, LONGEST_DOMAIN, LONGEST_IDENTIFIER = 64, 63, 32

_VALUES = ("bool", "int", "string", "version")
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
_PLACES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")


def _slice(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = named("spec.driver", spec.get("driver"), is_dns1123_subdomain)
    pool = spec.get("pool") or {}
    causes += pool_name("spec.pool.name", pool.get("name") or "")
    if (count := pool.get("resourceSliceCount", 0)) <= 0:
        causes.append(invalid("spec.pool.resourceSliceCount", count, "must be greater than zero"))
    if (generation := pool.get("generation", 0)) < 0:
        detail = "must be greater than or equal to zero"
        causes.append(invalid("spec.pool.generation", generation, detail))
    causes += _where(spec)
    devices = spec.get("devices") or []
    if len(devices) > MOST_DEVICES:
        causes.append(too_many("spec.devices", len(devices), MOST_DEVICES))
    names: set[str] = set()
    for index, device in enumerate(devices[:MOST_DEVICES]):
        name = device.get("name") or ""
        causes += _device(f"spec.devices[{index}]", device)
        if name in names:
            causes.append(duplicate(f"spec.devices[{index}].name", name))
        names.add(name)
    return causes


def _where(spec: dict[str, Any]) -> list[Cause]:
    """The nodes that have the devices: said in one of four ways."""
    causes: list[Cause] = []
    if spec.get("nodeName") == "":
        causes.append(invalid("spec.nodeName", "", "must be either unset or set to a non-empty string"))
    causes += named("spec.nodeName", spec.get("nodeName"), is_dns1123_subdomain, needed=False)
    selector = spec.get("nodeSelector")
    if selector is not None:
        terms = selector.get("nodeSelectorTerms") or []
        field = "spec.nodeSelector.nodeSelectorTerms"
        for index, term in enumerate(terms):
            causes += node_selector_term(f"{field}[{index}]", term)
        if len(terms) != 1:
            causes.append(invalid(field, terms, "must have exactly one node selector term"))
    for name in ("allNodes", "perDeviceNodeSelection"):
        if spec.get(name) is False:
            causes.append(invalid(f"spec.{name}", False, "must be either unset or set to true"))
    said = [f"`{name}`" for name in _PLACES if spec.get(name) not in (None, "", False)]
    detail = f"exactly one of {', '.join(f'`{name}`' for name in _PLACES)} is required"
    if not said:
        causes.append(required("spec", detail))
    elif len(said) > 1:
        causes.append(invalid("spec", f"{{{', '.join(said)}}}", f"{detail}, but multiple fields are set"))
    return causes


def _device(field: str, device: dict[str, Any]) -> list[Cause]:
    causes = named(f"{field}.name", device.get("name"), is_dns1123_label)
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    if (count := len(attributes) + len(capacity)) > MOST_ENTRIES:
        detail = f"the total number of attributes and capacities must not exceed {MOST_ENTRIES}"
        causes.append(invalid(field, count, detail))
    for name, attribute in attributes.items():
        causes += _qualified(f"{field}.attributes", name) + _attribute(
            f"{field}.attributes[{name}]", attribute
        )
    for name in capacity:
        causes += _qualified(f"{field}.capacity", name)
    return causes


def _qualified(field: str, name: str) -> list[Cause]:
    """``identifier`` or ``domain/identifier``."""
    if not name:
        return [required(field, "name required")]
    domain, slash, identifier = name.rpartition("/")
    causes: list[Cause] = []
    if slash:
        if not domain:
            causes.append(required(field, "the domain must not be empty"))
        else:
            causes += [too_long(field, LONGEST_DOMAIN)] if len(domain) > LONGEST_DOMAIN else []
            causes += [invalid(field, domain, message) for message in is_dns1123_subdomain(domain)]
    if not identifier:
        return [*causes, required(field, "the name must not be empty")]
    causes += [too_long(field, LONGEST_IDENTIFIER)] if len(identifier) > LONGEST_IDENTIFIER else []
    return causes + [invalid(field, identifier, message) for message in is_c_identifier(identifier)]


def _attribute(field: str, attribute: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    said = [name for name in _VALUES if attribute.get(name) is not None]
    version = attribute.get("version")
    if version is not None and not _SEMVER.fullmatch(version):
        detail = "must be a string compatible with semver.org spec 2.0.0"
        causes.append(invalid(f"{field}.version", version, detail))
    for name in ("string", "version"):
        if len((attribute.get(name) or "").encode(errors="replace")) > LONGEST_VALUE:
            causes.append(too_long(f"{field}.{name}", LONGEST_VALUE))
    if len(said) != 1:
        causes.append(invalid(field, attribute if said else "", "exactly one value must be specified"))
    return causes


def _slice_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    causes: list[Cause] = []
    for name in ("driver", "nodeName"):
        causes += immutable(f"spec.{name}", after.get(name), before.get(name))
    now, was = (after.get("pool") or {}).get("name"), (before.get("pool") or {}).get("name")
    return causes + immutable("spec.pool.name", now, was)


_KEY = ("resource.k8s.io", "resourceslices")
CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {_KEY: _slice}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {_KEY: _slice_change}

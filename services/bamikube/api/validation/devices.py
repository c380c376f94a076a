"""Rules of devices: classes, claims, templates of claims, and slices of what nodes offer.

Source: the API reference (resource.k8s.io/v1), KEP-4381.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_c_identifier, is_dns1123_label, is_dns1123_subdomain
from bamikube.api.validation.rules import (
    IMMUTABLE,
    duplicate,
    immutable,
    invalid,
    named,
    one_of,
    required,
    too_many,
)

MOST_REQUESTS = 32
MOST_DEVICES = 128
MOST_SELECTORS = 32
MOST_RESERVED = 256


def _selectors(field: str, selectors: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    if len(selectors) > MOST_SELECTORS:
        causes.append(too_many(field, len(selectors), MOST_SELECTORS))
    for index, each in enumerate(selectors):
        if each.get("cel") is None:
            causes.append(required(f"{field}[{index}].cel"))
        elif not each["cel"].get("expression"):
            causes.append(required(f"{field}[{index}].cel.expression"))
    return causes


def _opaque(field: str, config: dict[str, Any]) -> list[Cause]:
    opaque = config.get("opaque")
    if opaque is None:
        return [required(f"{field}.opaque")]
    causes = named(f"{field}.opaque.driver", opaque.get("driver"), is_dns1123_subdomain)
    if opaque.get("parameters") is None:
        causes.append(required(f"{field}.opaque.parameters"))
    return causes


def _class(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = _selectors("spec.selectors", spec.get("selectors") or [])
    for index, config in enumerate(spec.get("config") or ()):
        causes += _opaque(f"spec.config[{index}]", config)
    return causes


def _exact(field: str, request: dict[str, Any]) -> list[Cause]:
    causes = named(f"{field}.deviceClassName", request.get("deviceClassName"), is_dns1123_subdomain)
    causes += _selectors(f"{field}.selectors", request.get("selectors") or [])
    mode, count = request.get("allocationMode"), request.get("count", 0)
    causes += one_of(f"{field}.allocationMode", mode, ("All", "ExactCount"))
    if mode == "ExactCount" and count <= 0:
        causes.append(invalid(f"{field}.count", count, "must be greater than zero"))
    elif mode == "All" and count:
        detail = "must not be specified when allocationMode is 'All'"
        causes.append(invalid(f"{field}.count", count, detail))
    return causes


def _requests(field: str, requests: list[dict[str, Any]]) -> tuple[list[Cause], set[str]]:
    causes: list[Cause] = []
    names: set[str] = set()
    if len(requests) > MOST_REQUESTS:
        causes.append(too_many(field, len(requests), MOST_REQUESTS))
    for index, request in enumerate(requests):
        path, name = f"{field}[{index}]", request.get("name") or ""
        causes += named(f"{path}.name", name, is_dns1123_label)
        if name in names:
            causes.append(duplicate(f"{path}.name", name))
        names.add(name)
        exactly, first = request.get("exactly"), request.get("firstAvailable") or []
        if exactly is None and not first:
            detail = "exactly one of `exactly` or `firstAvailable` is required"
            causes.append(required(path, detail))
        elif exactly is not None and first:
            detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"
            causes.append(invalid(path, None, detail))
        if exactly is not None:
            causes += _exact(f"{path}.exactly", exactly)
        for place, each in enumerate(first):
            where = f"{path}.firstAvailable[{place}]"
            causes += named(f"{where}.name", each.get("name"), is_dns1123_label) + _exact(where, each)
            names.add(f"{name}/{each.get('name')}")
    return causes, names


def claim_spec(field: str, spec: dict[str, Any]) -> list[Cause]:
    """The spec of a claim, or of a template of claims."""
    devices = spec.get("devices") or {}
    causes, names = _requests(f"{field}.devices.requests", devices.get("requests") or [])
    for kind in ("constraints", "config"):
        for index, each in enumerate(devices.get(kind) or ()):
            path = f"{field}.devices.{kind}[{index}]"
            for place, name in enumerate(each.get("requests") or ()):
                if name not in names:
                    detail = "must be the name of a request in the claim or the name of a request and a "
                    detail += "subrequest separated by '/'"
                    causes.append(invalid(f"{path}.requests[{place}]", name, detail))
            if kind == "config":
                causes += _opaque(path, each)
    for index, each in enumerate(devices.get("constraints") or ()):
        path = f"{field}.devices.constraints[{index}].matchAttribute"
        attribute = each.get("matchAttribute")
        if not attribute:
            causes.append(required(path))
            continue
        domain, slash, identifier = attribute.partition("/")
        if not slash:
            causes.append(invalid(path, attribute, "must include a domain"))
        else:
            causes += [invalid(path, domain, message) for message in is_dns1123_subdomain(domain)]
            causes += [invalid(path, identifier, message) for message in is_c_identifier(identifier)]
    return causes


def _claim(obj: dict[str, Any]) -> list[Cause]:
    return claim_spec("spec", obj.get("spec") or {})


def _template(obj: dict[str, Any]) -> list[Cause]:
    return claim_spec("spec.spec", (obj.get("spec") or {}).get("spec") or {})


def _fixed_spec(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    return immutable("spec", new.get("spec"), old.get("spec"))


def _claim_status(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """A claim is reserved for few, only while it is allocated, and its allocation stays until it is given up."""
    status, before = new.get("status") or {}, old.get("status") or {}
    reserved, allocation = status.get("reservedFor") or [], status.get("allocation")
    causes: list[Cause] = []
    if len(reserved) > MOST_RESERVED:
        causes.append(too_many("status.reservedFor", len(reserved), MOST_RESERVED))
    seen: set[str] = set()
    for index, each in enumerate(reserved):
        field, uid = f"status.reservedFor[{index}]", each.get("uid") or ""
        for name in ("resource", "name", "uid"):
            if not each.get(name):
                causes.append(required(f"{field}.{name}"))
        if uid in seen:
            causes.append(duplicate(f"{field}.uid", uid))
        seen.add(uid)
    if reserved and allocation is None:
        causes.append(
            invalid("status.reservedFor", reserved, "may not be specified when `allocated` is not set")
        )
    was = before.get("allocation")
    if allocation is not None and was is not None and allocation != was:
        causes.append(invalid("status.allocation", allocation, IMMUTABLE))
    return causes


def _slice(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = named("spec.driver", spec.get("driver"), is_dns1123_subdomain)
    pool = spec.get("pool") or {}
    causes += named("spec.pool.name", pool.get("name"), is_dns1123_subdomain)
    if pool.get("resourceSliceCount", 0) <= 0:
        causes.append(
            invalid(
                "spec.pool.resourceSliceCount", pool.get("resourceSliceCount", 0), "must be greater than zero"
            )
        )
    causes += named("spec.nodeName", spec.get("nodeName"), is_dns1123_subdomain, needed=False)
    where = [
        name for name in ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection") if spec.get(name)
    ]
    if len(where) != 1:
        detail = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
        if where:
            causes.append(
                invalid("spec", "{" + ", ".join(where) + "}", detail + ", but multiple fields are set")
            )
        else:
            causes.append(required("spec", detail))
    devices = spec.get("devices") or []
    if len(devices) > MOST_DEVICES:
        causes.append(too_many("spec.devices", len(devices), MOST_DEVICES))
    names: set[str] = set()
    for index, device in enumerate(devices[:MOST_DEVICES]):
        name = device.get("name") or ""
        causes += named(f"spec.devices[{index}].name", name, is_dns1123_label)
        if name in names:
            causes.append(duplicate(f"spec.devices[{index}].name", name))
        names.add(name)
    return causes


def _slice_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    causes: list[Cause] = []
    for name in ("driver", "nodeName"):
        causes += immutable(f"spec.{name}", after.get(name), before.get(name))
    now, was = (after.get("pool") or {}).get("name"), (before.get("pool") or {}).get("name")
    return causes + immutable("spec.pool.name", now, was)


_GROUP = "resource.k8s.io"
CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    (_GROUP, "deviceclasses"): _class,
    (_GROUP, "resourceclaims"): _claim,
    (_GROUP, "resourceclaimtemplates"): _template,
    (_GROUP, "resourceslices"): _slice,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    (_GROUP, "resourceclaims"): _fixed_spec,
    (_GROUP, "resourceclaimtemplates"): _fixed_spec,
    (_GROUP, "resourceslices"): _slice_change,
}
STATUS: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    (_GROUP, "resourceclaims"): _claim_status,
}

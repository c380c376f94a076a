"""Rules of devices that are asked for: classes, claims and templates of claims.

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
    forbidden,
    immutable,
    invalid,
    named,
    one_of,
    required,
    too_long,
    too_many,
)

MOST_REQUESTS = 32
MOST_SELECTORS = 32
MOST_RESERVED = 256
MOST_RESULTS = 32
LONGEST_POOL = 253


def _selectors(field: str, selectors: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    if len(selectors) > MOST_SELECTORS:
        causes.append(too_many(field, len(selectors), MOST_SELECTORS))
    for index, each in enumerate(selectors):
        if each.get("cel") is None:
            causes.append(required(f"{field}[{index}].cel"))
        elif not each["cel"].get("expression"):
            causes.append(required(f"{field}[{index}].cel.expression"))
        elif index < MOST_SELECTORS:
            from bamikube.api.cel.devices import selector_faults  # the first expression loads the CEL library

            causes += selector_faults(f"{field}[{index}].cel.expression", each["cel"]["expression"])
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


def _requests(field: str, requests: list[dict[str, Any]]) -> list[Cause]:
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
    return causes


def claim_spec(field: str, spec: dict[str, Any]) -> list[Cause]:
    """The spec of a claim, or of a template of claims."""
    devices = spec.get("devices") or {}
    causes = _requests(f"{field}.devices.requests", devices.get("requests") or [])
    names = request_names(spec)
    for kind in ("constraints", "config"):
        for index, each in enumerate(devices.get(kind) or ()):
            path = f"{field}.devices.{kind}[{index}]"
            for place, name in enumerate(each.get("requests") or ()):
                causes += _reference(f"{path}.requests[{place}]", name, names)
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
        causes.append(forbidden("status.reservedFor", "may not be specified when `allocated` is not set"))
    elif (new.get("metadata") or {}).get("deletionTimestamp") and any(
        each not in (before.get("reservedFor") or ()) for each in reserved
    ):
        detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        causes.append(forbidden("status.reservedFor", detail))
    was = before.get("allocation")
    if allocation is not None and was is not None and allocation != was:
        causes.append(invalid("status.allocation", allocation, IMMUTABLE))
    elif allocation is not None and was is None:
        causes += _allocation(allocation, request_names(new.get("spec") or {}))
    return causes


def _allocation(allocation: dict[str, Any], known: set[str]) -> list[Cause]:
    """What was newly allocated: devices that exist by name, for requests that the claim has."""
    devices, field = allocation.get("devices") or {}, "status.allocation.devices"
    results, causes = devices.get("results") or [], []
    if len(results) > MOST_RESULTS:
        causes.append(too_many(f"{field}.results", len(results), MOST_RESULTS))
    for index, result in enumerate(results):
        path = f"{field}.results[{index}]"
        causes += _reference(f"{path}.request", result.get("request") or "", known)
        causes += named(f"{path}.driver", result.get("driver"), is_dns1123_subdomain)
        causes += pool_name(f"{path}.pool", result.get("pool") or "")
        causes += named(f"{path}.device", result.get("device"), is_dns1123_label)
    for index, config in enumerate(devices.get("config") or ()):
        path = f"{field}.config[{index}]"
        causes += one_of(f"{path}.source", config.get("source"), ("FromClaim", "FromClass"))
        for place, name in enumerate(config.get("requests") or ()):
            causes += _reference(f"{path}.requests[{place}]", name, known)
        causes += _opaque(path, config)
    return causes


def _reference(field: str, name: str, known: set[str]) -> list[Cause]:
    """The name of a request, or of one and a subrequest."""
    parts = name.split("/")
    causes = (
        [] if len(parts) > 2 else [each for part in parts for each in named(field, part, is_dns1123_label)]
    )
    if name not in known:
        detail = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
        causes.append(invalid(field, name, detail))
    return causes


def request_names(spec: dict[str, Any]) -> set[str]:
    """What may be referred to: ``request`` and ``request/subrequest``."""
    requests = (spec.get("devices") or {}).get("requests") or ()
    names = {str(each.get("name") or "") for each in requests}
    return names | {
        f"{each.get('name')}/{sub.get('name')}"
        for each in requests
        for sub in each.get("firstAvailable") or ()
    }


def pool_name(field: str, name: str) -> list[Cause]:
    """Subdomains with slashes between them."""
    if not name:
        return [required(field)]
    causes = [too_long(field, LONGEST_POOL)] if len(name) > LONGEST_POOL else []
    return causes + [
        invalid(field, part, message) for part in name.split("/") for message in is_dns1123_subdomain(part)
    ]


_GROUP = "resource.k8s.io"
CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    (_GROUP, "deviceclasses"): _class,
    (_GROUP, "resourceclaims"): _claim,
    (_GROUP, "resourceclaimtemplates"): _template,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    (_GROUP, "resourceclaims"): _fixed_spec,
    (_GROUP, "resourceclaimtemplates"): _fixed_spec,
}
STATUS: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    (_GROUP, "resourceclaims"): _claim_status,
}

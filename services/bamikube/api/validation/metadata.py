"""Rules of ``metadata``, the same for every kind, but for the form of the name.

Most names are DNS subdomains. Names that become a label of a host name are DNS labels (namespaces, stateful sets),
services must start with a letter, an IPAddress is called like its address, and roles, bindings and events may be
called anything that fits into a path.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import (
    is_dns1035_label,
    is_dns1123_label,
    is_dns1123_subdomain,
    is_path_segment,
    is_path_segment_prefix,
    is_qualified_name,
    mask_trailing_dash,
)
from bamikube.api.resources import Resource
from bamikube.api.validation.rules import IMMUTABLE, forbidden, invalid, ip_of, labels, required

ANNOTATIONS_LIMIT = 256 * 1024  # bytes of all keys and values

NameRule = Callable[[str], list[str]]


def is_ip_name(value: str) -> list[str]:
    """The name of an IPAddress: the address in its one canonical form."""
    plain = re.sub(r"(^|[.])0+(?=[0-9])", r"\1", value) if ":" not in value else value
    found = ip_of(plain)
    if found is None:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    if plain != value:
        return ["must not have leading 0s"]
    if getattr(found, "ipv4_mapped", None) is not None:
        return ["must not be an IPv4-mapped IPv6 address"]
    return [] if str(found) == value else [f'must be in canonical form ("{found}")']


def _elsewhere(_: str) -> list[str]:
    """A name whose rule needs more of the object: see the kind's own rules."""
    return []


_NAME_RULES: dict[tuple[str, str], NameRule] = {
    ("certificates.k8s.io", "clustertrustbundles"): _elsewhere,
    ("", "namespaces"): is_dns1123_label,
    ("", "services"): is_dns1035_label,
    ("apps", "statefulsets"): is_dns1123_label,
    ("apiregistration.k8s.io", "apiservices"): is_path_segment,  # v1. is the core group's
    ("", "events"): is_path_segment,
    ("events.k8s.io", "events"): is_path_segment,
    ("certificates.k8s.io", "certificatesigningrequests"): is_path_segment,
    ("networking.k8s.io", "ipaddresses"): is_ip_name,
    ("rbac.authorization.k8s.io", "roles"): is_path_segment,
    ("rbac.authorization.k8s.io", "rolebindings"): is_path_segment,
    ("rbac.authorization.k8s.io", "clusterroles"): is_path_segment,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): is_path_segment,
}
_EXTRA_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def name_rule(resource: Resource) -> NameRule:
    """The predicate names of this resource have to satisfy."""
    return _NAME_RULES.get(resource.key, is_dns1123_subdomain)


def _owners(field: str, owners: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    controller = ""
    for index, owner in enumerate(owners):
        path = f"{field}[{index}]"
        for name in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(name):
                detail = "version must not be empty" if name == "apiVersion" else "must not be empty"
                causes.append(invalid(f"{path}.{name}", owner.get(name, ""), detail))
        if owner.get("apiVersion") == "v1" and owner.get("kind") == "Event":
            causes.append(invalid(path, owner, "v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            if controller:
                text = f"{controller} and {owner.get('kind')}/{owner.get('name')}"
                causes.append(
                    invalid(
                        field,
                        owners,
                        f'Only one reference can have Controller set to true. Found "true" in references for {text}',
                    )
                )
            controller = f"{owner.get('kind')}/{owner.get('name')}"
    return causes


def finalizer_name(field: str, name: str) -> list[Cause]:
    """A finalizer is a qualified name; without a domain only Kubernetes' own three are allowed."""
    causes = [invalid(field, name, message) for message in is_qualified_name(name)]
    if not causes and "/" not in name and name not in _EXTRA_FINALIZERS:
        causes.append(invalid(field, name, _NO_FINALIZER))
    return causes


_NO_FINALIZER = "name is neither a standard finalizer name nor is it fully qualified"
# These kinds, and custom ones, are judged outside Kubernetes' core, where a finalizer may have any qualified name.
_ANY_FINALIZER = frozenset({"admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"})


def finalizers_of_kind(resource: Resource, metadata: dict[str, Any]) -> list[Cause]:
    """Which finalizers an object of this kind may have beyond what :func:`validate` allows all objects."""
    names = metadata.get("finalizers")
    if not names or resource.custom is not None or resource.group in _ANY_FINALIZER:
        return []
    return [
        invalid(f"metadata.finalizers[{index}]", name, _NO_FINALIZER)
        for index, name in enumerate(names)
        if "/" not in name and name not in _EXTRA_FINALIZERS
    ]


def _finalizers(field: str, names: list[str]) -> list[Cause]:
    causes: list[Cause] = []
    for index, name in enumerate(names):
        causes += [invalid(f"{field}[{index}]", name, message) for message in is_qualified_name(name)]
    if "orphan" in names and "foregroundDeletion" in names:
        causes.append(invalid(field, names, "finalizer orphan and foregroundDeletion cannot be both set"))
    return causes


def validate(
    metadata: dict[str, Any], *, namespaced: bool, rule: NameRule, field: str = "metadata"
) -> list[Cause]:
    """All rules of a new object's metadata."""
    causes: list[Cause] = []
    generate = metadata.get("generateName")
    if generate:
        prefix_rule = is_path_segment_prefix if rule is is_path_segment else rule
        masked = generate if rule is is_path_segment else mask_trailing_dash(generate)
        causes += [invalid(f"{field}.generateName", generate, message) for message in prefix_rule(masked)]
    name = metadata.get("name")
    if not name:
        causes.append(required(f"{field}.name", "name or generateName is required"))
    else:
        causes += [invalid(f"{field}.name", name, message) for message in rule(name)]
    namespace = metadata.get("namespace")
    if namespaced:
        if not namespace:
            causes.append(required(f"{field}.namespace"))
        else:
            causes += [invalid(f"{field}.namespace", namespace, m) for m in is_dns1123_label(namespace)]
    elif namespace:
        causes.append(forbidden(f"{field}.namespace", "not allowed on this type"))
    if metadata.get("generation", 0) < 0:
        causes.append(
            invalid(f"{field}.generation", metadata["generation"], "must be greater than or equal to 0")
        )
    return causes + _maps_and_lists(metadata, field)


def _maps_and_lists(metadata: dict[str, Any], field: str) -> list[Cause]:
    causes: list[Cause] = []
    if metadata.get("labels"):
        causes += labels(f"{field}.labels", metadata["labels"])
    if metadata.get("annotations"):
        causes += annotation_map(f"{field}.annotations", metadata["annotations"])
    if metadata.get("ownerReferences"):
        causes += _owners(f"{field}.ownerReferences", metadata["ownerReferences"])
    if metadata.get("finalizers"):
        causes += _finalizers(f"{field}.finalizers", metadata["finalizers"])
    return causes


_ANNOTATIONS: set[str] = set()  # names that are good; few, and the same again and again


def _bytes(*texts: str) -> int:
    return sum(len(text.encode()) for text in texts)


def annotation_map(field: str, values: dict[str, str]) -> list[Cause]:
    """Keys are qualified names (in any case), and all of it has a limit."""
    causes: list[Cause] = []
    size = 0
    for key, value in values.items():
        if key not in _ANNOTATIONS:
            found = is_qualified_name(key.lower())
            causes += [invalid(field, key, message) for message in found]
            if not found:
                if len(_ANNOTATIONS) >= 1024:
                    _ANNOTATIONS.clear()
                _ANNOTATIONS.add(key)  # short: else it would be no name
        size += len(key) + len(value) if key.isascii() and value.isascii() else _bytes(key, value)
    if size > ANNOTATIONS_LIMIT:
        limit = ANNOTATIONS_LIMIT
        causes.append(Cause("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", field))
    return causes


_FIXED = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def validate_change(new: dict[str, Any], old: dict[str, Any], field: str = "metadata") -> list[Cause]:
    """What may not change, and the rules of what may."""
    causes: list[Cause] = []
    for name in _FIXED:
        if (new.get(name) or None) != (old.get(name) or None):
            causes.append(invalid(f"{field}.{name}", new.get(name), IMMUTABLE))
    if new.get("generation", 0) < old.get("generation", 0):
        causes.append(invalid(f"{field}.generation", new.get("generation", 0), "must not be decremented"))
    if old.get("deletionTimestamp"):
        added = [each for each in new.get("finalizers") or () if each not in (old.get("finalizers") or ())]
        if added:
            causes.append(
                forbidden(
                    f"{field}.finalizers",
                    "no new finalizers can be added if the object is being deleted, found new finalizers "
                    f"[]string{{{', '.join(chr(34) + each + chr(34) for each in added)}}}",
                )
            )
    return causes + _maps_and_lists(new, field)

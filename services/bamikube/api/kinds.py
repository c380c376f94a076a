"""Is this body what is served at this path? Its ``apiVersion`` and ``kind`` decide, and the refusals are Kubernetes'::

Foo in version "v1" cannot be handled as a ConfigMap: no kind "Foo" is registered for version "v1" in scheme ...
Pod in version "v1" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion
the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)
"""

from __future__ import annotations

from typing import Any

from bamikube.api import errors, protobuf, table
from bamikube.api.errors import ApiError, Cause
from bamikube.api.resources import Resource

SCHEME = "pkg/api/legacyscheme/scheme.go:30"
_PACKAGES = {
    "": "core",
    "events.k8s.io": "core",
    "rbac.authorization.k8s.io": "rbac",
}  # else the group's first word


def expect_kind(resource: Resource, obj: dict[str, Any]) -> None:
    """The body must be of the kind of its path; what it leaves out is filled in. Raises 400, and 422 for a custom one."""
    version, kind = obj.get("apiVersion") or resource.api_version, obj.get("kind") or resource.kind
    obj["apiVersion"], obj["kind"] = version, kind
    if (version, kind) == (resource.api_version, resource.kind):
        return
    if resource.custom is None and (fault := misfit(resource, version, kind)):
        raise unfit(version, kind, resource.kind, fault)
    if version != resource.api_version:
        raise errors.bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
        )
    wrong = Cause("FieldValueInvalid", f'Invalid value: "{kind}": must be {resource.kind}', "kind")
    name = (obj.get("metadata") or {}).get("name") or ""
    raise errors.invalid(resource.kind, str(name), [wrong], resource.group)


SHOWN = 4096  # bytes of a body that does not say what it is


def expect_stated(resource: Resource, obj: dict[str, Any], body: bytes) -> None:
    """A custom object says itself what it is: nobody else does. Raises 400."""
    for field, name in (("kind", "Kind"), ("apiVersion", "apiVersion")):
        if not obj.get(field):
            why = f"Object '{name}' is missing in '{body[:SHOWN].decode(errors='replace')}'"
            raise unfit(resource.version, resource.kind, resource.kind, why)


def misfit(resource: Resource, version: str, kind: str) -> str:
    """Why an object of this version and kind is none of ``resource``, whatever its version; "" when it may be."""
    known = table.by_kind(version, kind)
    if known is None and not protobuf.can_encode(version, kind):
        return _unknown(version, kind)
    if kind == resource.kind and (known is None or known.storage_key == resource.storage_key):
        return ""
    package = _PACKAGES.get(resource.group) or resource.group.partition(".")[0]
    return f"converting ({_short(version)}.{kind}) to ({package}.{resource.kind}): unknown conversion"


def _unknown(version: str, kind: str) -> str:
    return f'no kind "{kind}" is registered for version "{version}" in scheme "{SCHEME}"'


def _short(version: str) -> str:
    return version.rpartition("/")[2]


def unfit(version: str, kind: str, wanted: str, why: str) -> ApiError:
    """400: what is of this version and kind cannot be taken for a ``wanted``."""
    return errors.bad_request(f'{kind} in version "{_short(version)}" cannot be handled as a {wanted}: {why}')


def unregistered(version: str, kind: str, wanted: str) -> ApiError:
    """400: nobody knows what this is."""
    return unfit(version, kind, wanted, _unknown(version, kind))

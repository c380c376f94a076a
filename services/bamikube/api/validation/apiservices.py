"""Rules of APIServices: which group version is served by whom.

Source: the API reference (apiregistration.k8s.io/v1); the texts are those of Kubernetes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1035_label, is_dns1123_subdomain
from bamikube.api.validation.rules import invalid, required


def _api_service(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    group, version = spec.get("group") or "", spec.get("version") or ""
    name = (obj.get("metadata") or {}).get("name") or ""
    causes: list[Cause] = []
    wanted = f"{version}.{group}"
    if name != wanted:
        causes.append(invalid("metadata.name", name, f'must be `spec.version+"."+spec.group`: "{wanted}"'))
    if not group and version != "v1":
        causes.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    if group:
        causes += [invalid("spec.group", group, message) for message in is_dns1123_subdomain(group)]
    causes += [invalid("spec.version", version, message) for message in is_dns1035_label(version)]
    for field, most in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        value = spec.get(field) or 0
        if not 0 < value <= most:
            causes.append(invalid(f"spec.{field}", value, f"must be positive and less than {most}"))
    return causes + _serving(spec)


def _serving(spec: dict[str, Any]) -> list[Cause]:
    service, bundle = spec.get("service"), spec.get("caBundle")
    insecure = bool(spec.get("insecureSkipTLSVerify"))
    causes: list[Cause] = []
    if service is None:
        if bundle:
            causes.append(
                invalid("spec.caBundle", _size(bundle), "local APIServices may not have a caBundle")
            )
        if insecure:
            text = "local APIServices may not have insecureSkipTLSVerify"
            causes.append(invalid("spec.insecureSkipTLSVerify", True, text))
        return causes
    for field in ("namespace", "name"):
        if not service.get(field):
            causes.append(required(f"spec.service.{field}"))
    port = service.get("port")
    if port is not None and not 1 <= port <= 65535:
        text = "port is not valid: must be between 1 and 65535, inclusive"
        causes.append(invalid("spec.service.port", port, text))
    if insecure and bundle:
        text = "may not be true if caBundle is present"
        causes.append(invalid("spec.insecureSkipTLSVerify", True, text))
    return causes


def _size(bundle: str) -> str:
    try:
        return f"{len(base64.b64decode(bundle))} bytes"
    except (ValueError, binascii.Error):
        return "not base64"


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("apiregistration.k8s.io", "apiservices"): _api_service,
}

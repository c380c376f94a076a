"""Rules of requests for certificates.

A request is written once: its spec never changes (the server keeps it). Approval and denial are conditions that only
the approval subresource adds and nobody takes back; the certificate is written once by its signer. Source: the API
reference (certificates.k8s.io/v1), "Certificates and Certificate Signing Requests".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

from bamikube.api import pem
from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1123_subdomain
from bamikube.api.validation.rules import (
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
)

SHORTEST = 600  # seconds
USAGES = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)
LEGACY_SIGNER = "kubernetes.io/legacy-unknown"
_FINAL = ("Approved", "Denied", "Failed")


def _blocks(text: str) -> list[pem.Block]:
    """The PEM blocks in a base64 field."""
    try:
        return list(pem.blocks(base64.b64decode(text)))
    except (binascii.Error, ValueError):
        return []


def _request(field: str, text: str) -> list[Cause]:
    blocks = _blocks(text)
    if not blocks or blocks[0].kind != "CERTIFICATE REQUEST":
        return [invalid(field, text, "PEM block type must be CERTIFICATE REQUEST")]
    if blocks[0].data[:1] != b"\x30":  # a SEQUENCE, as every DER certificate request is
        return [invalid(field, text, "x509: malformed certificate request")]
    return []


def signer_name(field: str, name: str) -> list[Cause]:
    """``example.com/signer-name``: a domain of two parts or more, and a path."""
    if not name:
        return [required(field, "signerName must be provided")]
    domain, slash, path = name.partition("/")
    if not slash or not domain or not path or "/" in path:
        form = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid(field, name, form)]
    causes = [
        invalid(field, domain, f'validating label "{part}": {message}')
        for part in domain.split(".")
        for message in is_dns1123_subdomain(part)
    ]
    if "." not in domain:
        causes.append(
            invalid(field, domain, "should be a domain with at least two segments separated by dots")
        )
    if len(name) > 571:
        causes.append(invalid(field, name, "must be no more than 571 characters"))
    for part in path.split("."):
        if not re.fullmatch("[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?", part):
            detail = (
                f'validating label "{part}": a lowercase RFC 1123 label must consist of lower case '
                "alphanumeric characters or '-', and must start and end with an alphanumeric character"
            )
            causes.append(invalid(field, path, detail))
    return causes


def _conditions(field: str, conditions: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, each in enumerate(conditions):
        path, kind, status = f"{field}[{index}]", each.get("type") or "", each.get("status") or ""
        if not kind:
            causes.append(required(f"{path}.type"))
        elif kind in seen:
            causes.append(duplicate(f"{path}.type", kind))
        seen.add(kind)
        if not status:
            causes.append(required(f"{path}.status"))
        elif kind in _FINAL and status != "True":
            causes.append(not_supported(f"{path}.status", status, ("True",)))
        elif status not in ("False", "True", "Unknown"):
            causes.append(not_supported(f"{path}.status", status, ("False", "True", "Unknown")))
    if {"Approved", "Denied"} <= seen:
        second = next(each for each in reversed(conditions) if each.get("type") in ("Approved", "Denied"))
        detail = "Approved and Denied conditions are mutually exclusive"
        causes.append(invalid(field, second.get("type"), detail))
    return causes


def _signing_request(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = _conditions("status.conditions", (obj.get("status") or {}).get("conditions") or [])
    usages = spec.get("usages") or []
    if not usages:
        causes.append(required("spec.usages"))
    for index, usage in enumerate(usages):
        if usage not in USAGES:
            causes.append(not_supported(f"spec.usages[{index}]", usage, USAGES))
        if usage in usages[:index]:
            causes.append(duplicate(f"spec.usages[{index}]", usage))
    causes += signer_name("spec.signerName", spec.get("signerName") or "")
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < SHORTEST:
        detail = "may not specify a duration less than 600 seconds (10 minutes)"
        causes.append(invalid("spec.expirationSeconds", seconds, detail))
    return causes


def _new_signing_request(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = _request("spec.request", spec.get("request") or "")
    if spec.get("signerName") == LEGACY_SIGNER:
        detail = "the legacy signerName is not allowed via this API version"
        causes.append(invalid("spec.signerName", LEGACY_SIGNER, detail))
    return causes


def _held(conditions: list[dict[str, Any]], kinds: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    return {each["type"]: each for each in conditions if each.get("type") in kinds}


def condition_changes(
    after: list[dict[str, Any]], before: list[dict[str, Any]], *, approving: bool = False
) -> list[Cause]:
    """What may not happen to the conditions of a request: Approved, Denied and Failed stay as they are.

    ``approving`` is the approval subresource, the only one that adds Approved and Denied.
    """
    field = "status.conditions"
    causes: list[Cause] = []
    now, was = _held(after, _FINAL), _held(before, _FINAL)
    for kind in now:
        if kind not in was and kind in ("Approved", "Denied") and not approving:
            causes.append(forbidden(field, f'updates may not add a condition of type "{kind}"'))
        elif kind in was and kind in ("Approved", "Denied") and not approving and now[kind] != was[kind]:
            causes.append(forbidden(field, f'updates may not modify a condition of type "{kind}"'))
    for kind in was:
        if kind not in now:
            causes.append(forbidden(field, f'updates may not remove a condition of type "{kind}"'))
    return causes


def _certificate(field: str, text: str) -> list[Cause]:
    blocks = _blocks(text)
    if not blocks:
        detail = "must contain at least one CERTIFICATE PEM block"
        return [invalid(field, "<certificate data>", detail)]
    for kind in (block.kind for block in blocks):
        if kind != "CERTIFICATE":
            detail = f'only CERTIFICATE PEM blocks are allowed, found "{kind}"'
            return [invalid(field, "<certificate data>", detail)]
    return []


def _status(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = new.get("status") or {}, old.get("status") or {}
    conditions = after.get("conditions") or []
    causes = _conditions("status.conditions", conditions)
    causes += condition_changes(conditions, before.get("conditions") or [])
    now, was = after.get("certificate") or "", before.get("certificate") or ""
    if was and now != was:
        causes.append(forbidden("status.certificate", "updates may not change existing certificate content"))
    elif now and not was:
        causes += _certificate("status.certificate", now)
    return causes


def approval(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """The rules of the approval subresource."""
    conditions = (new.get("status") or {}).get("conditions") or []
    causes = _conditions("status.conditions", conditions)
    return causes + condition_changes(
        conditions, (old.get("status") or {}).get("conditions") or [], approving=True
    )


_GROUP = "certificates.k8s.io"
CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    (_GROUP, "certificatesigningrequests"): _signing_request,
}
ONLY_NEW: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    (_GROUP, "certificatesigningrequests"): _new_signing_request,
}
STATUS: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    (_GROUP, "certificatesigningrequests"): _status,
}

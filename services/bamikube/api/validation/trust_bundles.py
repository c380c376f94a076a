"""Rules of ClusterTrustBundles and of the volumes that show them.

A bundle's name says whose it is: one that a signer stands for is called ``example.com:name:rest`` after the signer
``example.com/name``, any other has no colon. Whether its text holds certificate authorities takes a library to say, so that is
looked at in admission. Source: the API reference (certificates.k8s.io/v1beta1), KEP-3257.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1123_subdomain
from bamikube.api.validation.certificates import signer_name
from bamikube.api.validation.rules import immutable, invalid, label_selector, required, too_long

LONGEST = 1 << 20  # bytes of a bundle


def name_of(signer: str, name: str) -> list[str]:
    """What is wrong with the name of a bundle for ``signer`` (empty: for none)."""
    if not signer:
        if ":" in name:
            return ['ClusterTrustBundle without signer name must not have ":" in its name']
        return is_dns1123_subdomain(name)
    prefix = signer.replace("/", ":") + ":"
    if not name.startswith(prefix):
        return [f"ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"]
    return is_dns1123_subdomain(name.removeprefix(prefix))


def projection(path: str, source: dict[str, Any]) -> list[Cause]:
    """``clusterTrustBundle`` of a projected volume: by name, or by signer and labels."""
    name, signer, selector = (source.get(field) for field in ("name", "signerName", "labelSelector"))
    causes: list[Cause] = []
    if name is not None and signer is not None:
        causes.append(invalid(path, source, "only one of name and signerName may be used"))
    elif name is not None:
        if not name:
            causes.append(required(f"{path}.name", "must be a valid object name"))
        first, colon, _ = name.rpartition(":")
        owner = first.replace(":", "/") if colon else ""
        causes += [invalid(f"{path}.name", name, message) for message in name_of(owner, name)]
        if selector is not None:
            causes.append(
                invalid(f"{path}.labelSelector", selector, "labelSelector must be unset if name is specified")
            )
    elif signer is not None:
        if not signer:
            causes.append(required(f"{path}.signerName", "must be a valid signer name"))
        else:
            causes += signer_name(f"{path}.signerName", signer)
        causes += label_selector(f"{path}.labelSelector", selector)
    else:
        causes.append(required(path, "either name or signerName must be specified"))
    return causes


def _bundle(obj: dict[str, Any]) -> list[Cause]:
    spec, name = obj.get("spec") or {}, (obj.get("metadata") or {}).get("name") or ""
    signer = spec.get("signerName") or ""
    causes = [invalid("metadata.name", name, message) for message in name_of(signer, name)]
    if signer:
        causes += signer_name("spec.signerName", signer)
    if len((spec.get("trustBundle") or "").encode()) > LONGEST:
        causes.append(too_long("spec.trustBundle", LONGEST))
    return causes


def _change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    before, after = ((obj.get("spec") or {}).get("signerName") for obj in (old, new))
    return immutable("spec.signerName", after or "", before or "")


_KEY = ("certificates.k8s.io", "clustertrustbundles")
CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {_KEY: _bundle}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {_KEY: _change}

"""Where a call goes: from a ``clientConfig`` or a service reference to an address, with the name TLS must prove.

A service is reached at one of its ready endpoints, dialled by address, because the API server's machine may be none
that steers service traffic. The certificate must be valid for ``<service>.<namespace>.svc`` all the same::

    service {namespace: web, name: judge, port: 443}
        Service web/judge: port 443 -> name "https"
        EndpointSlices of judge: port "https" is 8443 on 10.244.1.7 (ready), 10.244.2.9 (not ready)
    ->  dial 10.244.1.7:8443, expect a certificate for judge.web.svc, ask for Host judge.web.svc

Without any endpoint slice the cluster IP is dialled; an ExternalName service is dialled by that name.

Source: the API reference (WebhookClientConfig, ServiceReference); ``k8s.io/apiserver/pkg/util/proxy`` (behaviour).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.chance import Chance

SERVICES = ("", "services")
SLICES = ("discovery.k8s.io", "endpointslices")
SERVICE_NAME = "kubernetes.io/service-name"


class Unresolved(Exception):
    """A service that cannot be called at present. The text says why."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One place to call.

    ``host`` and ``port`` are dialled; ``name`` is what the certificate must be valid for, ``authority`` the Host
    header. ``path`` (percent-encoded) and ``query`` come from the configuration. ``trust`` is PEM text, empty for the
    machine's own authorities. ``verify`` False takes any certificate. ``identify`` shows the API server's client
    certificate, ``pair`` the one in this file (certificate and key).
    """

    host: str
    port: int
    name: str
    authority: str
    path: str = ""
    query: str = ""
    trust: bytes = b""
    verify: bool = True
    identify: bool = False
    pair: str = ""

    def shown(self, target: str = "") -> str:
        """The URL as people know it, by name rather than by address."""
        return f"https://{self.authority}{target}"


def of_client_config(config: Mapping[str, Any], reader: Reader, chance: Chance) -> Destination:
    """The place that a webhook's ``clientConfig`` names. Raises Unresolved."""
    trust = trusted(config.get("caBundle"))
    service = config.get("service")
    if service is not None:
        return of_service(
            reader,
            chance,
            service.get("namespace") or "",
            service.get("name") or "",
            service.get("port") or 443,
            path=service.get("path") or "",
            trust=trust,
        )
    url = config.get("url")
    if not url:
        raise Unresolved("webhook configuration must have either service or URL")
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError as error:
        raise Unresolved(f"Unparsable webhook URL: {error}") from None
    if not parts.hostname:
        raise Unresolved("Unparsable webhook URL: it names no host")
    authority = parts.netloc.rpartition("@")[2]
    return Destination(
        parts.hostname,
        port,
        parts.hostname,
        authority,
        quote(parts.path, safe="/%:@!$&'()*+,;=~"),
        parts.query,
        trust,
    )


def of_service(
    reader: Reader,
    chance: Chance,
    namespace: str,
    name: str,
    port: int,
    *,
    path: str = "",
    trust: bytes = b"",
    verify: bool = True,
    identify: bool = False,
) -> Destination:
    """A ready endpoint of a service's ``port``. Raises Unresolved."""
    host, number = place(reader, chance, namespace, name, port)
    server = f"{name}.{namespace}.svc"
    if path and not path.startswith("/"):
        path = f"/{path}"
    quoted = quote(path, safe="/%:@!$&'()*+,;=~")
    return Destination(host, number, server, f"{server}:{port}", quoted, "", trust, verify, identify)


def place(reader: Reader, chance: Chance, namespace: str, name: str, port: int) -> tuple[str, int]:
    """Address and port to dial for a service's ``port``. Raises Unresolved."""
    service = reader.get(SERVICES, namespace, name)
    if service is None:
        raise Unresolved(f'service "{name}" not found')
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        if not spec.get("externalName"):
            raise Unresolved(f'service "{name}" has no external name')
        return str(spec["externalName"]), port
    chosen = next((one for one in spec.get("ports") or () if one.get("port") == port), None)
    if chosen is None:
        raise Unresolved(f'no service port {port} found for service "{name}"')
    found, any_slice = endpoints(reader, namespace, name, chosen.get("name") or "")
    if found:
        return chance.choice(found)
    address = spec.get("clusterIP")
    if not any_slice and address and address != "None":
        return str(address), port
    raise Unresolved(f'no endpoints available for service "{name}"')


def endpoints(reader: Reader, namespace: str, service: str, port: str) -> tuple[list[tuple[str, int]], bool]:
    """Ready addresses behind the service port named ``port``, and whether the service has any slice at all."""
    found: list[tuple[str, int]] = []
    any_slice = False
    for one in reader.list(SLICES, namespace):
        if (one["metadata"].get("labels") or {}).get(SERVICE_NAME) != service:
            continue
        any_slice = True
        number = next(
            (
                each["port"]
                for each in one.get("ports") or ()
                if (each.get("name") or "") == port and each.get("port")
            ),
            None,
        )
        if number is None:
            continue
        for endpoint in one.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            found += [(str(address), int(number)) for address in (endpoint.get("addresses") or ())[:1]]
    return found, any_slice


def trusted(bundle: Any) -> bytes:
    """The PEM text of a ``caBundle`` field; empty when there is none or it cannot be read (validation refuses that)."""
    if not bundle:
        return b""
    try:
        return base64.b64decode(bundle)
    except (ValueError, binascii.Error):
        return b""

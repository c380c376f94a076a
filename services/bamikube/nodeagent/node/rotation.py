"""Certificates that the node asks the cluster for, in time: the one of its API, and the one it is known by.

::

    kubelet-server-current.pem   certificate and key of the API on 10250 (serverTLSBootstrap)
    kubelet-client-current.pem   those that are shown to the API server  (rotateCertificates)

A new one is asked for, by a CertificateSigningRequest with a new key, when 70 to 90 percent of the old one's time have passed, at
once when there is none, and when the node has got another address. Requests for the client's are approved by the cluster where
nodes may do that (``...:selfnodeclient``), those for the API's by a person: ``kubectl certificate approve``.

Source: "TLS bootstrapping", "Certificate Rotation".

What makes requests is imported when the first is made: seven megabytes that most nodes need not carry.
"""

from __future__ import annotations

import base64
import ipaddress
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bamikube.api.errors import ApiError
from bamikube.client.client import Client
from bamikube.kit.world import World
from bamikube.nodeagent.pod.facts import JSON
from bamikube.pki import files

if TYPE_CHECKING:
    from cryptography import x509

    from bamikube.pki import keys

log = logging.getLogger(__name__)

REQUESTS = "certificatesigningrequests.certificates.k8s.io"
PATIENCE = 900.0  # seconds an answer is waited for
POLL = 1.0  # seconds between two looks for it
RETRY, RETRY_MOST = 10.0, 600.0  # seconds after a request that came to nothing


class Unanswered(Exception):
    """No certificate came of a request; the text is for the log."""


@dataclass(frozen=True, slots=True)
class Kind:
    """``file`` is where it is kept; ``names``: whether it is good for the node's names and addresses."""

    file: str
    signer: str
    usages: tuple[str, ...]
    names: bool


SERVER = Kind(
    "kubelet-server-current.pem", "kubernetes.io/kubelet-serving", ("digital signature", "server auth"), True
)
CLIENT = Kind(
    "kubelet-client-current.pem",
    "kubernetes.io/kube-apiserver-client-kubelet",
    ("digital signature", "client auth"),
    False,
)


def asked(kind: Kind, node: str, names: Sequence[str], key: keys.PrivateKey) -> JSON:
    """The CertificateSigningRequest. Pure."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if kind.names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_name(name) for name in names]), critical=False
        )
    text = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": base64.b64encode(text).decode(),
            "signerName": kind.signer,
            "usages": list(kind.usages),
        },
    }


def _name(text: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def due(pem: bytes, names: Sequence[str], part: float) -> float:
    """When the certificate of a PEM text is to be asked for anew, in seconds since the epoch; 0 for one that is none, or lacks
    one of ``names``. ``part`` of 0 to 1 spreads the nodes of a cluster. Pure."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(pem)
    except ValueError:
        return 0.0
    if names:
        try:
            held = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return 0.0
        if not {_name(name) for name in names} <= set(held):
            return 0.0
    begun, ends = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    return begun + (ends - begun) * (0.7 + 0.2 * part)


def answer(request: JSON) -> bytes:
    """The certificate that was issued, b"" while there is none. Raises Unanswered when there will be none. Pure."""
    status = request.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"] in ("Denied", "Failed") and condition.get("status") == "True":
            word = "is denied" if condition["type"] == "Denied" else "failed"
            why = f"reason: {condition.get('reason', '')}, message: {condition.get('message', '')}"
            raise Unanswered(f"certificate signing request {word}, {why}")
    return base64.b64decode(status.get("certificate") or "")


class Rotation:
    """``current``: the certificate as it is now (b"" for none); ``take`` is given the file of each new one."""

    def __init__(
        self,
        client: Client,
        world: World,
        kind: Kind,
        folder: Path,
        node: str,
        names: Sequence[str],
        current: Callable[[], bytes],
        take: Callable[[Path], None],
    ) -> None:
        self._client, self._world, self._kind, self._node = client, world, kind, node
        self._file, self._names = folder / kind.file, names if kind.names else ()
        self._current, self._take = current, take

    async def run(self) -> None:
        """Ask in time, until cancelled."""
        clock, retry = self._world.clock, RETRY
        while True:
            at = due(self._current(), self._names, self._world.chance.random())
            await clock.sleep(max(0.0, at - clock.now()))
            try:
                await self._ask()
                retry = RETRY
            except (ApiError, OSError, Unanswered) as error:
                log.warning("no new certificate (%s) yet: %s", self._kind.signer, error)
                await clock.sleep(retry)
                retry = min(2 * retry, RETRY_MOST)

    async def _ask(self) -> None:
        from bamikube.pki import keys

        key, clock = keys.new_ec_key(), self._world.clock
        made = await self._client.create(REQUESTS, asked(self._kind, self._node, self._names, key))
        name, until, told = made["metadata"]["name"], clock.monotonic() + PATIENCE, False
        while not (issued := answer(made)):
            if clock.monotonic() >= until:
                raise Unanswered(f"nobody has answered the request {name}")
            await clock.sleep(POLL)
            made = await self._client.get(REQUESTS, name)
            if not told and not (made.get("status") or {}):
                log.info("certificate request %s waits: kubectl certificate approve %s", name, name)
                told = True
        files.write_atomically(self._file, issued.rstrip() + b"\n" + keys.private_pem(key))
        log.info("got a new certificate (%s): %s", self._kind.signer, self._file)
        self._take(self._file)

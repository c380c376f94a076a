"""The built-in signers: which requests for certificates they take, and what they sign.

::

    request (PKCS #10) + usages + signer ──► refusal() == "" ──► certificate() ──► PEM
                                                  │
                                                  └─► why not, in Kubernetes' words

A request names its signer. The four of ``kubernetes.io`` are signed with the cluster's CA; any other signer is
somebody else's business. Subject and names are taken over from the request, usages and lifetime from the object
around it. Nothing signed here is an authority.

Source: "Certificates and Certificate Signing Requests" (signers), RFC 2986, RFC 5280.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from bamikube.pki.authority import Authority

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"
SIGNERS = frozenset((CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY))

SHORTEST = 600  # seconds
SHORT = 8 * 3600  # certificates of less than this many seconds run their whole time from now on
BACKDATE = 300  # clocks that run behind accept a new certificate at once

_NODES = ["system:nodes"]
_NODE_PREFIX = "system:node:"
_NAMES = (
    x509.DNSName,
    x509.IPAddress,
    x509.RFC822Name,
    x509.UniformResourceIdentifier,
)
# What reading a request with odd contents raises.
_ODD = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, UnsupportedAlgorithm)

_KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_EXTENDED = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsec end system": ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "microsoft sgc": ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": ObjectIdentifier("2.16.840.1.113730.4.1"),
}


def read(request: str) -> x509.CertificateSigningRequest:
    """The request in ``spec.request`` (PEM in base64). Raises ValueError when there is none, or its own signature does
    not fit its key: whoever asks must hold the key."""
    try:
        found = x509.load_pem_x509_csr(base64.b64decode(request))
        fits = found.is_signature_valid
    except binascii.Error as problem:
        raise ValueError(f"the request is not base64: {problem}") from problem
    except _ODD as problem:
        raise ValueError(f"the request cannot be read: {problem}") from problem
    if not fits:
        raise ValueError("unable to verify certificate request signature")
    return found


def common_name(request: x509.CertificateSigningRequest) -> str:
    """The last one given, as Go reads it; "" when there is none."""
    found = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[-1].value) if found else ""


def refusal(signer: str, request: x509.CertificateSigningRequest, usages: Collection[str]) -> str:
    """Why the built-in ``signer`` does not sign that; "" when it does."""
    try:
        if signer == CLIENT:
            return _client_usages(usages)
        if signer == KUBELET_CLIENT:
            return _kubelet_client(request, usages)
        if signer == KUBELET_SERVING:
            return _kubelet_serving(request, usages)
    except _ODD as problem:
        return str(problem)
    return ""


def lifetime(asked: int | None, longest: float) -> int:
    """Seconds a certificate runs: what was asked for, within ten minutes and ``longest``."""
    if asked is None or asked > longest:
        return int(longest)
    return max(asked, SHORTEST)


def certificate(
    authority: Authority,
    request: x509.CertificateSigningRequest,
    usages: Sequence[str],
    seconds: int,
    now: float,
) -> bytes:
    """The certificate as PEM. It never outlives the authority. Raises ValueError for a request that cannot be taken
    over into a certificate."""
    end = now + seconds - (BACKDATE if seconds >= SHORT else 0)
    try:
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .public_key(request.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        if (usage := _key_usage(usages)) is not None:
            builder = builder.add_extension(usage, critical=True)
        if extended := list(dict.fromkeys(_EXTENDED[one] for one in usages if one in _EXTENDED)):
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        if names := alternative_names(request):
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not request.subject)
        signed = authority.complete(
            builder, datetime.fromtimestamp(int(now) - BACKDATE, UTC), datetime.fromtimestamp(int(end), UTC)
        )
    except _ODD as problem:
        raise ValueError(f"unable to sign: {problem}") from problem
    return signed.public_bytes(serialization.Encoding.PEM)


def alternative_names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    """The subject's other names of the four kinds that certificates of a cluster use."""
    try:
        held = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name for name in held if isinstance(name, _NAMES)]


def _client_usages(usages: Collection[str]) -> str:
    for usage in usages:
        if usage not in ("digital signature", "key encipherment", "client auth"):
            return f"invalid usage for client certificate: {usage}"
    if "client auth" not in usages:
        return "missing required usage for client certificate: client auth"
    return ""


def _kubelet_client(request: x509.CertificateSigningRequest, usages: Collection[str]) -> str:
    if _organizations(request) != _NODES:
        return "subject organization is not system:nodes"
    names = alternative_names(request)
    for kind, title in (
        (x509.DNSName, "DNS"),
        (x509.RFC822Name, "Email"),
        (x509.IPAddress, "IP"),
        (x509.UniformResourceIdentifier, "URI"),
    ):
        if any(isinstance(name, kind) for name in names):
            return f"{title} subjectAltNames are not allowed"
    if not common_name(request).startswith(_NODE_PREFIX):
        return "subject common name does not begin with system:node:"
    return _exactly(usages, "client auth")


def _kubelet_serving(request: x509.CertificateSigningRequest, usages: Collection[str]) -> str:
    if _organizations(request) != _NODES:
        return "subject organization is not system:nodes"
    names = alternative_names(request)
    if not any(isinstance(name, x509.DNSName | x509.IPAddress) for name in names):
        return "DNS or IP subjectAltName is required"
    for kind, title in ((x509.RFC822Name, "Email"), (x509.UniformResourceIdentifier, "URI")):
        if any(isinstance(name, kind) for name in names):
            return f"{title} subjectAltNames are not allowed"
    if refused := _exactly(usages, "server auth"):
        return refused
    if not common_name(request).startswith(_NODE_PREFIX):
        return "subject common name does not begin with system:node:"
    return ""


def _exactly(usages: Collection[str], purpose: str) -> str:
    """``purpose`` and a signature, with key encipherment (RSA) or without."""
    wanted = sorted(("digital signature", "key encipherment", purpose))
    if set(usages) in (set(wanted), set(wanted) - {"key encipherment"}):
        return ""
    return f"usages did not match [{' '.join(wanted)}]"


def _organizations(request: x509.CertificateSigningRequest) -> list[str]:
    return [str(one.value) for one in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def _key_usage(usages: Collection[str]) -> x509.KeyUsage | None:
    bits = dict.fromkeys(_KEY_USAGES.values(), False)
    bits |= {_KEY_USAGES[usage]: True for usage in usages if usage in _KEY_USAGES}
    if not bits["key_agreement"]:  # only with it do the last two mean anything (RFC 5280, 4.2.1.3)
        bits["encipher_only"] = bits["decipher_only"] = False
    return x509.KeyUsage(**bits) if any(bits.values()) else None

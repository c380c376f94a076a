"""Certificate authorities, and the certificates they issue.

An :class:`Authority` is a CA certificate with its key. What a certificate is to say stands in a :class:`Request`;
``issue`` answers with an :class:`Issued`: certificate and key as PEM. Times come from the injected clock; serial
numbers and keys from the cryptography library's own source, which must not be a replayable one.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bamikube.kit.world import World
from bamikube.pki import files, keys

log = logging.getLogger(__name__)

DAY = 86_400
CA_LIFETIME = 3650 * DAY
LEAF_LIFETIME = 365 * DAY
# Machines whose clock runs a little behind accept a new certificate at once.
SKEW = 300


@dataclass(frozen=True, slots=True)
class Request:
    """What a certificate is to say. ``sans`` are DNS names and IP addresses mixed; ``lifetime`` is in seconds."""

    common_name: str
    organizations: tuple[str, ...] = ()
    sans: tuple[str, ...] = ()
    server: bool = False
    client: bool = False
    lifetime: int = LEAF_LIFETIME


@dataclass(frozen=True, slots=True)
class Issued:
    certificate_pem: bytes
    key_pem: bytes


class Authority:
    """A CA that can sign."""

    def __init__(self, certificate: x509.Certificate, key: keys.PrivateKey, world: World) -> None:
        self.certificate = certificate
        self._key = key
        self._world = world

    @classmethod
    def create(cls, common_name: str, world: World, lifetime: int = CA_LIFETIME) -> Authority:
        """A new self-signed CA, valid for ``lifetime`` seconds."""
        key = keys.new_ec_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        start, end = _validity(world, lifetime)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
            )
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key, world)

    @classmethod
    def load(cls, certificate: Path, key: Path, world: World) -> Authority:
        """Raises OSError, and ValueError when the two do not belong together or the certificate is no CA's."""
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = keys.load_private(key.read_bytes())
        if loaded.public_key() != private.public_key():
            raise ValueError(f"{key} is not the key of {certificate}")
        try:
            constraints = loaded.extensions.get_extension_for_class(x509.BasicConstraints).value
        except x509.ExtensionNotFound:
            constraints = x509.BasicConstraints(ca=False, path_length=None)
        if not constraints.ca:
            raise ValueError(
                f"{certificate} is not the certificate of an authority (basicConstraints CA is false)"
            )
        return cls(loaded, private, world)

    @property
    def certificate_pem(self) -> bytes:
        return pem(self.certificate)

    def save(self, base: Path) -> None:
        """Write ``base.crt`` (0644) and ``base.key`` (0600)."""
        files.write_atomically(base.with_name(base.name + ".key"), keys.private_pem(self._key))
        files.write_atomically(base.with_name(base.name + ".crt"), self.certificate_pem, files.PUBLIC)

    def issue(self, request: Request) -> Issued:
        """A certificate with a new EC key. It never outlives the authority."""
        key = keys.new_ec_key()
        certificate = self.sign(request, key.public_key())
        return Issued(pem(certificate), keys.private_pem(key))

    def sign(self, request: Request, public_key: keys.PublicKey) -> x509.Certificate:
        """A certificate for somebody else's key."""
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in request.organizations]
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, request.common_name))
        start, end = _validity(self._world, request.lifetime)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH] * request.server + [
            ExtendedKeyUsageOID.CLIENT_AUTH
        ] * request.client
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(attributes))
            .public_key(public_key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if request.sans:
            names = x509.SubjectAlternativeName([_general_name(san) for san in request.sans])
            builder = builder.add_extension(names, critical=False)
        return self.complete(builder, start, end)

    def complete(self, builder: x509.CertificateBuilder, start: datetime, end: datetime) -> x509.Certificate:
        """Sign what ``builder`` says, with issuer, serial number and a time that lies within the authority's own."""
        return (
            builder.issuer_name(self.certificate.subject)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(start, self.certificate.not_valid_before_utc))
            .not_valid_after(min(end, self.certificate.not_valid_after_utc))
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether ``authority`` signed ``certificate``."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(keys.serialization.Encoding.PEM)


def _validity(world: World, lifetime: int) -> tuple[datetime, datetime]:
    now = datetime.fromtimestamp(int(world.clock.now()), UTC)
    return now - timedelta(seconds=SKEW), now + timedelta(seconds=lifetime)


def _general_name(san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        return x509.DNSName(san)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not ca,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


class AuthorityFiles:
    """An authority in two files, read anew when they have changed: a CA that is renewed needs no restart."""

    def __init__(self, certificate: Path, key: Path, world: World) -> None:
        """Raises what :meth:`Authority.load` raises."""
        self._files = (certificate, key)
        self._world = world
        self._seen = self._state()
        self._authority = Authority.load(certificate, key, world)

    def _state(self) -> list[tuple[int, int]]:
        return [(stat.st_mtime_ns, stat.st_ino) for stat in (file.stat() for file in self._files)]

    def current(self) -> Authority:
        """The authority as the files have it. Half of a change, or files that are gone, leave the one before."""
        try:
            state = self._state()
            if state != self._seen:
                self._authority = Authority.load(*self._files, self._world)
                self._seen = state
        except (OSError, ValueError) as problem:
            log.warning("%s with %s cannot be read anew: %s", *self._files, problem)
        return self._authority

"""Users by client certificate: the common name is the user, the organizations are the groups.

The TLS layer has verified that the certificate leads to one of the CAs it was given, but not that it still holds: that
is asked here, since connections outlive certificates. The CAs may be two: the cluster's own, whose certificates name
users, and the front proxy's, whose certificates only allow a proxy to speak for users. A certificate of the second must
not pass for a user, so the issuer is looked at again here.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from bamikube.apiserver.authn.authenticator import BadCredentials
from bamikube.apiserver.identity import User
from bamikube.kit.clock import Clock
from bamikube.kit.http import Request
from bamikube.kit.tallies import Histograms

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"

_CACHE_LIMIT = 4096

_HOUR, _DAY = 3600, 86400
_REMAINING = Histograms(
    "apiserver_client_certificate_expiration_seconds",
    "Distribution of the remaining lifetime on the certificate used to authenticate a request.",
    (),
    (
        *(
            0,
            _HOUR / 2,
            _HOUR,
            2 * _HOUR,
            6 * _HOUR,
            12 * _HOUR,
            _DAY,
            2 * _DAY,
            4 * _DAY,
            7 * _DAY,
            30 * _DAY,
        ),
        *(90 * _DAY, 180 * _DAY, 360 * _DAY),
    ),
).of()


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was read from a certificate: its subject, and from when to when it holds (seconds since the epoch)."""

    common_name: str
    organizations: tuple[str, ...]
    fingerprint: str
    not_before: float
    not_after: float
    issued: bool  # directly issued by one of the CAs asked about

    def check(self, now: float) -> None:
        """Raises BadCredentials outside its time."""
        if now > self.not_after:
            raise BadCredentials(f"the client certificate of {self.common_name!r} has expired")
        if now < self.not_before:
            raise BadCredentials(f"the client certificate of {self.common_name!r} is not valid yet")


class Certificates:
    """Certificates issued by a set of CAs, parsed once each."""

    def __init__(self, authorities: Sequence[x509.Certificate]) -> None:
        self._authorities = tuple(authorities)
        self._cache: OrderedDict[bytes, Certificate] = OrderedDict()

    @classmethod
    def from_pem(cls, pem: bytes) -> Certificates:
        """The CAs of a PEM bundle. Raises ValueError when there is none in it."""
        return cls(x509.load_pem_x509_certificates(pem))

    def read(self, der: bytes) -> Certificate:
        """The certificate behind ``der``; cached, because parsing and checking a signature cost 100 us and more."""
        known = self._cache.get(der)
        if known is not None:
            return known
        try:
            parsed = x509.load_der_x509_certificate(der)
        except ValueError as problem:
            raise BadCredentials(f"the client certificate cannot be read: {problem}") from problem
        subject = parsed.subject
        names = [str(attribute.value) for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        groups = [
            str(attribute.value) for attribute in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        ]
        issuers = [authority for authority in self._authorities if _issued(parsed, authority)]
        # TLS has not looked at the time, neither at the certificate's nor at its CA's.
        holds = [parsed, *sorted(issuers, key=lambda one: one.not_valid_after_utc)[-1:]]
        read = Certificate(
            names[-1] if names else "",  # the last one counts, for signers too (bamikube.pki.signers)
            tuple(groups),
            hashlib.sha256(der).hexdigest(),
            max(one.not_valid_before_utc.timestamp() for one in holds),
            min(one.not_valid_after_utc.timestamp() for one in holds),
            bool(issuers),
        )
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache.popitem(last=False)
        self._cache[der] = read
        return read


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


class X509Method:
    """Authentication by client certificate."""

    def __init__(self, certificates: Certificates, clock: Clock) -> None:
        self._certificates = certificates
        self._clock = clock
        self._users: dict[str, User] = {}

    async def authenticate(self, request: Request) -> User | None:
        der = request.peer.certificate
        if der is None:
            return None
        certificate = self._certificates.read(der)
        if not certificate.issued:
            return None  # another CA's: the front proxy method may know it
        now = self._clock.now()
        certificate.check(now)
        _REMAINING.observe(certificate.not_after - now)
        if not certificate.common_name:
            return None
        user = self._users.get(certificate.fingerprint)
        if user is None:
            if len(self._users) >= _CACHE_LIMIT:
                self._users.clear()
            user = self._users[certificate.fingerprint] = User(
                certificate.common_name,
                (*certificate.organizations, "system:authenticated"),
                "",
                {CREDENTIAL_ID: (f"X509SHA256={certificate.fingerprint}",)},
            )
        return user

"""Users as a trusted proxy names them (``X-Remote-User``, ``X-Remote-Group``, ``X-Remote-Extra-*``).

The proxy shows a certificate of its own CA, with a common name out of a list. Without both, the headers are nothing
but words.

Source: Kubernetes' "Authenticating Proxy" and "Configure the aggregation layer".
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from bamikube.apiserver.authn.authenticator import BadCredentials
from bamikube.apiserver.authn.x509 import Certificates
from bamikube.apiserver.identity import User
from bamikube.kit.clock import Clock
from bamikube.kit.http import Request

# Sent several times, the edge keeps the values of these apart by new lines, of all others by commas.
_KEPT_APART = ("x-remote-", "impersonate-")


def header_values(header: str, value: str) -> tuple[str, ...]:
    """The values of a header that may have been sent several times.

    A comma belongs to the name of a group (``cn=dev,ou=example``): whoever may choose the name of one group must not
    get two by it.
    """
    parts = value.split("\n" if header.startswith(_KEPT_APART) else ",")
    return tuple(part for one in parts if (part := one.strip()))


class FrontProxyMethod:
    """Authentication by a front proxy. ``allowed_names`` empty: any name that the CA signed."""

    def __init__(
        self,
        certificates: Certificates,
        clock: Clock,
        *,
        allowed_names: Sequence[str] = (),
        username_headers: Sequence[str] = ("x-remote-user",),
        group_headers: Sequence[str] = ("x-remote-group",),
        extra_prefixes: Sequence[str] = ("x-remote-extra-",),
        uid_headers: Sequence[str] = ("x-remote-uid",),
    ) -> None:
        self._certificates = certificates
        self._clock = clock
        self._allowed = frozenset(allowed_names)
        self._names = tuple(header.lower() for header in username_headers)
        self._groups = tuple(header.lower() for header in group_headers)
        self._extras = tuple(prefix.lower() for prefix in extra_prefixes)
        self._uids = tuple(header.lower() for header in uid_headers)

    async def authenticate(self, request: Request) -> User | None:
        der = request.peer.certificate
        if der is None or not any(header in request.headers for header in self._names):
            return None
        certificate = self._certificates.read(der)
        if not certificate.issued:
            return None
        certificate.check(self._clock.now())
        if self._allowed and certificate.common_name not in self._allowed:
            raise BadCredentials(f"the common name {certificate.common_name!r} is not an allowed front proxy")
        name = self._first(request, self._names)
        if not name:
            return None
        groups = tuple(
            group
            for header in self._groups
            for group in header_values(header, request.headers.get(header, ""))
        )
        extra = {
            unquote(header[len(prefix) :]): header_values(header, value)
            for header, value in request.headers.items()
            for prefix in self._extras
            if header.startswith(prefix)
        }
        return User(name, groups, self._first(request, self._uids), extra)

    @staticmethod
    def _first(request: Request, headers: Sequence[str]) -> str:
        for header in headers:
            if value := request.headers.get(header, "").split("\n")[0].strip():
                return value
        return ""

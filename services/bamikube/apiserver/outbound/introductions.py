"""Who the API server is to webhooks: a token, a password or a certificate for each of them.

A kubeconfig's users are named by the webhooks they are for::

    judge.web.svc         the Service judge in web, on port 443 (judge.web.svc:8443 on another)
    *.example.com         any host below example.com
    *                     anybody else; without it the user of the current context

Source: Kubernetes' "Dynamic Admission Control", authenticate API servers; ``AuthenticationInfoResolver`` (behaviour).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bamikube.pki import kubeconfig
from bamikube.pki.kubeconfig import Identity

DEFAULT_PORT = ":443"


@dataclass(frozen=True)
class Introduction:
    """What one webhook is shown."""

    identity: Identity

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Read anew for each call: the file of a token may have changed."""
        identity = self.identity
        token = identity.token
        if identity.token_file and not token:
            token = Path(identity.token_file).read_text(encoding="utf-8").strip()
        if token:
            return (("Authorization", f"Bearer {token}"),)
        if identity.username:
            pair = f"{identity.username}:{identity.password}".encode()
            return (("Authorization", f"Basic {base64.b64encode(pair).decode()}"),)
        return ()

    @cached_property
    def pair(self) -> str:
        """A file with certificate and key, "" without."""
        return held_pair(self.identity.cert_pem, self.identity.key_pem)


def held_pair(cert_pem: bytes, key_pem: bytes) -> str:
    """A file with certificate and key, "" without a certificate. TLS reads only files: this one is memory, for as long
    as the process lives."""
    if not cert_pem:
        return ""
    held = os.memfd_create("client-certificate")
    os.write(held, cert_pem + b"\n" + key_pem)
    return f"/proc/self/fd/{held}"


NOBODY = Introduction(Identity())


class Introductions:
    """``users`` by the names above; ``current`` is the user of the current context."""

    def __init__(self, users: Mapping[str, Identity], current: str = "") -> None:
        self._users = {name: Introduction(identity) for name, identity in users.items()}
        self._current = current

    @classmethod
    def read(cls, path: str) -> Introductions:
        """Raises KubeconfigError."""
        config = kubeconfig.read(path)
        contexts = {one["name"]: one.get("context") or {} for one in config.get("contexts") or []}
        current = contexts.get(config.get("current-context") or "", {}).get("user") or ""
        users = {one["name"]: one.get("user") or {} for one in config.get("users") or []}
        identities = {name: kubeconfig.identity(user, name, path) for name, user in users.items()}
        return cls(identities, current)

    def of(self, client: Mapping[str, Any], authority: str) -> Introduction:
        """What to show to the webhook with this ``clientConfig``, which is reached as ``authority``."""
        if not self._users:
            return NOBODY
        service = client.get("service")
        if service is not None:
            authority = f"{service.get('name')}.{service.get('namespace')}.svc:{service.get('port') or 443}"
        for name in _names(authority):
            if name in self._users:
                return self._users[name]
        return self._users.get(self._current, NOBODY)


def _names(authority: str) -> Iterator[str]:
    """The users that may be meant, the closest first."""
    for target in dict.fromkeys((authority, authority.removesuffix(DEFAULT_PORT))):
        yield target
        parts = target.split(".")
        yield from (f"*.{'.'.join(parts[at:])}" for at in range(1, len(parts)))
    yield "*"


NO_INTRODUCTIONS = Introductions({})

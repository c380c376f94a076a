"""Who may use the node's API: identity from a client certificate or a token, permission from the API server.

Certificates are those the TLS layer has verified against ``--client-ca-file``. Tokens go to TokenReview, permissions
to SubjectAccessReview (nodes/log, nodes/exec ... as nodes/proxy), both remembered for a short while. There is no
anonymous access. Source: "Kubelet authentication/authorization".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from bamikube.api import errors
from bamikube.client.client import Client
from bamikube.kit.http import Request
from bamikube.kit.world import World

TOKEN_TTL = 120.0  # seconds a reviewed token is remembered
ALLOWED_TTL = 300.0
DENIED_TTL = 30.0
CACHE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Identity:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""


def from_certificate(der: bytes) -> Identity:
    """Common name and organizations of a client certificate."""
    subject = x509.load_der_x509_certificate(der).subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return Identity(str(names[0].value) if names else "", tuple(str(g.value) for g in groups))


def subresource(path: str) -> str:
    """Which subresource of nodes guards a path."""
    first = path.strip("/").split("/")[0]
    return {"stats": "stats", "metrics": "metrics", "logs": "log", "spec": "spec"}.get(
        first, {"healthz": "healthz", "pods": "pods"}.get(first, "proxy")
    )


class Delegated:
    """Authentication and authorization by the API server."""

    def __init__(self, client: Client, world: World, node: str) -> None:
        self._client, self._world, self._node = client, world, node
        self._tokens: dict[str, tuple[float, Identity | None]] = {}
        self._verdicts: dict[tuple[Identity, str, str], tuple[float, bool, str]] = {}

    async def check(self, request: Request) -> Identity:
        """The identity that may do this. Raises ApiError 401 or 403."""
        identity = await self._identify(request)
        if identity is None:
            raise errors.unauthorized()
        verb = {
            "GET": "get",
            "HEAD": "get",
            "POST": "create",
            "PUT": "update",
            "PATCH": "patch",
            "DELETE": "delete",
        }
        part = subresource(request.path)
        allowed, reason = await self._allowed(identity, verb.get(request.method, "get"), part)
        if not allowed and part in ("healthz", "pods"):
            allowed, reason = await self._allowed(identity, verb.get(request.method, "get"), "proxy")
        if not allowed:
            text = f"User {identity.name!r} cannot {verb.get(request.method, 'get')} resource nodes/{part}: {reason}"
            raise errors.forbidden("nodes", self._node, text)
        return identity

    async def _identify(self, request: Request) -> Identity | None:
        if request.peer.certificate is not None:
            return from_certificate(request.peer.certificate)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        key = hashlib.sha256(token.encode()).hexdigest()
        now = self._world.clock.monotonic()
        known = self._tokens.get(key)
        if known is not None and known[0] > now:
            return known[1]
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token.strip()},
        }
        status = (await self._client.create("tokenreviews.authentication.k8s.io", review)).get("status") or {}
        found = None
        if status.get("authenticated"):
            user = status.get("user") or {}
            found = Identity(user.get("username", ""), tuple(user.get("groups") or ()), user.get("uid", ""))
        _keep(self._tokens, key, (now + TOKEN_TTL, found))
        return found

    async def _allowed(self, identity: Identity, verb: str, part: str) -> tuple[bool, str]:
        if "system:masters" in identity.groups:
            return True, ""
        key = (identity, verb, part)
        now = self._world.clock.monotonic()
        known = self._verdicts.get(key)
        if known is not None and known[0] > now:
            return known[1], known[2]
        what = {
            "verb": verb,
            "group": "",
            "version": "v1",
            "resource": "nodes",
            "subresource": part,
            "name": self._node,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": identity.name,
                "groups": list(identity.groups),
                "uid": identity.uid,
                "resourceAttributes": what,
            },
        }
        status = (await self._client.create("subjectaccessreviews.authorization.k8s.io", review)).get(
            "status"
        ) or {}
        allowed, reason = bool(status.get("allowed")), str(status.get("reason") or "no rule allows it")
        _keep(self._verdicts, key, (now + (ALLOWED_TTL if allowed else DENIED_TTL), allowed, reason))
        return allowed, reason


def _keep(book: dict[Any, Any], key: Any, value: Any) -> None:
    if len(book) >= CACHE_MAX:
        book.pop(next(iter(book)))
    book[key] = value

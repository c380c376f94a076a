"""Who may use the node's API: identity from a client certificate or a token, permission from the API server.

Certificates are those the TLS layer has verified against ``--client-ca-file``. Tokens go to TokenReview, permissions
to SubjectAccessReview, both remembered for a short while. Nobody is anonymous, unless the flags say so. What a path needs is a
subresource of ``nodes``; the finer ones (``healthz``, ``pods``, ``configz``) may be replaced by ``proxy``, which stands
for everything. Sources: "Kubelet authentication/authorization", KEP-2862 (fine-grained authorization).
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.client.client import Client
from bamikube.kit.http import Request
from bamikube.kit.world import World
from bamikube.nodeagent.server.refusal import Refusal
from bamikube.pki import glance

log = logging.getLogger(__name__)

CACHE_MAX = 1000
AUTHENTICATED = "system:authenticated"
_VERBS = {
    "GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete",
}  # fmt: skip
_SUBRESOURCES = {
    "stats": ("stats",),
    "metrics": ("metrics",),
    "logs": ("log",),
    "checkpoint": ("checkpoint",),
    "healthz": ("healthz", "proxy"),
    "pods": ("pods", "proxy"),
    "runningpods": ("pods", "proxy"),
    "configz": ("configz", "proxy"),
}


@dataclass(frozen=True, slots=True)
class Identity:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


ANONYMOUS = Identity("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True, slots=True)
class Policy:
    """What the flags say. ``anonymous``: who shows nothing is let in, as that; ``tokens``: who shows a token is looked up;
    ``everything``: whoever has a name may do everything. The rest: seconds that answers of the API server are remembered."""

    anonymous: bool = False
    tokens: bool = True
    everything: bool = False
    token_ttl: float = 120.0
    allowed_ttl: float = 300.0
    denied_ttl: float = 30.0


def from_certificate(der: bytes) -> Identity:
    """Common name and organizations of a client certificate."""
    found = glance.of_der(der)
    return Identity(found.common_name, (*found.organizations, AUTHENTICATED))


def subresources(path: str) -> tuple[str, ...]:
    """Which subresources of nodes open a path: the first one that is allowed suffices."""
    return _SUBRESOURCES.get(path.strip("/").split("/")[0], ("proxy",))


class Delegated:
    """Authentication and authorization by the API server."""

    def __init__(self, client: Client, world: World, node: str, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._client, self._world, self._node = client, world, node
        self._tokens: dict[str, tuple[float, Identity | None]] = {}
        self._verdicts: dict[tuple[Identity, str, str], tuple[float, bool]] = {}

    async def check(self, request: Request) -> Identity:
        """The identity that may do this. Raises Refusal 401 or 403, or 500 when the API server cannot be asked."""
        identity = await self._identify(request)
        if identity is None:
            raise Refusal(401, "Unauthorized")
        if self._policy.everything:
            return identity
        verb = _VERBS.get(request.method, "")
        parts = subresources(request.path)
        what = f"user={identity.name}, verb={verb}, resource=nodes"
        for part in parts:
            try:
                if await self._allowed(identity, verb, part):
                    return identity
            except (ApiError, OSError) as error:
                log.warning("the API server cannot be asked what %s may do: %s", identity.name, error)
                raise Refusal(500, f"Authorization error ({what}, subresource={part})") from error
        raise Refusal(403, f"Forbidden ({what}, subresource(s)=[{' '.join(parts)}])")

    async def _identify(self, request: Request) -> Identity | None:
        if request.peer.certificate is not None:
            return from_certificate(request.peer.certificate)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or not self._policy.tokens:
            return ANONYMOUS if self._policy.anonymous else None
        key = hashlib.sha256(token.encode()).hexdigest()
        now = self._world.clock.monotonic()
        known = self._tokens.get(key)
        if known is not None and known[0] > now:
            return known[1]
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        try:
            answer = await self._client.create("tokenreviews.authentication.k8s.io", review)
        except (ApiError, OSError) as error:
            log.warning("the API server cannot be asked about a token: %s", error)
            return None  # not remembered: the next request asks again
        found = _identity(answer.get("status") or {})
        _keep(self._tokens, key, (now + self._policy.token_ttl, found))
        return found

    async def _allowed(self, identity: Identity, verb: str, part: str) -> bool:
        if "system:masters" in identity.groups:
            return True
        key = (identity, verb, part)
        now = self._world.clock.monotonic()
        known = self._verdicts.get(key)
        if known is not None and known[0] > now:
            return known[1]
        what = {
            "verb": verb,
            "group": "",
            "version": "v1",
            "resource": "nodes",
            "subresource": part,
            "name": self._node,
        }
        spec: dict[str, Any] = {
            "user": identity.name,
            "groups": list(identity.groups),
            "uid": identity.uid,
            "resourceAttributes": what,
        }
        if identity.extra:
            spec["extra"] = {name: list(values) for name, values in identity.extra}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer = await self._client.create("subjectaccessreviews.authorization.k8s.io", review)
        allowed = bool((answer.get("status") or {}).get("allowed"))
        _keep(
            self._verdicts,
            key,
            (now + (self._policy.allowed_ttl if allowed else self._policy.denied_ttl), allowed),
        )
        return allowed


def _identity(status: dict[str, Any]) -> Identity | None:
    if not status.get("authenticated"):
        return None
    user = status.get("user") or {}
    extra = tuple((name, tuple(values or ())) for name, values in sorted((user.get("extra") or {}).items()))
    return Identity(user.get("username", ""), tuple(user.get("groups") or ()), user.get("uid", ""), extra)


def _keep(book: dict[Any, Any], key: Any, value: Any) -> None:
    if len(book) >= CACHE_MAX:
        book.pop(next(iter(book)))
    book[key] = value

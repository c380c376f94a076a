"""Service accounts by signed token.

A token says which service account it stands for and what it is bound to. The signature proves that the cluster
issued it; whether it still holds is asked of the cache every time: the service account must exist with the same
uid, and so must the pod, secret or node the token is bound to. Deleting any of them ends the token.

Only the signature is remembered (verifying it costs more than everything else together); times, audiences and
bindings are looked at on every request.

Source: KEP-1205 (bound service account tokens), KEP-4193 (token improvements: jti, node).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bamikube.apiserver.authn.authenticator import BadCredentials
from bamikube.apiserver.identity import User
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.clock import Clock, parse_rfc3339

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
NODE_NAME = "authentication.kubernetes.io/node-name"
NODE_UID = "authentication.kubernetes.io/node-uid"

LEEWAY = 10.0  # seconds a clock may be ahead of ours (nbf)
GRACE = 60.0  # seconds a token outlives the deletionTimestamp of what it is bound to, as in Kubernetes
_CACHE_LIMIT = 8192


class SignatureVerifier(Protocol):
    """Checks a token's signature and issuer, nothing else. Raises ValueError."""

    def claims(self, token: str) -> Mapping[str, Any]: ...


class ServiceAccountMethod:
    """Authentication by service-account token. ``audiences`` are the API server's own (``--api-audiences``)."""

    def __init__(
        self, verifier: SignatureVerifier, reader: Reader, clock: Clock, audiences: Sequence[str]
    ) -> None:
        self._verifier = verifier
        self._reader = reader
        self._clock = clock
        self._audiences = frozenset(audiences)
        self._verified: OrderedDict[str, Mapping[str, Any]] = OrderedDict()

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> User | None:
        """None when the token is no JWT. ``audiences`` empty: the server's own."""
        if token.count(".") != 2:
            return None
        claims = self._claims(token)
        self._check_time(claims)
        wanted = frozenset(audiences) or self._audiences
        if wanted.isdisjoint(audiences_of(claims)):
            raise BadCredentials(f"the token is for {audiences_of(claims)}, not for {sorted(wanted)}")
        return self._user(claims)

    def audiences_in_common(self, token: str, audiences: Sequence[str]) -> list[str]:
        """Those of ``audiences`` (default: the server's own) that a verified token is for."""
        held = audiences_of(self._claims(token))
        return [audience for audience in (audiences or sorted(self._audiences)) if audience in held]

    def _claims(self, token: str) -> Mapping[str, Any]:
        claims = self._verified.get(token)
        if claims is None:
            try:
                claims = self._verifier.claims(token)
            except Exception as problem:
                raise BadCredentials(f"the service account token is no good: {problem}") from problem
            if len(self._verified) >= _CACHE_LIMIT:
                self._verified.popitem(last=False)
            self._verified[token] = claims
        return claims

    def _check_time(self, claims: Mapping[str, Any]) -> None:
        now = self._clock.now()
        if "exp" in claims and now >= float(claims["exp"]):
            raise BadCredentials("the service account token has expired")
        if now + LEEWAY < float(claims.get("nbf", 0)):
            raise BadCredentials("the service account token is not valid yet")

    def _user(self, claims: Mapping[str, Any]) -> User:
        bound = claims.get("kubernetes.io") or {}
        namespace = str(bound.get("namespace") or "")
        account = bound.get("serviceaccount") or {}
        name, uid = str(account.get("name") or ""), str(account.get("uid") or "")
        if not namespace or not name or claims.get("sub") != f"system:serviceaccount:{namespace}:{name}":
            raise BadCredentials("the token does not name a service account")
        self._must_live("serviceaccounts", namespace, name, uid)
        extra: dict[str, tuple[str, ...]] = {}
        if jti := claims.get("jti"):
            extra[CREDENTIAL_ID] = (f"JTI={jti}",)
        for kind, plural in (("secret", "secrets"), ("pod", "pods"), ("node", "nodes")):
            reference = bound.get(kind)
            if not reference:
                continue
            # The node of a pod's token is information only: the pod is what the token is bound to.
            if kind != "node" or "pod" not in bound:
                self._must_live(
                    plural,
                    "" if kind == "node" else namespace,
                    str(reference.get("name")),
                    str(reference.get("uid")),
                )
            if kind == "pod":
                extra[POD_NAME] = (str(reference.get("name")),)
                extra[POD_UID] = (str(reference.get("uid")),)
            elif kind == "node":
                extra[NODE_NAME] = (str(reference.get("name")),)
                if reference.get("uid"):
                    extra[NODE_UID] = (str(reference["uid"]),)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(f"system:serviceaccount:{namespace}:{name}", groups, uid, extra)

    def _must_live(self, plural: str, namespace: str, name: str, uid: str) -> None:
        found = self._reader.get(("", plural), namespace, name)
        if found is None or found["metadata"].get("uid") != uid:
            raise BadCredentials(f"the token is bound to {plural} {namespace}/{name} ({uid}), which is gone")
        deleted = found["metadata"].get("deletionTimestamp")
        if deleted and self._clock.now() > parse_rfc3339(deleted) + GRACE:
            raise BadCredentials(f"the token is bound to {plural} {namespace}/{name}, which is being deleted")


def audiences_of(claims: Mapping[str, Any]) -> list[str]:
    """The ``aud`` claim as a list (RFC 7519 allows a single string)."""
    audience = claims.get("aud") or []
    return [audience] if isinstance(audience, str) else [str(one) for one in audience]

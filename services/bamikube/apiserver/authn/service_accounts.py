"""Service accounts by signed token.

A token says which service account it stands for and what it is bound to. The signature proves that the cluster
issued it (:mod:`bamikube.pki.tokens`); whether it still holds is asked of the cache every time: the service account
must exist with the same uid, and so must the pod, secret or node the token is bound to. Deleting any of them ends
the token.

Only what cannot change is remembered: that a signature is good. Expiry and bindings are looked at on every request.

Source: KEP-1205 (bound service account tokens), KEP-4193 (token improvements: jti, node).
"""

from __future__ import annotations

import base64
import hmac
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from bamikube.apiserver.authn.authenticator import BadCredentials, Identified
from bamikube.apiserver.identity import User
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.clock import Clock, parse_rfc3339
from bamikube.pki.tokens import Bound, TokenClaims, TokenError, TokenVerifier

INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
GRACE = 60.0  # seconds a token outlives the deletionTimestamp of what it is bound to, as in Kubernetes
_CACHE_LIMIT = 8192


class ServiceAccountMethod:
    """Authentication by service-account token."""

    def __init__(self, verifier: TokenVerifier, reader: Reader, clock: Clock) -> None:
        self._verifier = verifier
        self._reader = reader
        self._clock = clock
        self._verified: OrderedDict[tuple[str, tuple[str, ...]], TokenClaims] = OrderedDict()

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> Identified | None:
        """None when the token is not one of ours. ``audiences`` empty: the server's own."""
        claims = self._claims(token, tuple(audiences))
        if claims is None:
            return None
        if claims.expires and self._clock.now() >= claims.expires:
            raise BadCredentials("the service account token has expired")
        self._must_live("serviceaccounts", claims.namespace, Bound(claims.name, claims.uid))
        if claims.secret is not None:
            secret = self._must_live("secrets", claims.namespace, claims.secret)
            if not claims.secret.uid:
                _must_hold(secret, token)
        if claims.pod is not None:
            self._must_live("pods", claims.namespace, claims.pod)
        elif claims.node is not None:
            # With a pod, the node is information only: the pod is what the token is bound to.
            self._must_live("nodes", "", claims.node)
        user = User(claims.username, (*claims.groups, "system:authenticated"), claims.uid, claims.extra)
        return Identified(user, claims.audiences)

    def _claims(self, token: str, audiences: tuple[str, ...]) -> TokenClaims | None:
        key = (token, audiences)
        claims = self._verified.get(key)
        if claims is None:
            if not self._verifier.issued_here(token):
                return None
            try:
                claims = self._verifier.verify(token, audiences or None)
            except TokenError as problem:
                raise BadCredentials(f"the service account token is no good: {problem}") from problem
            if len(self._verified) >= _CACHE_LIMIT:
                self._verified.popitem(last=False)
            self._verified[key] = claims
        return claims

    def _must_live(self, plural: str, namespace: str, bound: Bound) -> dict[str, Any]:
        """What the token is bound to. Raises BadCredentials when it is gone."""
        where = f"{plural} {namespace}/{bound.name}" if namespace else f"{plural} {bound.name}"
        found = self._reader.get(("", plural), namespace, bound.name)
        # Tokens of secrets do not carry the secret's uid; everything else must be the very same object.
        if found is None or (bound.uid and found["metadata"].get("uid") != bound.uid):
            raise BadCredentials(f"the token is bound to {where} ({bound.uid}), which is gone")
        deleted = found["metadata"].get("deletionTimestamp")
        if deleted and self._clock.now() > parse_rfc3339(deleted) + GRACE:
            raise BadCredentials(f"the token is bound to {where}, which is being deleted")
        return found


def _must_hold(secret: dict[str, Any], token: str) -> None:
    """The token of a Secret names the Secret but not its uid: another one under the same name, or one whose token was
    replaced, must not make it good again. Raises BadCredentials."""
    where = f"{secret['metadata']['namespace']}/{secret['metadata']['name']}"
    held = (secret.get("data") or {}).get("token") or ""
    if not hmac.compare_digest(held.encode(), base64.b64encode(token.encode())):
        raise BadCredentials(f"the token is not the one in the secret {where}")
    if (secret["metadata"].get("labels") or {}).get(INVALID_SINCE):
        raise BadCredentials(f"the token in the secret {where} has been marked invalid")

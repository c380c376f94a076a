"""Service accounts by signed token.

A token says which service account it stands for and what it is bound to. The signature proves that the cluster
issued it (:mod:`bamikube.pki.tokens`); whether it still holds is asked of the cache every time: the service account
must exist with the same uid, and so must the pod, secret or node the token is bound to. Deleting any of them ends
the token. What is missing here may have been made a moment ago by way of another API server: before a token is
refused for something the cache does not hold, the cache catches up with the store.

Only what cannot change is remembered: that a signature is good, and whom the token names. Expiry, bindings and what to warn
of are looked at on every request.

Source: KEP-1205 (bound service account tokens), KEP-4193 (token improvements: jti, node).
"""

from __future__ import annotations

import base64
import hmac
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from bamikube.api import errors
from bamikube.apiserver.authn.authenticator import BadCredentials, Identified
from bamikube.apiserver.authn.token_uses import TokenUses
from bamikube.apiserver.identity import ALL_AUTHENTICATED, User
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.clock import Clock, parse_rfc3339
from bamikube.pki.tokens import TokenClaims, TokenError, TokenVerifier

INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
INVALIDATED = "service account token has been invalidated"
GRACE = 60.0  # seconds a token outlives the deletionTimestamp of what it is bound to, as in Kubernetes
_CACHE_LIMIT = 8192


class ServiceAccountMethod:
    """Authentication by service-account token."""

    def __init__(self, verifier: TokenVerifier, reader: Reader, clock: Clock, uses: TokenUses) -> None:
        self._verifier = verifier
        self._uses = uses
        self._reader = reader
        self._clock = clock
        self._verified: OrderedDict[tuple[str, tuple[str, ...]], tuple[TokenClaims, Identified]] = (
            OrderedDict()
        )

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> Identified | None:
        """None when the token is not one of ours. ``audiences`` empty: the server's own."""
        known = self._known(token, tuple(audiences))
        if known is None:
            return None
        claims, identified = known
        if claims.expires and self._clock.now() >= claims.expires:
            raise BadCredentials("service account token has expired")
        if self._problem(claims, token):  # as far as the cache knows
            if not await self._reader.consistent():
                raise errors.unavailable(
                    "what the service account token is bound to cannot be read at present; try again"
                )
            if problem := self._problem(claims, token):
                self._note_invalid(claims, problem)
                raise BadCredentials(problem)
        if warnings := self._noted(claims):
            user = identified.user
            return Identified(
                User(user.name, user.groups, user.uid, user.extra, warnings), identified.audiences
            )
        return identified

    def _noted(self, claims: TokenClaims) -> tuple[str, ...]:
        """Tell of the use of a token that is good. Returns what to warn the client of."""
        if claims.warn_after:
            self._uses.of_pod(claims)
        if claims.secret is None or claims.secret.uid:
            return ()
        secret = self._reader.get(("", "secrets"), claims.namespace, claims.secret.name)
        account = self._reader.get(("", "serviceaccounts"), claims.namespace, claims.name)
        return () if secret is None or account is None else self._uses.of_secret(secret, account, claims)

    def _note_invalid(self, claims: TokenClaims, problem: str) -> None:
        if claims.secret is not None and INVALID_SINCE in problem:
            secret = self._reader.get(("", "secrets"), claims.namespace, claims.secret.name)
            if secret is not None:
                self._uses.of_invalid(secret)

    def _known(self, token: str, audiences: tuple[str, ...]) -> tuple[TokenClaims, Identified] | None:
        """What a token that we have signed says, and whom it names; None when it is not one of ours."""
        key = (token, audiences)
        known = self._verified.get(key)
        if known is None:
            if not self._verifier.issued_here(token):
                return None
            try:
                claims = self._verifier.verify(token, audiences or None)
            except TokenError as problem:
                raise BadCredentials(str(problem)) from problem
            if len(self._verified) >= _CACHE_LIMIT:
                self._verified.popitem(last=False)
            groups = (*claims.groups, ALL_AUTHENTICATED)
            user = User(claims.username, groups, claims.uid, claims.extra)
            known = self._verified[key] = claims, Identified(user, claims.audiences)
        return known

    def _problem(self, claims: TokenClaims, token: str) -> str:
        """Why the token does not hold any more, in Kubernetes' words; "" when it does."""
        account = self._reader.get(("", "serviceaccounts"), claims.namespace, claims.name)
        if account is None:
            return f'serviceaccounts "{claims.name}" not found'
        if (uid := account["metadata"].get("uid", "")) != claims.uid:
            return f"service account UID ({uid}) does not match claim ({claims.uid})"
        if self._ended(account):
            return f"service account {claims.namespace}/{claims.name} has been deleted"
        if claims.secret is not None and not claims.secret.uid:
            return self._secret_problem(claims, claims.secret.name, token)
        # With a pod, the node is information only: the pod is what the token is bound to.
        node = claims.node if claims.pod is None else None
        for kind, bound in (("secret", claims.secret), ("pod", claims.pod), ("node", node)):
            if bound is None:
                continue
            found = self._reader.get(("", f"{kind}s"), "" if kind == "node" else claims.namespace, bound.name)
            if found is None or self._ended(found):
                return INVALIDATED
            if (uid := found["metadata"].get("uid", "")) != bound.uid:
                return f"{kind} UID ({uid}) does not match service account {kind} ref claim ({bound.uid})"
        return ""

    def _secret_problem(self, claims: TokenClaims, name: str, token: str) -> str:
        """The token of a Secret names the Secret but not its uid: another one under the same name, or one whose token
        was replaced, must not make it good again."""
        secret = self._reader.get(("", "secrets"), claims.namespace, name)
        if secret is None or secret["metadata"].get("deletionTimestamp"):
            return INVALIDATED
        held = (secret.get("data") or {}).get("token") or ""
        if not hmac.compare_digest(held.encode(), base64.b64encode(token.encode())):
            return "service account token doesn't match server's copy"
        if (secret["metadata"].get("labels") or {}).get(INVALID_SINCE):
            return (
                f"the token in secret {claims.namespace}/{name} for service account {claims.namespace}/{claims.name} "
                "has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based "
                f"tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
            )
        return ""

    def _ended(self, found: dict[str, Any]) -> bool:
        """Whether it has been on its way out for longer than the grace."""
        deleted = found["metadata"].get("deletionTimestamp")
        return bool(deleted) and self._clock.now() > parse_rfc3339(deleted) + GRACE

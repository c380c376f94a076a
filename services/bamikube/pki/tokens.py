"""Service account tokens: signed, verified, and published as JWKS.

Claims follow Kubernetes' own (KEP-1205 bound tokens, KEP-4193 node and ``jti``):

    {"iss": "https://kubernetes.default.svc.cluster.local", "aud": ["..."], "sub": "system:serviceaccount:ns:name",
     "iat": 1, "nbf": 1, "exp": 3601, "jti": "uuid",
     "kubernetes.io": {"namespace": "ns", "serviceaccount": {"name": "name", "uid": "..."},
                       "pod": {"name": "...", "uid": "..."}, "node": {...}, "secret": {...}}}

Secrets of type ``kubernetes.io/service-account-token`` carry the older flat form without an expiry. Times are checked
here against the injected clock, never by the JWT library. Whether the bound objects still exist is the API
server's question: it alone knows.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from bamikube.kit.world import World
from bamikube.pki import keys

LEGACY_ISSUER = "kubernetes/serviceaccount"
_LEGACY = "kubernetes.io/serviceaccount/"
# Clocks of API servers may differ by this many seconds.
LEEWAY = 10
MIN_LIFETIME = 600
_EXTRA = "authentication.kubernetes.io/"


class TokenError(Exception):
    """The token is not to be believed; the message says why, without repeating the token."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An object a token is bound to: the token dies with it."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a verified token says."""

    namespace: str
    name: str
    uid: str
    audiences: tuple[str, ...] = ()
    expires: float = 0.0  # seconds since the epoch; 0: never
    warn_after: float = 0.0  # from then on its use is a program's mistake; 0: no such time
    jti: str = ""
    pod: Bound | None = None
    node: Bound | None = None
    secret: Bound | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def username(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def groups(self) -> tuple[str, ...]:
        return ("system:serviceaccounts", f"system:serviceaccounts:{self.namespace}")

    @property
    def extra(self) -> dict[str, tuple[str, ...]]:
        """The user's ``extra``: which credential it was and what it is bound to."""
        found: dict[str, tuple[str, ...]] = {}
        if self.jti:
            found[f"{_EXTRA}credential-id"] = (f"JTI={self.jti}",)
        for kind, bound in (("pod", self.pod), ("node", self.node)):
            if bound is not None:
                found[f"{_EXTRA}{kind}-name"] = (bound.name,)
                if bound.uid:
                    found[f"{_EXTRA}{kind}-uid"] = (bound.uid,)
        return found


class TokenSigner:
    """Makes tokens. ``private_pem`` is ``sa.key``; ``issuer`` the API server's ``--service-account-issuer``."""

    def __init__(self, private_pem: bytes, issuer: str, world: World) -> None:
        key = keys.load_private(private_pem)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError(
                "service account tokens are signed with an RSA key (RS256); this key is of another kind"
            )
        self.issuer = issuer
        self._key = key
        self._world = world
        self._headers = {"kid": keys.key_id(key.public_key())}

    def sign(
        self,
        namespace: str,
        name: str,
        uid: str,
        *,
        audiences: Sequence[str],
        lifetime: int = 3600,
        pod: Bound | None = None,
        node: Bound | None = None,
        secret: Bound | None = None,
        warn_after: int = 0,
        jti: str = "",
    ) -> tuple[str, float]:
        """A bound token and when it expires (seconds since the epoch). ``lifetime`` and ``warn_after`` are in
        seconds; ``jti`` is made when not given."""
        now = int(self._world.clock.now())
        private: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
        for kind, bound in (("pod", pod), ("node", node), ("secret", secret)):
            if bound is not None:
                private[kind] = {"name": bound.name} | ({"uid": bound.uid} if bound.uid else {})
        if warn_after:
            private["warnafter"] = now + warn_after
        claims = {
            "aud": list(audiences),
            "exp": now + lifetime,
            "iat": now,
            "iss": self.issuer,
            "jti": jti or self._world.chance.uuid(),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        return self._encode(claims), float(now + lifetime)

    def sign_secret(self, namespace: str, name: str, uid: str, secret: str) -> str:
        """The token of a ``kubernetes.io/service-account-token`` secret: no expiry, no audience."""
        return self._encode(
            {
                "iss": LEGACY_ISSUER,
                f"{_LEGACY}namespace": namespace,
                f"{_LEGACY}secret.name": secret,
                f"{_LEGACY}service-account.name": name,
                f"{_LEGACY}service-account.uid": uid,
                "sub": f"system:serviceaccount:{namespace}:{name}",
            }
        )

    def _encode(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self._key, algorithm="RS256", headers=self._headers)


class TokenVerifier:
    """Believes tokens signed by one of ``public_pems`` and issued by one of ``issuers``."""

    def __init__(
        self,
        public_pems: Sequence[bytes],
        issuers: Sequence[str],
        world: World,
        *,
        audiences: Sequence[str] = (),
    ) -> None:
        """``audiences`` are the API server's own (default: the first issuer)."""
        self._keys = [_rsa(keys.load_public(pem)) for pem in public_pems]
        self._by_id = {keys.key_id(key): key for key in self._keys}
        self._issuers = tuple(issuers)
        self._world = world
        self.audiences = tuple(audiences) or tuple(issuers[:1])

    def issued_here(self, token: str) -> bool:
        """Whether the token claims to be ours: if not, another authenticator may know it. Proves nothing."""
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            return False
        return claims.get("iss") in (*self._issuers, LEGACY_ISSUER)

    def verify(self, token: str, audiences: Sequence[str] | None = None) -> TokenClaims:
        """What the token says, if it is to be believed by one of ``audiences`` (default: the API server's own).

        ``TokenClaims.audiences`` then are those of the wanted audiences the token is for. Raises :class:`TokenError`.
        """
        claims = self._decode(token)
        issuer = claims.get("iss")
        if issuer == LEGACY_ISSUER:
            return self._legacy(claims)
        if issuer not in self._issuers:
            raise TokenError(f"the token was issued by {issuer!r}, which this server does not know")
        now = self._world.clock.now()
        expires, not_before = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(expires, int | float) or not isinstance(not_before, int | float):
            raise TokenError("the token's times are missing or no numbers")
        if now >= expires + LEEWAY:
            raise TokenError("service account token has expired")
        if now + LEEWAY < not_before:
            raise TokenError("the token is not valid yet")
        wanted = tuple(audiences) if audiences else self.audiences
        carried = claims.get("aud") or []
        carried = [carried] if isinstance(carried, str) else carried
        common = tuple(audience for audience in wanted if audience in carried)
        if not common:
            raise TokenError(
                f"token audiences {_quoted(carried)} is invalid for the target audiences {_quoted(wanted)}"
            )
        return _bound_claims(claims, common, float(expires))

    def _decode(self, token: str) -> dict[str, Any]:
        """The claims of a token whose signature holds."""
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except jwt.InvalidTokenError as error:
            raise TokenError("the token is not a JWT") from error
        candidates = [self._by_id[kid]] if kid in self._by_id else self._keys
        options: Any = {"verify_signature": True} | dict.fromkeys(
            (
                "verify_exp",
                "verify_nbf",
                "verify_iat",
                "verify_aud",
                "verify_iss",
                "verify_sub",
                "verify_jti",
            ),
            False,
        )
        for key in candidates:
            try:
                claims = jwt.decode(token, key, algorithms=["RS256"], options=options)
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidTokenError as error:
                raise TokenError(f"the token cannot be decoded: {error}") from error
            return dict(claims)
        raise TokenError("the token's signature does not match any known key")

    def _legacy(self, claims: dict[str, Any]) -> TokenClaims:
        namespace = str(claims.get(f"{_LEGACY}namespace") or "")
        name = str(claims.get(f"{_LEGACY}service-account.name") or "")
        uid = str(claims.get(f"{_LEGACY}service-account.uid") or "")
        secret = str(claims.get(f"{_LEGACY}secret.name") or "")
        if not (namespace and name and uid and secret):
            raise TokenError("the token does not name its service account and secret")
        if claims.get("sub") != f"system:serviceaccount:{namespace}:{name}":
            raise TokenError("the token's subject is not its service account")
        return TokenClaims(namespace, name, uid, self.audiences, secret=Bound(secret, ""), raw=claims)

    def jwks(self) -> dict[str, Any]:
        """The document at ``/openid/v1/jwks`` (RFC 7517)."""
        return {"keys": [_jwk(kid, key) for kid, key in self._by_id.items()]}

    def openid_configuration(self, jwks_uri: str) -> dict[str, Any]:
        """The document at ``/.well-known/openid-configuration`` (OpenID Connect Discovery 1.0)."""
        return {
            "issuer": self._issuers[0],
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }


def _bound_claims(claims: dict[str, Any], audiences: tuple[str, ...], expires: float) -> TokenClaims:
    private = claims.get("kubernetes.io")
    account = private.get("serviceaccount") if isinstance(private, dict) else None
    if not isinstance(private, dict) or not isinstance(account, dict):
        raise TokenError("the token does not name a service account")
    namespace, name, uid = (
        str(v or "") for v in (private.get("namespace"), account.get("name"), account.get("uid"))
    )
    if not (namespace and name) or claims.get("sub") != f"system:serviceaccount:{namespace}:{name}":
        raise TokenError("the token's subject is not its service account")
    pod, node, secret = (_bound(private.get(kind)) for kind in ("pod", "node", "secret"))
    warn_after = private.get("warnafter")
    warn_after = float(warn_after) if isinstance(warn_after, int | float) else 0.0
    jti = str(claims.get("jti") or "")
    return TokenClaims(namespace, name, uid, audiences, expires, warn_after, jti, pod, node, secret, claims)


def _quoted(audiences: Sequence[str]) -> str:
    """A list as Go prints it."""
    return f"[{' '.join(json.dumps(str(one)) for one in audiences)}]"


def _bound(found: object) -> Bound | None:
    if not isinstance(found, dict) or not found.get("name"):
        return None
    return Bound(str(found["name"]), str(found.get("uid") or ""))


def _rsa(key: keys.PublicKey) -> rsa.RSAPublicKey:
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError(
            "service account tokens are verified with an RSA key (RS256); this key is of another kind"
        )
    return key


def _jwk(kid: str, key: rsa.RSAPublicKey) -> dict[str, str]:
    numbers = key.public_numbers()

    def encode(number: int) -> str:
        data = number.to_bytes((number.bit_length() + 7) // 8, "big")
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    return {
        "use": "sig",
        "kty": "RSA",
        "kid": kid,
        "alg": "RS256",
        "n": encode(numbers.n),
        "e": encode(numbers.e),
    }

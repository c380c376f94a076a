"""Service account tokens: what they say, whom they convince, and when they stop."""

from __future__ import annotations

import jwt
import pytest

from bamikube.kit.chance import Chance
from bamikube.kit.world import World
from bamikube.pki import keys
from bamikube.pki.tokens import Bound, TokenError, TokenSigner, TokenVerifier

ISSUER = "https://kubernetes.default.svc.cluster.local"
KEY, OTHER = (keys.new_rsa_key() for _ in range(2))


class SetClock:
    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def signer(clock: SetClock) -> TokenSigner:
    return TokenSigner(keys.private_pem(KEY), ISSUER, World(clock, Chance(1)))


@pytest.fixture
def verifier(clock: SetClock) -> TokenVerifier:
    pems = [keys.public_pem(OTHER.public_key()), keys.public_pem(KEY.public_key())]
    return TokenVerifier(pems, [ISSUER], World(clock, Chance(1)))


def test_what_a_bound_token_says(signer: TokenSigner, verifier: TokenVerifier) -> None:
    token, expires = signer.sign(
        "ns", "sa", "uid-1", audiences=[ISSUER, "vault"], pod=Bound("p", "uid-2"), node=Bound("n", "uid-3")
    )
    found = verifier.verify(token)
    assert (found.username, found.uid, found.expires) == ("system:serviceaccount:ns:sa", "uid-1", expires)
    assert found.groups == ("system:serviceaccounts", "system:serviceaccounts:ns")
    assert (found.pod, found.node, found.secret) == (Bound("p", "uid-2"), Bound("n", "uid-3"), None)
    assert found.extra["authentication.kubernetes.io/pod-name"] == ("p",)
    assert found.extra["authentication.kubernetes.io/credential-id"] == (f"JTI={found.jti}",)
    assert found.raw["kubernetes.io"]["serviceaccount"] == {"name": "sa", "uid": "uid-1"}
    assert found.audiences == (ISSUER,)
    assert verifier.verify(token, ["other", "vault"]).audiences == ("vault",)


def test_times_are_the_clocks(signer: TokenSigner, verifier: TokenVerifier, clock: SetClock) -> None:
    token, expires = signer.sign("ns", "sa", "u", audiences=[ISSUER], lifetime=600)
    clock.time = expires - 1
    verifier.verify(token)
    clock.time = expires + 10
    with pytest.raises(TokenError, match="expired"):
        verifier.verify(token)
    clock.time = expires - 700
    with pytest.raises(TokenError, match="not valid yet"):
        verifier.verify(token)


def test_whom_it_does_not_convince(signer: TokenSigner, verifier: TokenVerifier, clock: SetClock) -> None:
    token, _ = signer.sign("ns", "sa", "u", audiences=["vault"])
    with pytest.raises(TokenError, match="is invalid for the target audiences"):
        verifier.verify(token)
    head, body, signature = token.split(".")
    for forged in ("", "x", f"{head}.{body}.", f"{head}.{body}.{signature[:-8]}AAAAAAAA"):
        with pytest.raises(TokenError):
            verifier.verify(forged, ["vault"])
    unsigned = jwt.encode(jwt.decode(token, options={"verify_signature": False}), "", algorithm="none")
    with pytest.raises(TokenError):
        verifier.verify(unsigned, ["vault"])
    stranger = TokenSigner(keys.private_pem(keys.new_rsa_key()), ISSUER, World(clock, Chance(1)))
    with pytest.raises(TokenError, match="signature"):
        verifier.verify(stranger.sign("ns", "sa", "u", audiences=[ISSUER])[0])
    elsewhere = TokenSigner(keys.private_pem(KEY), "https://elsewhere", World(clock, Chance(1)))
    foreign, _ = elsewhere.sign("ns", "sa", "u", audiences=[ISSUER])
    assert not verifier.issued_here(foreign) and verifier.issued_here(token)
    with pytest.raises(TokenError, match="elsewhere"):
        verifier.verify(foreign)


def test_a_symmetric_signature_with_the_public_key_is_refused(verifier: TokenVerifier) -> None:
    import base64
    import hashlib
    import hmac

    import orjson

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()

    text = (
        f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'iss': ISSUER, 'sub': 'system:serviceaccount:a:b'})}"
    )
    digest = hmac.new(keys.public_pem(KEY.public_key()), text.encode(), hashlib.sha256).digest()
    with pytest.raises(TokenError):
        verifier.verify(f"{text}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}")


def test_the_token_of_a_secret_does_not_expire(
    signer: TokenSigner, verifier: TokenVerifier, clock: SetClock
) -> None:
    token = signer.sign_secret("ns", "sa", "u", "sa-token")
    clock.time += 1e9
    found = verifier.verify(token)
    assert (found.username, found.secret, found.expires) == (
        "system:serviceaccount:ns:sa",
        Bound("sa-token", ""),
        0.0,
    )


def test_published_keys_verify_tokens(signer: TokenSigner, verifier: TokenVerifier) -> None:
    token, _ = signer.sign("ns", "sa", "u", audiences=["a"])
    published = jwt.PyJWKSet.from_dict(verifier.jwks())
    key = published[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(
        token,
        key.key,
        algorithms=["RS256"],
        audience="a",
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    assert claims["sub"] == "system:serviceaccount:ns:sa"
    document = verifier.openid_configuration(f"{ISSUER}/openid/v1/jwks")
    assert document["issuer"] == ISSUER and document["jwks_uri"].endswith("/openid/v1/jwks")


def test_an_ec_key_signs_no_tokens() -> None:
    with pytest.raises(ValueError, match="RSA"):
        TokenSigner(keys.private_pem(keys.new_ec_key()), ISSUER, World())

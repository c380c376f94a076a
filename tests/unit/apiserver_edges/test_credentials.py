"""Certificates, tokens, the front proxy, and acting as somebody else."""

from __future__ import annotations

import base64
import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from bamikube.api.errors import ApiError
from bamikube.apiserver.authn import Authenticator, BadCredentials, impersonate
from bamikube.apiserver.authn.bootstrap_tokens import BootstrapTokenMethod
from bamikube.apiserver.authn.front_proxy import FrontProxyMethod
from bamikube.apiserver.authn.service_accounts import ServiceAccountMethod
from bamikube.apiserver.authn.token_file import TokenFileMethod, parse
from bamikube.apiserver.authn.token_uses import TokenUses
from bamikube.apiserver.authn.x509 import Certificates, X509Method
from bamikube.apiserver.authz.verdict import Verdict
from bamikube.apiserver.identity import User
from bamikube.kit.clock import SystemClock
from bamikube.kit.http import Peer, Request
from bamikube.kit.world import World
from bamikube.pki.tokens import Bound, TokenSigner, TokenVerifier

NOW = datetime.datetime.now(datetime.UTC)
ISSUER = "https://kubernetes.default.svc.cluster.local"


class Authority:
    def __init__(self, name: str, *, days: float = 1) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key, ca=True, days=days)

    def issue(self, name: str, *groups: str, days: float = 1) -> bytes:
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        parts += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        made = self._sign(x509.Name(parts), ec.generate_private_key(ec.SECP256R1()), days=days)
        return made.public_bytes(serialization.Encoding.DER)

    def _sign(self, subject: x509.Name, key: Any, *, ca: bool = False, days: float = 1) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=9))
            .not_valid_after(NOW + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .sign(self.key, hashes.SHA256())
        )


CLUSTER, FRONT = Authority("kubernetes"), Authority("front-proxy")


def showing(der: bytes | None, **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request.make("GET", "/api", headers=named, peer=Peer("127.0.0.1", der))


def authenticator(**more: Any) -> Authenticator:
    clock = SystemClock()
    methods = [
        FrontProxyMethod(Certificates([FRONT.certificate]), clock, allowed_names=["front-proxy-client"]),
        X509Method(Certificates([CLUSTER.certificate]), clock),
    ]
    return Authenticator(methods, **more)


async def test_a_certificate_names_user_and_groups() -> None:
    user = await authenticator().authenticate(showing(CLUSTER.issue("alice", "dev", "ops")))
    assert user is not None
    assert (user.name, user.groups) == ("alice", ("dev", "ops", "system:authenticated"))


async def test_certificates_of_the_front_proxy_ca_are_no_users() -> None:
    user = await authenticator().authenticate(showing(FRONT.issue("alice", "system:masters")))
    assert user is not None and user.name == "system:anonymous"
    with pytest.raises(ApiError) as caught:
        await authenticator().authenticate(showing(FRONT.issue("mallory"), x_remote_user="alice"))
    assert caught.value.code == 401
    shown = showing(
        FRONT.issue("front-proxy-client"),
        x_remote_user="alice",
        x_remote_group="a\nb,system:masters",
        x_remote_extra_k="v",
    )
    user = await authenticator().authenticate(shown)
    assert user == User("alice", ("a", "b,system:masters", "system:authenticated"), "", {"k": ("v",)})
    # A user's own certificate does not make the headers count.
    user = await authenticator().authenticate(showing(CLUSTER.issue("bob"), x_remote_user="admin"))
    assert user is not None and user.name == "bob"


async def test_expired_certificates_and_unknown_tokens_are_401_no_credentials_are_anonymous() -> None:
    with pytest.raises(ApiError) as caught:
        await authenticator().authenticate(showing(CLUSTER.issue("alice", days=-1)))
    assert (caught.value.code, caught.value.message) == (401, "Unauthorized")
    old = Authority("kubernetes", days=-1)  # nor does a certificate hold longer than its CA's
    with pytest.raises(BadCredentials, match="expired"):
        await X509Method(Certificates([old.certificate]), SystemClock()).authenticate(
            showing(old.issue("alice"))
        )
    with pytest.raises(ApiError):
        await authenticator().authenticate(showing(None, authorization="Bearer nonsense"))
    user = await authenticator().authenticate(showing(None))
    assert user is not None and user.groups == ("system:unauthenticated",)
    assert await authenticator(anonymous=False).authenticate(showing(None)) is None


async def test_anonymous_requests_are_let_in_only_at_the_paths_given() -> None:
    answer = authenticator(anonymous_paths=["/healthz", "/livez"])
    for path, let_in in [("/healthz", True), ("/livez", True), ("/livez/etcd", False), ("/api", False)]:
        user = await answer.authenticate(Request.make("GET", path))
        assert (user is not None) == let_in, path
    # Credentials count everywhere, and bad ones are bad where anonymous requests are welcome.
    with pytest.raises(ApiError):
        await answer.authenticate(Request.make("GET", "/healthz", headers={"authorization": "Bearer x"}))


async def test_the_token_file_and_its_mistakes() -> None:
    users = parse('secret,alice,u1,"dev,ops"\nother,bob,u2\n', "tokens.csv")
    answer = authenticator(tokens=[TokenFileMethod(users)], audiences=[ISSUER])
    user = await answer.authenticate(showing(None, authorization="Bearer secret"))
    assert user == User("alice", ("dev", "ops", "system:authenticated"), "u1")
    assert (await answer.review("other", [])).audiences == (ISSUER,)
    with pytest.raises(BadCredentials):
        await answer.review("other", ["somebody-else"])
    with pytest.raises(ValueError, match=r"tokens\.csv line 1"):
        parse("a,b", "tokens.csv")


def accounts(reader: Any) -> tuple[TokenSigner, Authenticator]:
    """A signer of tokens, and who believes them as far as ``reader`` holds what they are bound to."""
    world = World()
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    verifier = TokenVerifier([public], [ISSUER], world)
    method = ServiceAccountMethod(verifier, reader, world.clock, TokenUses(world))
    return TokenSigner(private, ISSUER, world), Authenticator([], tokens=[method], audiences=[ISSUER])


async def test_what_another_server_has_just_made_is_no_reason_to_refuse_a_token(reader: Any) -> None:
    signer, answer = accounts(reader)
    late: list[tuple[str, dict[str, Any]]] = []
    behind = False

    async def consistent(timeout: float = 3.0) -> bool:
        for plural, obj in late:
            reader.put(("", plural), obj)
        return not behind

    reader.consistent = consistent
    account = {"metadata": {"name": "bot", "namespace": "web", "uid": "a1"}}
    pod = {"metadata": {"name": "p", "namespace": "web", "uid": "p1"}}
    token, _ = signer.sign("web", "bot", "a1", audiences=[ISSUER], pod=Bound("p", "p1"))
    for uid in ("", "old"):  # the pod is missing here, or still the one before
        reader.objects.clear()
        if uid:
            reader.put(("", "pods"), {"metadata": {**pod["metadata"], "uid": uid}})
        late = [("serviceaccounts", account), ("pods", pod)]
        user = await answer.authenticate(showing(None, authorization=f"Bearer {token}"))
        assert user is not None and user.name == "system:serviceaccount:web:bot"
    late = [("pods", {"metadata": {**pod["metadata"], "uid": "p2"}})]
    reader.drop(("", "pods"), "web", "p")
    words = r"pod UID \(p2\) does not match service account pod ref claim \(p1\)"
    with pytest.raises(BadCredentials, match=words):
        await answer.review(token, [])
    # Who does not know whether the token holds does not say that it does not.
    reader.objects.clear()
    late, behind = [], True
    with pytest.raises(ApiError) as caught:
        await answer.authenticate(showing(None, authorization=f"Bearer {token}"))
    assert caught.value.code == 503


async def test_service_account_tokens_live_as_long_as_what_they_are_bound_to(reader: Any) -> None:
    signer, answer = accounts(reader)
    account = {"metadata": {"name": "bot", "namespace": "web", "uid": "a1"}}
    reader.put(("", "serviceaccounts"), account)
    reader.put(("", "pods"), {"metadata": {"name": "p", "namespace": "web", "uid": "p1"}})
    token, _ = signer.sign("web", "bot", "a1", audiences=[ISSUER], pod=Bound("p", "p1"))
    user = await answer.authenticate(showing(None, authorization=f"Bearer {token}"))
    assert user is not None and user.name == "system:serviceaccount:web:bot" and user.uid == "a1"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:web", "system:authenticated")
    assert user.extra["authentication.kubernetes.io/pod-uid"] == ("p1",)
    again = await answer.authenticate(showing(None, authorization=f"Bearer {token}"))
    assert again is user  # remembered; whether it holds is not, as below
    other, _ = signer.sign("web", "bot", "a1", audiences=["vault"])
    with pytest.raises(ApiError):
        await answer.authenticate(showing(None, authorization=f"Bearer {other}"))
    assert (await answer.review(other, ["vault", "x"])).audiences == ("vault",)
    words = r'^token audiences \["vault"\] is invalid for the target audiences \["x" "y"\]$'
    with pytest.raises(BadCredentials, match=words):
        await answer.review(other, ["x", "y"])
    with pytest.raises(BadCredentials, match=r"^$"):  # nobody knows it
        await answer.review("abc", [])
    reader.drop(("", "pods"), "web", "p")
    with pytest.raises(ApiError):
        await answer.authenticate(showing(None, authorization=f"Bearer {token}"))
    plain, _ = signer.sign("web", "bot", "a1", audiences=[ISSUER])
    await answer.authenticate(showing(None, authorization=f"Bearer {plain}"))
    reader.put(("", "serviceaccounts"), {"metadata": {**account["metadata"], "uid": "a2"}})
    with pytest.raises(ApiError):
        await answer.authenticate(showing(None, authorization=f"Bearer {plain}"))
    # The token of a Secret is good while it is the one in the Secret, and no longer.
    kept = signer.sign_secret("web", "bot", "a2", "t")
    meta = {"name": "t", "namespace": "web", "uid": "s1"}
    data = {"token": base64.b64encode(kept.encode()).decode()}
    reader.put(("", "secrets"), {"metadata": meta, "data": data})
    assert await answer.authenticate(showing(None, authorization=f"Bearer {kept}"))
    marked = {**meta, "labels": {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}}
    for other_secret in ({"metadata": meta, "data": {"token": ""}}, {"metadata": marked, "data": data}):
        reader.put(("", "secrets"), other_secret)
        with pytest.raises(ApiError):
            await answer.authenticate(showing(None, authorization=f"Bearer {kept}"))
    with pytest.raises(
        BadCredentials, match="token in secret web/t for service account web/bot has been marked"
    ):
        await answer.review(kept, [])


class Allows:
    """Authorizes what is listed, as (resource, name)."""

    def __init__(self, *allowed: tuple[str, str]) -> None:
        self.allowed = allowed

    def authorize(self, attributes: Any) -> Verdict:
        return Verdict((attributes.resource, attributes.name) in self.allowed)


def test_impersonation_needs_the_right_to_every_part() -> None:
    me = User("me")
    asked = showing(None, impersonate_user="bob", impersonate_group="dev\nops")
    allowed = Allows(("users", "bob"), ("groups", "dev"), ("groups", "ops"))
    assert impersonate(asked, me, allowed) == User("bob", ("dev", "ops", "system:authenticated"))
    with pytest.raises(ApiError, match='cannot impersonate resource "groups"'):
        impersonate(asked, me, Allows(("users", "bob"), ("groups", "dev")))
    account = showing(None, impersonate_user="system:serviceaccount:web:bot")
    became = impersonate(account, me, Allows(("serviceaccounts", "bot")))
    assert "system:serviceaccounts:web" in became.groups
    with pytest.raises(ApiError) as caught:
        impersonate(showing(None, impersonate_group="dev"), me, allowed)
    assert caught.value.code == 400
    assert impersonate(showing(None), me, Allows()) is me


BOOTSTRAP = {
    "token-id": "abcdef",
    "token-secret": "0123456789abcdef",
    "usage-bootstrap-authentication": "true",
    "auth-extra-groups": "system:bootstrappers:worker,system:bootstrappers:ingress",
}


@pytest.mark.parametrize(
    ("changed", "known"),
    [
        ({}, True),
        ({"expiration": "2999-01-01T00:00:00Z"}, True),
        ({"expiration": "2020-01-01T00:00:00Z"}, False),
        ({"expiration": "soon"}, False),
        ({"token-secret": "fedcba9876543210"}, False),
        ({"token-id": "fedcba"}, False),
        ({"usage-bootstrap-authentication": "false"}, False),
        ({"auth-extra-groups": "system:masters"}, False),
    ],
)
async def test_bootstrap_tokens(reader: Any, changed: dict[str, str], known: bool) -> None:
    late: list[dict[str, Any]] = []

    async def consistent(timeout: float = 3.0) -> bool:
        for secret in late:
            reader.put(("", "secrets"), secret)
        return True

    reader.consistent = consistent
    answer = Authenticator([], tokens=[BootstrapTokenMethod(reader, SystemClock())], audiences=[ISSUER])
    data = {key: base64.b64encode(value.encode()).decode() for key, value in (BOOTSTRAP | changed).items()}
    made = {
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "data": data,
    }
    for token in ("abcdef.0123456789abcdef", "abcdef.0123", "ABCDEF.0123456789abcdef"):
        with pytest.raises(BadCredentials):
            await answer.review(token, [])
    late = [made]  # by way of another server
    if not known:
        with pytest.raises(BadCredentials):
            await answer.review("abcdef.0123456789abcdef", [])
        return
    user = (await answer.review("abcdef.0123456789abcdef", [])).user
    assert user.name == "system:bootstrap:abcdef"
    extra = ("system:bootstrappers:ingress", "system:bootstrappers:worker")
    assert user.groups == ("system:bootstrappers", *extra, "system:authenticated")
    for changed_secret in (
        {**made, "type": "Opaque"},
        {**made, "metadata": made["metadata"] | {"deletionTimestamp": "x"}},
    ):  # type: ignore[dict-item, operator]
        reader.put(("", "secrets"), changed_secret)
        with pytest.raises(BadCredentials):
            await answer.review("abcdef.0123456789abcdef", [])

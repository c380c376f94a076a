"""What becomes of requests for certificates, and of the Secrets of accounts: the decisions alone."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bamikube.api.times import seconds
from bamikube.controllers.accounttokens import belongs, filled
from bamikube.controllers.bootstraptokens import remaining as remaining_of_token
from bamikube.controllers.certificates import OTHER, SELF, kubelet_permissions, remaining, signing
from bamikube.controllers.options import ControllersOptions
from bamikube.kit.world import World
from bamikube.pki import keys, signers
from bamikube.pki.authority import Authority, AuthorityFiles

Object = dict[str, Any]

NODE = ("digital signature", "client auth")
DNS = x509.DNSName("n1.example.com")


def asked(
    name: str = "system:node:n1",
    group: str = "system:nodes",
    signer: str = signers.KUBELET_CLIENT,
    usages: tuple[str, ...] = NODE,
    names: tuple[x509.GeneralName, ...] = (),
    **status: Any,
) -> Object:
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = builder.sign(keys.new_ec_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    spec = {"request": base64.b64encode(made).decode(), "signerName": signer, "usages": list(usages)}
    meta = {"name": "r", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": meta, "spec": spec | {"username": "system:node:n1"}, "status": status}


def condition(kind: str, stamp: str = "2026-01-01T02:00:00Z") -> Object:
    return {"type": kind, "status": "True", "lastUpdateTime": stamp}


def test_only_undecided_requests_of_kubelets_approve_themselves() -> None:
    assert kubelet_permissions(asked()) == [SELF, OTHER]
    assert kubelet_permissions(asked(name="system:node:n2")) == [OTHER]
    assert kubelet_permissions(asked(conditions=[condition("Denied")])) == []
    assert kubelet_permissions(asked(signer=signers.CLIENT)) == []
    assert kubelet_permissions(asked(group="system:masters")) == []
    broken = asked()
    broken["spec"]["request"] = "Zm9v"
    assert kubelet_permissions(broken) == []


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (asked(), ""),
        (asked(names=(DNS,)), "DNS subjectAltNames are not allowed"),
        (asked(group="x"), "subject organization is not system:nodes"),
        (asked(name="n1"), "subject common name does not begin with system:node:"),
        (
            asked(usages=("client auth",)),
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (asked(signer=signers.KUBELET_SERVING, usages=NODE), "DNS or IP subjectAltName is required"),
        (asked(signer=signers.CLIENT, usages=("client auth",)), ""),
        (
            asked(signer=signers.CLIENT, usages=("client auth", "cert sign")),
            "invalid usage for client certificate: cert sign",
        ),
        (
            asked(signer=signers.CLIENT, usages=("digital signature",)),
            "missing required usage for client certificate: client auth",
        ),
    ],
)
def test_signers_say_what_they_do_not_take(request_: Object, why: str) -> None:
    assert signing(request_, 9000) == signing(
        request_ | {"status": {"conditions": []}}, 9000
    )  # nobody approved
    plan = signing(request_ | {"status": {"conditions": [condition("Approved")]}}, 9000)
    assert plan.failure == why
    assert (plan.request is None) == bool(why)
    elsewhere = asked(signer="example.com/x", conditions=[condition("Approved")])
    assert signing(elsewhere, 9000).request is None and signing(elsewhere, 9000).failure == ""


def test_a_certificate_says_what_was_asked_and_no_more() -> None:
    world = World()
    authority, now = Authority.create("kubernetes", world), world.clock.now()
    usages = ("digital signature", "server auth")
    request = signers.read(
        asked(signer=signers.KUBELET_SERVING, usages=usages, names=(DNS,))["spec"]["request"]
    )
    pem = signers.certificate(authority, request, usages, 3600, now)
    made = x509.load_pem_x509_certificate(pem)
    made.verify_directly_issued_by(authority.certificate)
    assert made.subject == request.subject
    assert made.not_valid_after_utc.timestamp() == int(now) + 3600
    assert made.not_valid_before_utc.timestamp() == int(now) - 300
    get = made.extensions.get_extension_for_class
    assert list(get(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert list(get(x509.SubjectAlternativeName).value) == [DNS]
    assert not get(x509.KeyUsage).value.key_cert_sign and not get(x509.BasicConstraints).value.ca
    long = x509.load_pem_x509_certificate(
        signers.certificate(authority, request, usages, 20 * 365 * 86_400, now)
    )
    assert long.not_valid_after_utc == authority.certificate.not_valid_after_utc
    assert [signers.lifetime(one, 7200) for one in (None, 60, 3600, 9000)] == [7200, 600, 3600, 7200]
    forged = bytearray(base64.b64decode(asked()["spec"]["request"]))
    der = bytearray(x509.load_pem_x509_csr(bytes(forged)).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    lines = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(bytes(der))
    with pytest.raises(ValueError):
        signers.read(base64.b64encode(lines + b"-----END CERTIFICATE REQUEST-----\n").decode())


def test_requests_go_when_they_have_served_their_time() -> None:
    start = 1_767_225_600.0  # 2026-01-01T00:00:00Z
    assert remaining(asked(), start) == 86_400
    assert remaining(asked(conditions=[condition("Approved")]), start) == 86_400
    assert remaining(asked(conditions=[condition("Denied")]), start + 7200) == 3600
    authority = Authority.create("kubernetes", World())
    pem = base64.b64encode(authority.certificate_pem).decode()
    done = asked(conditions=[condition("Approved")], certificate=pem)
    assert remaining(done, start + 7200) == 3600
    assert remaining(done, authority.certificate.not_valid_after_utc.timestamp()) <= 0


def test_each_signer_has_its_own_authority_or_all_have_one() -> None:
    made = ControllersOptions(
        kubeconfig="k", cluster_signing_cert_file="ca.crt", cluster_signing_key_file="ca.key"
    )
    assert made.signing_files() == dict.fromkeys(signers.SIGNERS, ("ca.crt", "ca.key"))
    own = {
        "cluster_signing_kubelet_serving_cert_file": "s.crt",
        "cluster_signing_kubelet_serving_key_file": "s.key",
    }
    one = ControllersOptions(kubeconfig="k", **own)
    assert one.signing_files() == {signers.KUBELET_SERVING: ("s.crt", "s.key")}
    assert ControllersOptions(kubeconfig="k").signing_files() == {}
    for wrong, why in (
        (
            {"cluster_signing_cert_file": "c"},
            "--cluster-signing-cert-file and --cluster-signing-key-file are given",
        ),
        (
            {"cluster_signing_legacy_unknown_key_file": "k"},
            "--cluster-signing-legacy-unknown-cert-file and --cluster-signing-legacy-unknown-key-file are given",
        ),
        (
            {"cluster_signing_cert_file": "c", "cluster_signing_key_file": "k", **own},
            r"cannot specify --cluster-signing-\{cert,key\}-file and other --cluster-signing-\*-file flags at the same",
        ),
    ):
        with pytest.raises(ValueError, match=why):
            ControllersOptions(kubeconfig="k", **wrong)  # type: ignore[arg-type]


def test_an_authority_is_read_anew_when_its_files_change(tmp_path: Path) -> None:
    first, second = (Authority.create(name, World()) for name in ("first", "second"))
    first.save(tmp_path / "ca")
    held = AuthorityFiles(tmp_path / "ca.crt", tmp_path / "ca.key", World())
    assert held.current().certificate == first.certificate
    (tmp_path / "ca.crt").unlink()  # half of a change
    assert held.current().certificate == first.certificate
    second.save(tmp_path / "ca")
    assert held.current().certificate == second.certificate


def test_secrets_of_accounts_are_filled_once() -> None:
    notes = {"kubernetes.io/service-account.name": "robot"}
    secret: Object = {"metadata": {"name": "t", "namespace": "ns", "annotations": notes}}
    account: Object = {"metadata": {"name": "robot", "uid": "u1"}}
    made = filled(secret, account, "CA", lambda: "TOKEN")
    assert made is not None
    assert {key: base64.b64decode(value) for key, value in made["data"].items()} == {
        "ca.crt": b"CA",
        "namespace": b"ns",
        "token": b"TOKEN",
    }
    assert made["metadata"]["annotations"]["kubernetes.io/service-account.uid"] == "u1"
    assert filled(made, account, "CA", lambda: "OTHER") is None
    renewed = filled(made, account, "NEW", lambda: "OTHER")
    assert renewed is not None and renewed["data"]["token"] == made["data"]["token"]
    assert belongs(secret, account) and belongs(made, account)
    assert not belongs(made, {"metadata": {"name": "robot", "uid": "u2"}}) and not belongs(made, None)


def test_bootstrap_tokens_run_out() -> None:
    def token(expiration: str) -> Object:
        return {"metadata": {}, "data": {"expiration": base64.b64encode(expiration.encode()).decode()}}

    assert remaining_of_token(token("2026-01-01T00:00:10Z"), seconds("2026-01-01T00:00:00Z")) == 10
    assert remaining_of_token(token(""), 0) is None and remaining_of_token({"metadata": {}}, 0) is None
    assert remaining_of_token(token("tomorrow"), 0) == 0

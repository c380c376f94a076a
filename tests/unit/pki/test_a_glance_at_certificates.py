"""What is read of a certificate without a library is what the library reads; nothing but ValueError comes of garbage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from bamikube.pki import glance, keys

KEY = keys.new_ec_key()
KINDS = {"CN": NameOID.COMMON_NAME, "O": NameOID.ORGANIZATION_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME}
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=60).map(
    lambda text: text.encode()[:64].decode(errors="ignore")  # a name has at most 64 bytes
)


def certificate(names: list[tuple[str, str]], days: int = 365) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(KINDS[kind], text) for kind, text in names])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody else")]))
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=days))
        .sign(KEY, hashes.SHA256())
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(KINDS)), NAMES), max_size=5), st.integers(1, 30_000))
def test_it_reads_what_the_library_reads(names: list[tuple[str, str]], days: int) -> None:
    made = certificate(names, days)
    found = glance.of_der(made.public_bytes(serialization.Encoding.DER))
    assert found.common_name == next((text for kind, text in names if kind == "CN"), "")
    assert found.organizations == tuple(text for kind, text in names if kind == "O")
    assert found.good_until == made.not_valid_after_utc.timestamp()
    pem = made.public_bytes(serialization.Encoding.PEM)
    assert glance.of_pem(b"words before\n" + pem + pem) == found


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 400), st.binary(max_size=6), st.integers(0, 400))
def test_garbage_is_refused(at: int, other: bytes, end: int) -> None:
    der = certificate([("CN", "a"), ("O", "b")]).public_bytes(serialization.Encoding.DER)
    for bad in (der[:at] + other + der[at + len(other) :], der[:end], der[:at] + other):
        try:
            glance.of_der(bad)
        except ValueError:
            continue


@pytest.mark.parametrize("pem", [b"", b"x", b"-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----"])
def test_what_is_no_pem_is_refused(pem: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        glance.of_pem(pem)

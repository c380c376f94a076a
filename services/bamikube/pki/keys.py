"""Private keys: EC P-256 for certificates (small, quick to make and to sign with), RSA 2048 for token signing.

Tokens are signed with RSA because RS256 is what every consumer of service-account tokens understands.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def new_ec_key() -> ec.EllipticCurvePrivateKey:
    """A new key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def new_rsa_key() -> rsa.RSAPrivateKey:
    """A new RSA key of 2048 bits. Takes some 50 ms."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem(key: PrivateKey) -> bytes:
    """The forms kubeadm writes: "EC PRIVATE KEY" and "RSA PRIVATE KEY"."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def public_pem(key: PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_private(pem: bytes) -> PrivateKey:
    """Raises ValueError for anything that is not an unencrypted EC or RSA key."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise ValueError("the private key is encrypted; a key without passphrase is needed") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError(f"a private key of type {type(key).__name__} is not supported; use EC or RSA")
    return key


def load_public(pem: bytes) -> PublicKey:
    """A public key from a "PUBLIC KEY" or, for convenience, from the private one. Raises ValueError."""
    if b"PRIVATE KEY" in pem:
        return load_private(pem).public_key()
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise ValueError(f"a public key of type {type(key).__name__} is not supported; use EC or RSA")
    return key


def key_id(key: PublicKey) -> str:
    """The ``kid`` Kubernetes gives a token key: SHA-256 of its DER form, base64url without padding."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()

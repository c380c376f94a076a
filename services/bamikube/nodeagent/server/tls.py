"""TLS at the node's API: its certificate, whose clients it trusts, what it speaks.

Cipher suites are named as Go names them and as files for a kubelet have them; OpenSSL has names of its own::

    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256        ECDHE-RSA-AES128-GCM-SHA256
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305       ECDHE-ECDSA-CHACHA20-POLY1305

Those of TLS 1.3 (``TLS_AES_128_GCM_SHA256``) are always there, as in Go.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from pathlib import Path

from bamikube.kit.tlsdoor import server_settings
from bamikube.nodeagent.options import NodeAgentOptions

_SUITE = re.compile(
    r"TLS_(?:(ECDHE_(?:RSA|ECDSA))|RSA)_WITH_(?:AES_(128|256)_(?:GCM|CBC)_(SHA\d*)|CHACHA20_POLY1305(?:_SHA256)?)"
)
_ALWAYS = frozenset(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"))


def openssl(suites: Iterable[str]) -> str:
    """The suites of TLS 1.2 as OpenSSL names them. Pure. Raises ValueError naming the flag."""
    found = []
    for suite in suites:
        if suite in _ALWAYS:
            continue
        match = _SUITE.fullmatch(suite)
        if match is None or (suite.endswith("256") and "POLY" in suite and not match[1]):
            raise ValueError(f"--tls-cipher-suites: Cipher suite {suite} not supported or doesn't exist")
        parts = [match[1].replace("_", "-")] if match[1] else []
        parts += [f"AES{match[2]}"] if match[2] else ["CHACHA20-POLY1305"]
        parts += ["GCM"] if "_GCM_" in suite else []
        found.append("-".join([*parts, *([match[3]] if match[3] else [])]))
    return ":".join(found)


def context(options: NodeAgentOptions) -> ssl.SSLContext:
    """What the flags say. Raises ValueError naming the flag."""
    for flag, path in (
        ("--tls-cert-file", options.tls_cert_file),
        ("--tls-private-key-file", options.tls_private_key_file),
        ("--client-ca-file", options.client_ca_file),
    ):
        if not path:
            raise ValueError(f"{flag} is not set; give the path of a PEM file")
        if not Path(path).is_file():
            raise ValueError(f"{flag}: there is no file {path}; issue the node's certificates first")
    made = server_settings()
    try:
        made.load_cert_chain(options.tls_cert_file, options.tls_private_key_file)
        made.load_verify_locations(options.client_ca_file)
    except ssl.SSLError as error:
        raise ValueError(f"--tls-cert-file {options.tls_cert_file} cannot be used: {error}") from error
    made.verify_mode = ssl.CERT_OPTIONAL
    if options.tls_min_version == "VersionTLS13":
        made.minimum_version = ssl.TLSVersion.TLSv1_3
    if names := openssl(options.tls_cipher_suites):
        try:
            made.set_ciphers(names)
        except ssl.SSLError as error:
            raise ValueError(f"--tls-cipher-suites: this OpenSSL has none of {names}") from error
    return made

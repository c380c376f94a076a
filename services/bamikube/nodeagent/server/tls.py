"""TLS at the node's API: its certificate, whose clients it trusts, what it speaks.

Cipher suites are named as Go names them and as files for a kubelet have them; OpenSSL has names of its own::

    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256        ECDHE-RSA-AES128-GCM-SHA256
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305       ECDHE-ECDSA-CHACHA20-POLY1305

Those of TLS 1.3 (``TLS_AES_128_GCM_SHA256``) are always there, as in Go. A node without a certificate makes one for itself.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
from collections.abc import Iterable
from pathlib import Path

from bamikube.kit.tlsdoor import server_settings
from bamikube.kit.world import World
from bamikube.nodeagent import settings
from bamikube.nodeagent.node import certificates, rotation
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.pki import files

log = logging.getLogger(__name__)

LOOK = 10.0  # seconds between two looks at the files

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
        if match is None or ("CHACHA20" in suite and not match[1]):
            raise ValueError(f"--tls-cipher-suites: Cipher suite {suite} not supported or doesn't exist")
        parts = [match[1].replace("_", "-")] if match[1] else []
        parts += [f"AES{match[2]}"] if match[2] else ["CHACHA20-POLY1305"]
        parts += ["GCM"] if "_GCM_" in suite else []
        found.append("-".join([*parts, *([match[3]] if match[3] else [])]))
    return ":".join(found)


def context(options: NodeAgentOptions, certificate: str, key: str) -> ssl.SSLContext:
    """What the flags say, with that certificate. Raises ValueError naming the flag."""
    made = server_settings()
    try:
        made.load_cert_chain(certificate, key)
        if options.client_ca_file:
            made.load_verify_locations(options.client_ca_file)
            made.verify_mode = ssl.CERT_OPTIONAL
    except ssl.SSLError as error:
        raise ValueError(f"--tls-cert-file {certificate} cannot be used: {error}") from error
    if options.tls_min_version == "VersionTLS13":
        made.minimum_version = ssl.TLSVersion.TLSv1_3
    if names := openssl(options.tls_cipher_suites):
        try:
            made.set_ciphers(names)
        except ssl.SSLError as error:
            raise ValueError(f"--tls-cipher-suites: this OpenSSL has none of {names}") from error
    return made


def self_signed(folder: Path, name: str, addresses: Iterable[str], world: World) -> tuple[str, str]:
    """The certificate and key of a node that nobody has given any, in ``folder``; made the first time, with what signed it."""
    certificate, key = folder / "kubelet.crt", folder / "kubelet.key"
    if not (certificate.is_file() and key.is_file()):
        # Seven megabytes that a node with certificates need not carry.
        from bamikube.pki.authority import LEAF_LIFETIME, Authority, Request

        stamp = int(world.clock.now())
        authority = Authority.create(f"{name}-ca@{stamp}", world, LEAF_LIFETIME)
        wanted = Request(f"{name}@{stamp}", sans=(name, *addresses), server=True)
        issued = authority.issue(wanted)
        folder.mkdir(parents=True, exist_ok=True)
        files.write_atomically(key, issued.key_pem)
        files.write_atomically(certificate, issued.certificate_pem + authority.certificate_pem, files.PUBLIC)
        log.info("made a certificate that nobody else has signed: %s", certificate)
    return str(certificate), str(key)


class Serving:
    """The certificate of the node's API. One that is renewed on the disk is served from the next look on, to whoever comes then.

    Raises ValueError naming the flag.
    """

    def __init__(self, options: NodeAgentOptions, name: str, addresses: Iterable[str], world: World) -> None:
        self._world = world
        pair = (options.tls_cert_file, options.tls_private_key_file)
        folder = settings.certificates(options)
        asked_for = folder / rotation.SERVER.file
        if options.rotate_server_certificates and asked_for.is_file():
            pair = (str(asked_for), str(asked_for))
        elif not any(pair):
            pair = self_signed(folder, name, addresses, world)
        for flag, path in (
            ("--tls-cert-file", pair[0]),
            ("--tls-private-key-file", pair[1]),
            ("--client-ca-file", options.client_ca_file),
        ):
            if not path and flag != "--client-ca-file":
                raise ValueError(f"{flag} is not set; give the path of a PEM file")
            if path and not Path(path).is_file():
                raise ValueError(f"{flag}: there is no file {path}; issue the node's certificates first")
        self._pair = pair
        self.context = context(options, *pair)
        self._seen = self._marks()
        self.good_until = certificates.of_server(pair[0])

    def _marks(self) -> list[tuple[int, int]]:
        return [(found.st_mtime_ns, found.st_ino) for found in map(os.stat, self._pair)]

    def current(self) -> bytes:
        """What was asked for, and is served; b"" while it is something else."""
        file = Path(self._pair[0])
        return file.read_bytes() if file.name == rotation.SERVER.file else b""

    def take(self, file: Path) -> None:
        """Serve what was asked for: certificate and key in one file."""
        self._pair = (str(file), str(file))
        self.look()

    def look(self) -> bool:
        """Whether another certificate is there, and is served now. Raises OSError and SSLError: then the old one is."""
        marks = self._marks()
        if marks == self._seen:
            return False
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._pair)  # half a pair would spoil ours
        self.context.load_cert_chain(*self._pair)
        self._seen, self.good_until = marks, certificates.of_server(self._pair[0])
        return True

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await self._world.clock.sleep(LOOK)
            try:
                if self.look():
                    log.info("the node's API has a new certificate: %s", self._pair[0])
            except OSError as error:  # an SSLError is one, too: perhaps only half of it is there yet
                log.warning("--tls-cert-file %s cannot be read anew: %s", self._pair[0], error)

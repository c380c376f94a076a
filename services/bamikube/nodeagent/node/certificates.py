"""How long the node agent's certificates are good for, and which one it is known by."""

from __future__ import annotations

import logging
from pathlib import Path

from bamikube.client.client import Client
from bamikube.nodeagent import settings
from bamikube.nodeagent.node import rotation
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.pki import glance, kubeconfig

log = logging.getLogger(__name__)

UNUSED = float("inf")  # nothing that could expire


def ends(pem: bytes) -> float:
    """When the first certificate of a PEM text expires, in seconds since the epoch; UNUSED when there is none."""
    try:
        return glance.of_pem(pem).good_until
    except ValueError:
        return UNUSED


class Known:
    """What the node is known by to the API server: its kubeconfig's certificate, or a newer one that it has asked for."""

    def __init__(self, options: NodeAgentOptions, client: Client) -> None:
        self._client = client
        self._pem = kubeconfig.load(options.kubeconfig).cert_pem
        file = settings.certificates(options) / rotation.CLIENT.file
        asked_for = file.read_bytes() if options.rotate_certificates and file.is_file() else b""
        if asked_for and (not self._pem or ends(asked_for) > ends(self._pem)):
            self.take(file)

    @property
    def good_until(self) -> float:
        """Seconds since the epoch."""
        return ends(self._pem)

    def current(self) -> bytes:
        return self._pem

    def take(self, file: Path) -> None:
        """Be known by what was asked for. A file that cannot be used changes nothing."""
        try:
            self._client.show(file)
            self._pem = file.read_bytes()
        except OSError as error:  # an SSLError is one, too
            log.warning("the certificate %s cannot be used: %s", file, error)


def of_server(path: str) -> float:
    """The one of the node's API. Raises OSError."""
    return ends(Path(path).read_bytes())

"""How long the node agent's certificates are good for."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from bamikube.pki import kubeconfig

UNUSED = float("inf")  # nothing that could expire


def ends(pem: bytes) -> float:
    """When the first certificate of a PEM text expires, in seconds since the epoch; UNUSED when there is none."""
    try:
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    except ValueError:
        return UNUSED


def of_client(path: str) -> float:
    """The one by which the node agent is known to the API server, named in its kubeconfig. Raises OSError and ValueError."""
    return ends(kubeconfig.load(path).cert_pem)


def of_server(path: str) -> float:
    """The one of the node's API. Raises OSError."""
    return ends(Path(path).read_bytes())

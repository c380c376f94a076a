"""What the text of a ClusterTrustBundle must be: PEM blocks of certificate authorities, each once.

Source: the API reference (certificates.k8s.io/v1beta1), KEP-3257. Text between the blocks is nobody's business.
"""

from __future__ import annotations

from cryptography import x509

from bamikube.api.pem import blocks


def faults(text: str) -> list[str]:
    """What is wrong with a bundle; empty when nothing is."""
    found: list[str] = []
    seen: dict[bytes, list[int]] = {}
    for index, block in enumerate(blocks(text.encode())):
        if block.kind != "CERTIFICATE":
            found.append(f"entry {index} has bad block type: {block.kind}")
        elif block.headers:
            found.append(f"entry {index} has PEM block headers")
        elif fault := _authority(block.data):
            found.append(f"entry {index} {fault}")
        else:
            seen.setdefault(block.data, []).append(index)
    if found:
        return found
    if not seen:
        return ["at least one trust anchor must be provided"]
    repeated = (indices for indices in seen.values() if len(indices) > 1)
    return [f"duplicate trust anchor (indices [{' '.join(map(str, indices))}])" for indices in repeated]


def _authority(data: bytes) -> str:
    try:
        certificate = x509.load_der_x509_certificate(data)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return "does not have the CA bit set"
    except ValueError:
        return "does not parse as X.509"
    return "" if constraints.ca else "does not have the CA bit set"

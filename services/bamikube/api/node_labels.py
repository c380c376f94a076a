"""The labels a node may give itself: anything but those of Kubernetes' own domains, and of these the ones listed here.

The node agent refuses to begin with others, and the API server refuses to take them.
"""

from __future__ import annotations

DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
LABELS = (
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
)


def within(prefix: str, domain: str) -> bool:
    return prefix == domain or prefix.endswith(f".{domain}")


def own(label: str) -> bool:
    """Whether a node may set ``label`` on itself."""
    prefix, slash, _ = label.partition("/")
    if not slash or not (within(prefix, "kubernetes.io") or within(prefix, "k8s.io")):
        return True
    return label in LABELS or any(within(prefix, domain) for domain in DOMAINS)

"""What ownership has to know of fields that the published schema does not say."""

from __future__ import annotations

# Metadata that is the server's, or said by the path: nobody owns it.
UNTRACKED = frozenset(
    {
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    }
)

# Defaults of keys by which list elements are known: the published schema has lost them.
KEY_DEFAULTS: dict[tuple[str, str], str] = {
    ("ContainerPort", "protocol"): "TCP",
    ("ServicePort", "protocol"): "TCP",
    ("LocalObjectReference", "name"): "",
}

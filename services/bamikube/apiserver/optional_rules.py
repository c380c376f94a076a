"""Rights that come with kinds that are served only when asked for.

Source: the default roles of Kubernetes v1.34 behind the gates ``ClusterTrustBundle`` and ``ClusterTrustBundleProjection``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bamikube.api import table
from bamikube.api.resources import Resource
from bamikube.apiserver.authz.rules import Rule

DISCOVERY = "system:cluster-trust-bundle-discovery"


def _read() -> Rule:
    row = table.CLUSTER_TRUST_BUNDLES
    return {"verbs": ["get", "list", "watch"], "apiGroups": [row.group], "resources": [row.plural]}


def node(served: Collection[Resource]) -> list[Rule]:
    """What every node may do beside the usual."""
    return [_read()] if table.CLUSTER_TRUST_BUNDLES in served else []


def roles(served: Collection[Resource]) -> dict[str, list[Rule]]:
    """ClusterRoles by name."""
    return {DISCOVERY: [_read()]} if table.CLUSTER_TRUST_BUNDLES in served else {}


def bindings(served: Collection[Resource]) -> dict[str, tuple[str, list[Any]]]:
    """ClusterRoleBindings by name: role and subjects (kind, name)."""
    if table.CLUSTER_TRUST_BUNDLES not in served:
        return {}
    return {DISCOVERY: (DISCOVERY, [("Group", "system:serviceaccounts")])}

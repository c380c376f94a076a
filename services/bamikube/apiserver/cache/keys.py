"""Where objects stand in the store.

::

    /registry/pods/<namespace>/<name>                  core group, namespaced
    /registry/nodes/<name>                             core group, cluster-scoped
    /registry/apps/deployments/<namespace>/<name>      named group
"""

from __future__ import annotations

from collections.abc import Iterable

from bamikube.api.resources import Resource

ROOT = b"/registry/"


def prefix(resource: Resource, namespace: str = "") -> bytes:
    """All keys of a stored resource, or those of one namespace. ``resource`` is the storage row."""
    group = f"{resource.group}/" if resource.group else ""
    within = f"{namespace}/" if namespace and resource.namespaced else ""
    return f"/registry/{group}{resource.plural}/{within}".encode()


def key(resource: Resource, namespace: str, name: str) -> bytes:
    """The key of one object. ``resource`` is the storage row."""
    return prefix(resource, namespace) + name.encode()


class Resolver:
    """From a key back to its resource. Keys of nobody's (allocations, foreign writers) resolve to None."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._by_prefix = {prefix(resource): resource for resource in resources}

    def add(self, resource: Resource) -> None:
        self._by_prefix[prefix(resource)] = resource

    def remove(self, resource: Resource) -> None:
        self._by_prefix.pop(prefix(resource), None)

    def resolve(self, at: bytes) -> tuple[Resource, str] | None:
        """The resource and the rest of the key: ``namespace/name`` or ``name``."""
        if not at.startswith(ROOT):
            return None
        first = at.find(b"/", len(ROOT)) + 1
        if not first:
            return None
        resource = self._by_prefix.get(at[:first])
        if resource is None:
            first = at.find(b"/", first) + 1
            resource = self._by_prefix.get(at[:first]) if first else None
        if resource is None:
            return None
        rest = at[first:].decode("utf-8", "replace")
        return (resource, rest) if rest.count("/") == resource.namespaced and rest else None

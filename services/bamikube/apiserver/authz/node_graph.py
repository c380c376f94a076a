"""Which objects belong to which node: the paths that lead from an object to a node.

::

    node <- pod <- secret, config map, claim, resource claim, service account
    node <- pod <- claim <- volume <- secret        (what a driver needs on the node, not in the control plane)
    node <- attachment of a volume
    node <- resource slice

What pods refer to is counted for each node as pods come and go, so that a question about a secret costs one look-up.
A volume is found by its claim, its secrets by an index of their own; attachments and slices name their node themselves.

Source: Kubernetes' "Using Node Authorization"; KEP-279 (limit node access).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bamikube.api.predicates.references import Reference, references, volume_secrets
from bamikube.apiserver.registry.reader import Reader

PODS = ("", "pods")
VOLUMES = ("", "persistentvolumes")
ATTACHMENTS = ("storage.k8s.io", "volumeattachments")
SLICES = ("resource.k8s.io", "resourceslices")
MIRROR = "kubernetes.io/config.mirror"

Object = Mapping[str, Any]


class NodeGraph:
    """The paths, kept from the cache's changes."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._pods: dict[tuple[str, str], tuple[str, frozenset[Reference]]] = {}
        self._references: dict[str, dict[Reference, int]] = {}  # node -> reference -> how many of its pods
        self._volume_secrets: dict[tuple[str, str], set[str]] = {}  # secret -> volumes that name it
        reader.subscribe(PODS, self._pod_changed)
        reader.subscribe(VOLUMES, self._volume_changed)

    def leads(self, node: str, plural: str, namespace: str, name: str) -> bool:
        """Whether a path leads from the object to the node."""
        match plural:
            case "pods":
                return self._pods.get((namespace, name), ("",))[0] == node
            case "persistentvolumes":
                return self._of_claim(node, name)
            case "volumeattachments":
                return self._names(ATTACHMENTS, name, node)
            case "resourceslices":
                return self._names(SLICES, name, node)
        if (plural, namespace, name) in self._references.get(node, ()):
            return True
        return plural == "secrets" and any(
            self._of_claim(node, volume) for volume in self._volume_secrets.get((namespace, name), ())
        )

    def _of_claim(self, node: str, volume: str) -> bool:
        found = self._reader.get(VOLUMES, "", volume)
        claim = ((found or {}).get("spec") or {}).get("claimRef") or {}
        wanted = ("persistentvolumeclaims", claim.get("namespace", ""), claim.get("name", ""))
        return wanted in self._references.get(node, ())

    def _names(self, key: tuple[str, str], name: str, node: str) -> bool:
        found = self._reader.get(key, "", name)
        return found is not None and (found.get("spec") or {}).get("nodeName") == node

    def _pod_changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        known = new or old
        if known is None:
            return
        key = (known["metadata"].get("namespace", ""), known["metadata"]["name"])
        node = ((new or {}).get("spec") or {}).get("nodeName", "")
        before = self._pods.get(key)
        # Mirror pods are made by a node itself: they must not open anything to it.
        mirror = MIRROR in (known["metadata"].get("annotations") or {})
        after = (node, frozenset() if mirror or new is None else references(new)) if node else None
        if before == after:
            return
        if before is not None:
            counts = self._references.get(before[0], {})
            for reference in before[1]:
                counts[reference] -= 1
                if not counts[reference]:
                    del counts[reference]
            del self._pods[key]
        if after is not None:
            self._pods[key] = after
            counts = self._references.setdefault(node, {})
            for reference in after[1]:
                counts[reference] = counts.get(reference, 0) + 1

    def _volume_changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        before, after = (set(volume_secrets(one)) if one is not None else set() for one in (old, new))
        name = (new or old or {})["metadata"]["name"]
        for secret in before - after:
            volumes = self._volume_secrets[secret]
            volumes.discard(name)
            if not volumes:
                del self._volume_secrets[secret]
        for secret in after - before:
            self._volume_secrets.setdefault(secret, set()).add(name)

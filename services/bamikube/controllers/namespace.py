"""Deleting a namespace: everything in it goes first.

``plan`` reads what is left and says which condition holds; the executor asks the server to delete each kind's
collection, looks again, and takes the ``kubernetes`` finalizer off once nothing is left. Conditions on the namespace
tell a waiting person what it waits for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bamikube.api import table
from bamikube.api.errors import ApiError
from bamikube.api.predicates.conditions import put
from bamikube.api.times import seconds, stamp
from bamikube.client.client import METADATA_LIST, path_of
from bamikube.client.informer import split_key
from bamikube.controllers.adoption import BY_NAMESPACE, index_by_namespace
from bamikube.controllers.shared import Controller, Shared, enqueue

Object = dict[str, Any]

PODS = ("", "pods")
FINALIZER = "kubernetes"


@dataclass(frozen=True, slots=True)
class Left:
    """What one resource still holds: how many objects, and how many wait on which finalizers."""

    resource: str
    count: int
    finalizers: tuple[tuple[str, int], ...] = ()


def conditions_of(namespace: Object, left: list[Left], failures: list[str], now: float) -> list[Object]:
    """The namespace's conditions while it is emptied."""
    conditions = list((namespace.get("status") or {}).get("conditions") or [])
    rest = [entry for entry in left if entry.count]
    finalizers: dict[str, int] = {}
    for entry in rest:
        for name, count in entry.finalizers:
            finalizers[name] = finalizers.get(name, 0) + count
    verdicts = [
        (
            "NamespaceDeletionDiscoveryFailure",
            False,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            False,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            bool(failures),
            "ContentDeletionFailed" if failures else "ContentDeleted",
            f"Failed to delete all resource types, {len(failures)} remaining: {', '.join(failures)}"
            if failures
            else "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            bool(rest),
            "SomeResourcesRemain" if rest else "ContentRemoved",
            "Some resources are remaining: "
            + ", ".join(f"{entry.resource} has {entry.count} resource instances" for entry in rest)
            if rest
            else "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            bool(finalizers),
            "SomeFinalizersRemain" if finalizers else "ContentHasNoFinalizers",
            "Some content in the namespace has finalizers remaining: "
            + ", ".join(f"{name} in {count} resource instances" for name, count in sorted(finalizers.items()))
            if finalizers
            else "All content-preserving finalizers finished",
        ),
    ]
    for type, holds, reason, message in verdicts:
        new = {"type": type, "status": "True" if holds else "False", "reason": reason, "message": message}
        conditions = put(conditions, new, stamp(now))
    return conditions


def wait_for_pods(pods: list[Object], now: float) -> float:
    """Seconds until the last pod's grace period is over."""
    latest = max((seconds(pod["metadata"].get("deletionTimestamp")) for pod in pods), default=0.0)
    return max(1.0, latest - now)


class NamespaceController(Controller):
    name = "namespace-controller"
    workers = 5

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.namespaces = shared.informers.of("namespaces")
        self.namespaces.on_change(enqueue(self))
        self.pods = shared.informers.of("pods")
        index_by_namespace(self.pods)
        self.pods.on_change(self._pod_changed)

    def _pod_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        """The last pod of a namespace is what the rest of it waits for."""
        name = split_key(key)[0]
        namespace = self.namespaces.get(name) if new is None else None
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            return
        if not self.pods.by_index(BY_NAMESPACE, name):
            self.queue.add(name)

    async def sync(self, key: str) -> float | None:
        cached = self.namespaces.get(key)
        if cached is None or "deletionTimestamp" not in cached["metadata"]:
            return None
        try:
            namespace = await self.client.get("namespaces", key)
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        if "deletionTimestamp" not in namespace["metadata"]:
            return None
        if FINALIZER not in (namespace["spec"].get("finalizers") or []):
            return None
        failures: list[str] = []
        left: list[Left] = []
        pods: list[Object] = []
        await self.shared.kinds.refresh()
        # Kinds that are served in several versions are kept once. Pods go first, and while one is left everything else
        # stays: what protects or serves a pod must not go before it (KEP-5080).
        builtin = [row for row in table.TABLE if not row.virtual and table.storage_row(row) is row]
        builtin.sort(key=lambda row: row.key != PODS)
        for resource in (*builtin, *self.shared.kinds.others):
            if resource.namespaced and {"deletecollection", "list"} <= set(resource.verbs):
                path = path_of(resource, key)
                try:
                    held = await self._empty(path)
                except ApiError as error:
                    if error.code != 404:  # else a kind that has gone meanwhile
                        failures.append(f"{resource.plural}: {error.message}")
                    continue
                if held:
                    left.append(_left(resource.plural, resource.group, held))
                    if resource.key == PODS:
                        pods = held
                        break
        now = self.world.clock.now()
        if left or failures:
            conditions = conditions_of(namespace, left, failures, now)
            if conditions != (namespace.get("status") or {}).get("conditions"):
                body = {**namespace, "status": {**(namespace.get("status") or {}), "conditions": conditions}}
                await self.client.update("namespaces", body, "status")
            return min(wait_for_pods(pods, now), 5.0)
        rest = [name for name in namespace["spec"].get("finalizers") or [] if name != FINALIZER]
        await self.client.update("namespaces", {**namespace, "spec": {"finalizers": rest}}, "finalize")
        return None

    async def _empty(self, path: str) -> list[Object]:
        """Ask for the collection to go; returns what is still there."""
        # Metadata is all that is needed, and can be had even when nobody can convert a custom resource.
        wanted = {"Accept": METADATA_LIST}
        held = (await self.client.call("GET", path, headers=wanted)).get("items") or []
        if not held:
            return []
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        await self.client.call("DELETE", path, body=options, headers=wanted)
        items: list[Object] = (await self.client.call("GET", path, headers=wanted)).get("items") or []
        return items


def _left(plural: str, group: str, held: list[Object]) -> Left:
    finalizers: dict[str, int] = {}
    for obj in held:
        for name in obj["metadata"].get("finalizers") or []:
            finalizers[name] = finalizers.get(name, 0) + 1
    return Left(f"{plural}.{group}" if group else f"{plural}.", len(held), tuple(sorted(finalizers.items())))

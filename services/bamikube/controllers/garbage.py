"""The garbage collector: what is owned goes when its owners have gone.

It keeps a graph of every deletable object, of which it stores only identity, owner references, finalizers and whether
it is being deleted. Edges go from a dependent to its owners by uid. Three things can happen to an object:

* **background** (the default): its owners are gone, so it is deleted;
* **foreground**: it carries the ``foregroundDeletion`` finalizer, so its dependents go first; those with
  ``blockOwnerDeletion`` hold it, and the finalizer is removed when none is left;
* **orphan**: it carries the ``orphan`` finalizer, so its dependents lose their reference to it and stay.

``plan`` is pure. An owner that the graph does not know is asked for at the server before anything is deleted: a copy
that lags behind must never be the reason. A reference means the object of that kind, name *and* uid in the dependent's
own namespace (or a cluster-scoped one); one that points into another namespace points at nothing, and its dependent is
collected, as in Kubernetes. A cluster-scoped object cannot be owned by a namespaced one: such a reference is never a
reason to delete.

Worked example: ReplicaSet ``r`` (uid 1) owns pods ``a`` and
``b``. ``r`` is deleted: the watch takes uid 1 out of the graph, ``a`` and ``b`` are queued, their owner is looked up,
is not there, and both are deleted.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from bamikube.api import table
from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.client.client import METADATA, PATCH_TYPES, path_of
from bamikube.client.informer import Callback, Informer, split_key
from bamikube.controllers.shared import Controller, Shared
from bamikube.kit.tasks import Tasks

log = logging.getLogger(__name__)

Object = dict[str, Any]

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"

# Seconds until an object is looked at again whose owner the server knows and the graph does not.
UNSEEN_AGAIN = 2.0

# Metadata is all the collector works with, and can be had of objects that nobody can convert at present.
_METADATA = {"Accept": METADATA}
_MERGE = {"Content-Type": PATCH_TYPES["merge"], **_METADATA}

# Seconds for which the watch of a kind goes on after discovery no longer names it.
LEAVE_AFTER = 2.0

# Kinds whose objects own nothing and are owned by nothing that matters, and change too often to be followed.
_SKIPPED = {("", "events"), ("events.k8s.io", "events")}


Identity = tuple[str, str, str, str]  # uid, group, kind, namespace/name


def _identity_of(owner: Object, namespace: str) -> Identity:
    """What a reference from an object in ``namespace`` (empty: cluster-scoped) means."""
    key = f"{namespace}/{owner['name']}" if namespace else str(owner["name"])
    return (owner["uid"], owner["apiVersion"].rpartition("/")[0], owner["kind"], key)


@dataclass(slots=True)
class Node:
    """One object in the graph."""

    uid: str
    resource: Resource
    key: str
    owners: tuple[Object, ...] = ()
    finalizers: tuple[str, ...] = ()
    deleting: bool = False

    @property
    def identity(self) -> Identity:
        return (self.uid, self.resource.group, self.resource.kind, self.key)

    @property
    def orphaning(self) -> bool:
        return self.deleting and ORPHAN in self.finalizers

    @property
    def foreground(self) -> bool:
        return self.deleting and FOREGROUND in self.finalizers


@dataclass(slots=True)
class Graph:
    """Objects by uid, and dependents by their owners' uid (also of owners that are gone or not seen yet)."""

    nodes: dict[str, Node] = field(default_factory=dict)
    dependents: dict[str, set[str]] = field(default_factory=dict)

    def put(self, node: Node) -> None:
        self.remove_edges(node.uid)
        self.nodes[node.uid] = node
        for owner in node.owners:
            self.dependents.setdefault(owner["uid"], set()).add(node.uid)

    def remove(self, uid: str) -> None:
        self.remove_edges(uid)
        self.nodes.pop(uid, None)

    def remove_edges(self, uid: str) -> None:
        old = self.nodes.get(uid)
        if old is None:
            return
        for owner in old.owners:
            held = self.dependents.get(owner["uid"])
            if held is not None:
                held.discard(uid)
                if not held:
                    del self.dependents[owner["uid"]]

    def dependents_of(self, uid: str) -> list[Node]:
        return [self.nodes[child] for child in self.dependents.get(uid, ()) if child in self.nodes]


@dataclass(frozen=True, slots=True)
class Owners:
    """An object's owner references by what became of the owners."""

    solid: tuple[Object, ...]
    dangling: tuple[Object, ...]
    waiting: tuple[Object, ...]  # being deleted in the foreground: they wait for this object
    unseen: bool = False  # the server has one that the graph has not: look again


@dataclass(frozen=True, slots=True)
class Action:
    """``kind`` is nothing, unlink, delete, orphan-dependents, drop-finalizer or wait. ``unblock``: first let go of the
    owners, since some dependent is waiting for this object already (a circle of owners)."""

    kind: str
    reason: str = ""
    propagation: str = ""
    remove: tuple[str, ...] = ()
    unblock: bool = False


def plan(node: Node, owners: Owners, dependents: list[Node]) -> Action:
    """What to do with one object."""
    if node.orphaning:
        return Action("orphan-dependents", "deleted with its dependents to be kept")
    if node.foreground:
        blocking = [
            child
            for child in dependents
            if any(owner["uid"] == node.uid and owner.get("blockOwnerDeletion") for owner in child.owners)
        ]
        if not blocking:
            return Action("drop-finalizer", "no dependent is left that blocks the deletion")
        return Action("wait", f"{len(blocking)} dependents have to go first")
    if node.deleting or not (owners.solid or owners.dangling or owners.waiting):
        return Action("nothing")
    if owners.solid:
        gone = tuple(owner["uid"] for owner in (*owners.dangling, *owners.waiting))
        return (
            Action("unlink", "an owner is gone, another remains", remove=gone) if gone else Action("nothing")
        )
    if owners.waiting and dependents:
        circle = any(child.foreground for child in dependents)
        return Action("delete", "its owner is deleted in the foreground", "Foreground", unblock=circle)
    if ORPHAN in node.finalizers:
        return Action("delete", "its owners are gone", "Orphan")
    if FOREGROUND in node.finalizers:
        return Action("delete", "its owners are gone", "Foreground")
    return Action("delete", "its owners are gone", "Background")


class GarbageCollector(Controller):
    """Follows the built-in kinds from the start, and every other kind while the server serves it."""

    name = "garbage-collector-controller"
    workers = 20

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.graph = Graph()
        self.absent: dict[Identity, None] = {}  # known to be gone for ever: uids are never used twice
        self.informers: list[Informer] = []  # all it reads
        self.own: list[Informer] = []  # those of them that it has to run itself
        for resource in table.TABLE:
            name = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
            if (
                "delete" in resource.verbs
                and "watch" in resource.verbs
                and resource.key not in _SKIPPED
                and table.by_name(name) is resource
            ):
                informer = shared.informers.held(name)
                if informer is not None:
                    informer.on_change(_slimmed(self._changed(resource)))
                else:
                    informer = Informer(shared.client, name, shared.world, project=_slim, fresh=True)
                    informer.on_change(self._changed(resource))
                    self.own.append(informer)
                self.informers.append(informer)
        self.others: dict[tuple[str, str], tuple[Informer, asyncio.Task[None]]] = {}

    async def run(self, tasks: Tasks) -> None:
        for informer in self.own:
            tasks.spawn(informer.run(), f"gc {informer.resource}")
        kinds = self.shared.kinds
        kinds.on_change(lambda came, went: self._kinds_changed(tasks, came, went))
        await kinds.synced.wait()
        self._kinds_changed(tasks, list(kinds.others), [])
        for informer in self.informers:
            await informer.synced.wait()
        await super().run(tasks)

    def _kinds_changed(self, tasks: Tasks, came: list[Resource], went: list[Resource]) -> None:
        """Follow the objects of kinds that came; of kinds that went nothing is known any more."""
        for row in went:
            if row.key in self.others:
                informer, running = self.others.pop(row.key)
                tasks.spawn(self._leave(informer, running), f"gc leave {informer.resource}")
        for row in came:
            if {"delete", "list", "watch"} <= set(row.verbs) and row.key not in self.others:
                informer = Informer(self.client, row, self.world, project=_slim, fresh=True, metadata=True)
                informer.on_change(self._changed(row))
                self.others[row.key] = (informer, tasks.spawn(informer.run(), f"gc {informer.resource}"))

    async def _leave(self, informer: Informer, running: asyncio.Task[None]) -> None:
        """The last deletions may still be on their way when a kind goes; then forget what is left of it.

        Dependents of what is left stay: an owner that cannot be asked for is no owner that is gone.
        """
        await self.world.clock.sleep(LEAVE_AFTER)
        running.cancel()
        for slim in informer.items():
            self.graph.remove(slim["uid"])

    def _changed(self, resource: Resource) -> Callback:
        def changed(key: str, old: Object | None, new: Object | None) -> None:
            if old is not None and (new is None or new["uid"] != old["uid"]):
                uid = old["uid"]
                if (gone := self.graph.nodes.get(uid)) is not None:
                    self._note_absent(gone.identity)
                self.graph.remove(uid)
                for child in self.graph.dependents_of(uid):
                    self.queue.add(child.uid)
                for owner in old["owners"]:
                    self.queue.add(owner["uid"])
            if new is None:
                return
            before = self.graph.nodes.get(new["uid"])
            node = Node(new["uid"], resource, key, new["owners"], new["finalizers"], new["deleting"])
            if before == node:
                return  # something changed that is none of our business: a status, a heartbeat
            self.graph.put(node)
            if node.deleting and node.foreground:
                for child in self.graph.dependents_of(node.uid):
                    self.queue.add(child.uid)
            if before is not None and before.owners != node.owners:
                for owner in before.owners:
                    self.queue.add(owner["uid"])
            if node.owners or node.deleting:
                self.queue.add(node.uid)

        return changed

    def _note_absent(self, identity: Identity) -> None:
        self.absent[identity] = None
        if len(self.absent) > 10_000:
            self.absent.pop(next(iter(self.absent)))

    async def sync(self, key: str) -> float | None:
        node = self.graph.nodes.get(key)
        if node is None:
            return None
        dependents = self.graph.dependents_of(node.uid)
        owners = Owners((), (), ())
        if not node.deleting and node.owners:
            owners = await self._classify(node)
        action = plan(node, owners, dependents)
        if action.kind == "delete":
            await self._delete(node, owners, action)
        elif action.kind == "unlink":
            await self._unlink(node, action.remove)
        elif action.kind == "orphan-dependents":
            await asyncio.gather(*(self._unlink(child, (node.uid,)) for child in dependents))
            await self._drop_finalizer(node, ORPHAN)
        elif action.kind == "drop-finalizer":
            await self._drop_finalizer(node, FOREGROUND)
        elif action.kind == "wait":
            for child in dependents:
                if not child.deleting:
                    self.queue.add(child.uid)
        # An owner that only the server knows might be deleted before the graph ever sees it: then nobody would tell.
        return UNSEEN_AGAIN if owners.unseen else None

    async def _classify(self, node: Node) -> Owners:
        solid, dangling, waiting = [], [], []
        unseen = False
        namespace = split_key(node.key)[0]
        for owner in node.owners:
            resource = self.shared.kinds.by_kind(owner["apiVersion"], owner["kind"])
            if resource is None:
                # A kind that is not served here: it may come (a CRD), so its dependents are kept.
                solid.append(owner)
                continue
            if resource.namespaced and not namespace:
                log.warning(
                    "%s %s is cluster-scoped and names the namespaced %s %s as its owner: it is left alone",
                    node.resource.plural,
                    node.key,
                    owner["kind"],
                    owner["name"],
                )
                solid.append(owner)
                continue
            identity = _identity_of(owner, namespace if resource.namespaced else "")
            known = self.graph.nodes.get(owner["uid"])
            if known is not None and known.identity != identity:
                known = None
            if known is None and not await self._exists(resource, identity):
                dangling.append(owner)
            elif known is not None and known.foreground:
                waiting.append(owner)
            else:
                solid.append(owner)
                unseen = unseen or known is None
        return Owners(tuple(solid), tuple(dangling), tuple(waiting), unseen)

    async def _exists(self, resource: Resource, identity: Identity) -> bool:
        """Ask the server whether an owner the graph does not know exists (with that very uid)."""
        if identity in self.absent:
            return False
        namespace, name = split_key(identity[3])
        try:
            found = await self.client.call("GET", path_of(resource, namespace, name), headers=_METADATA)
        except ApiError as error:
            if error.code != 404:
                raise
            self._note_absent(identity)
            return False
        if found["metadata"]["uid"] == identity[0]:
            return True
        self._note_absent(identity)
        return False

    async def _delete(self, node: Node, owners: Owners, action: Action) -> None:
        namespace, name = split_key(node.key)
        path = path_of(node.resource, namespace, name)
        # The copy may be behind: what is deleted must still be what was looked at, with the same owners.
        try:
            live = await self.client.call("GET", path, headers=_METADATA)
        except ApiError as error:
            if error.code == 404:
                return
            raise
        if live["metadata"]["uid"] != node.uid or "deletionTimestamp" in live["metadata"]:
            return
        held = {owner["uid"] for owner in live["metadata"].get("ownerReferences") or []}
        if held != {owner["uid"] for owner in node.owners}:
            self.queue.add_after(node.uid, 0.5)
            return
        if action.unblock:
            live = await self._stop_blocking(path, live)
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": node.uid, "resourceVersion": live["metadata"]["resourceVersion"]},
            "propagationPolicy": action.propagation,
        }
        log.info("deleting %s %s: %s", node.resource.plural, node.key, action.reason)
        try:
            await self.client.call("DELETE", path, body=options, headers=_METADATA)
        except ApiError as error:
            if error.code == 409:
                self.queue.add_after(node.uid, 0.1)
            elif error.code != 404:
                raise

    async def _stop_blocking(self, path: str, live: Object) -> Object:
        """Take ``blockOwnerDeletion`` off an object's references; returns the object as it is then."""
        meta = live["metadata"]
        references = [
            {**owner, "blockOwnerDeletion": False} if owner.get("blockOwnerDeletion") else owner
            for owner in meta.get("ownerReferences") or []
        ]
        patch = {
            "metadata": {
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
                "ownerReferences": references,
            }
        }
        return await self.client.call("PATCH", path, None, patch, _MERGE)

    async def _unlink(self, node: Node, uids: tuple[str, ...]) -> None:
        """Take references to ``uids`` off an object."""
        namespace, name = split_key(node.key)
        path = path_of(node.resource, namespace, name)
        try:
            live = await self.client.call("GET", path, headers=_METADATA)
            if live["metadata"]["uid"] != node.uid:
                return
            rest = [
                owner for owner in live["metadata"].get("ownerReferences") or [] if owner["uid"] not in uids
            ]
            meta = {
                "uid": node.uid,
                "resourceVersion": live["metadata"]["resourceVersion"],
                "ownerReferences": rest,
            }
            await self.client.call("PATCH", path, None, {"metadata": meta}, _MERGE)
        except ApiError as error:
            if error.code != 404:
                raise

    async def _drop_finalizer(self, node: Node, finalizer: str) -> None:
        namespace, name = split_key(node.key)
        path = path_of(node.resource, namespace, name)
        try:
            live = await self.client.call("GET", path, headers=_METADATA)
            meta = live["metadata"]
            if meta["uid"] != node.uid or finalizer not in (meta.get("finalizers") or []):
                return
            rest = [name for name in meta["finalizers"] if name != finalizer]
            patch = {
                "metadata": {"uid": node.uid, "resourceVersion": meta["resourceVersion"], "finalizers": rest}
            }
            await self.client.call("PATCH", path, None, patch, _MERGE)
        except ApiError as error:
            if error.code != 404:
                raise


def _slimmed(changed: Callback) -> Callback:
    """``changed`` for an informer that keeps whole objects."""

    def slimmed(key: str, old: Object | None, new: Object | None) -> None:
        changed(key, None if old is None else _slim(old), None if new is None else _slim(new))

    return slimmed


def _slim(obj: Object) -> Object:
    """The few facts of an object the graph needs."""
    meta = obj["metadata"]
    return {
        "uid": meta["uid"],
        "owners": tuple(
            {
                key: owner[key]
                for key in ("apiVersion", "kind", "name", "uid", "blockOwnerDeletion")
                if key in owner
            }
            for owner in meta.get("ownerReferences") or []
        ),
        "finalizers": tuple(meta.get("finalizers") or ()),
        "deleting": "deletionTimestamp" in meta,
    }

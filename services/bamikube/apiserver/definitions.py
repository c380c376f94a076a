"""The life of CustomResourceDefinitions: names accepted, established, and in the end everything of theirs deleted.

Every API server runs this loop. What it writes is decided by pure functions (:mod:`bamikube.api.custom.naming`) and
guarded by the revision it was decided on, so servers side by side agree: the second one finds nothing left to do.

A definition that is being deleted goes last::

    deletionTimestamp, Terminating=True    nothing new is created (405)
    its objects are deleted                those with finalizers are waited for
    Terminating=False, finalizer off       the definition goes; rows and watches end with it

Source: the naming, establishing and finalizing controllers of ``apiextensions-apiserver`` (behaviour).
"""

from __future__ import annotations

import logging
from typing import Any

from bamikube.api import table
from bamikube.api.custom import naming
from bamikube.api.errors import ApiError
from bamikube.api.predicates.conditions import find
from bamikube.api.times import stamp
from bamikube.apiserver.cache import Cache, Filter
from bamikube.apiserver.catalog import DEFINITIONS, Catalog
from bamikube.apiserver.registry import Registry
from bamikube.apiserver.registry.deletion import DeleteOptions
from bamikube.apiserver.registry.reading import ListOptions
from bamikube.kit.tasks import Tasks
from bamikube.kit.workqueue import WorkQueue, work
from bamikube.kit.world import World

log = logging.getLogger(__name__)

Object = dict[str, Any]
LOOK_AGAIN = 1.0  # seconds between two looks at objects that wait for their finalizers
_ROW = table.by_name("customresourcedefinitions.apiextensions.k8s.io")


class Definitions:
    """The loop. ``run`` works until cancelled."""

    def __init__(self, cache: Cache, registry: Registry, catalog: Catalog, world: World) -> None:
        self._cache = cache
        self._registry = registry
        self._catalog = catalog
        self._world = world
        self._queue = WorkQueue(world, name="definitions", cap=30.0)

    async def run(self, tasks: Tasks) -> None:
        await self._cache.synced.wait()
        self._cache.subscribe(DEFINITIONS, self._changed)
        try:
            await work(self._queue, self._sync, workers=2, tasks=tasks)
        finally:
            self._queue.close()

    def _changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._queue.add(new["metadata"]["name"])
        gone = old is not None and new is None
        accepted = (((old or {}).get("status") or {}).get("acceptedNames")) or {}
        renamed = new is not None and accepted and accepted != (new.get("status") or {}).get("acceptedNames")
        if gone or renamed:  # names may be free now that somebody else waits for
            group = ((old or {}).get("spec") or {}).get("group")
            for other in self._cache.list(DEFINITIONS):
                if other["spec"]["group"] == group:
                    self._queue.add(other["metadata"]["name"])

    async def _sync(self, name: str) -> float | None:
        definition = self._cache.get(DEFINITIONS, "", name)
        if definition is None:
            return None
        try:
            if not definition["metadata"].get("deletionTimestamp"):
                await self._settle(name)
                return None
            return await self._clean_up(definition)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def _settle(self, name: str) -> None:
        """Write down which names the definition gets and whether it is established."""

        async def change(obj: Object) -> Object:
            others = self._cache.list(DEFINITIONS)
            obj["status"] = naming.status_of(obj, others, stamp(self._world.clock.now()))
            return obj

        current = self._cache.get(DEFINITIONS, "", name)
        if current is not None and naming.status_of(
            current, self._cache.list(DEFINITIONS), stamp(self._world.clock.now())
        ) == current.get("status"):
            return
        await self._registry.modify(_ROW, "", name, change, subresource="status")

    async def _clean_up(self, definition: Object) -> float | None:
        """Delete what is left of the definition's objects; let the definition go when nothing is."""
        name = definition["metadata"]["name"]
        if naming.CLEANUP not in (definition["metadata"].get("finalizers") or ()):
            return None
        family = self._catalog.families.get(name)
        if family is not None and family.uid == definition["metadata"]["uid"]:
            left = await self._delete_objects(name, definition)
            if left:
                return LOOK_AGAIN
        await self._report(name, "InstanceDeletionCompleted", "removed all instances", status="False")

        async def release(obj: Object) -> Object:
            rest = [one for one in obj["metadata"].get("finalizers") or () if one != naming.CLEANUP]
            obj["metadata"]["finalizers"] = rest
            if not rest:
                del obj["metadata"]["finalizers"]
            return obj

        await self._registry.modify(_ROW, "", name, release)
        return None

    async def _delete_objects(self, name: str, definition: Object) -> int:
        """Ask for all objects to go; how many are still there."""
        row = self._catalog.families[name].storage
        listed = await self._registry.list_items(row, Filter(), ListOptions())
        condition = find(definition, "Terminating")
        if listed.items and (condition is None or condition.get("reason") != "InstanceDeletionInProgress"):
            await self._report(
                name, "InstanceDeletionInProgress", "CustomResource deletion is in progress", status="True"
            )
        if listed.items:
            await self._registry.delete_collection(row, Filter(), ListOptions(), DeleteOptions())
            listed = await self._registry.list_items(row, Filter(), ListOptions())
        return len(listed.items)

    async def _report(self, name: str, reason: str, message: str, *, status: str) -> None:
        async def change(obj: Object) -> Object:
            condition = find(obj, "Terminating")
            if condition is None or condition.get("reason") != reason:
                now = stamp(self._world.clock.now())
                naming.terminating(obj, reason, message, now, status=status)
            return obj

        await self._registry.modify(_ROW, "", name, change, subresource="status")

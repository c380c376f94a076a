"""delete and deletecollection.

Deleting is asking. What holds an object, and for how long, decides what happens::

    finalizers left?  -> deletionTimestamp is set, the object stays until the last finalizer is taken off
    grace seconds?    -> (pods on a node) deletionTimestamp = now + grace, the node agent finishes the deletion
    neither           -> the object goes, in one transaction with what hooks release

``propagationPolicy`` is written down as finalizers: ``orphan`` and ``foregroundDeletion`` are taken off again by the
garbage collector. Source: Kubernetes' "Garbage collection" and ``registry/generic/registry/store.go`` (behaviour).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from bamikube.api import errors, strategy
from bamikube.api.custom import naming
from bamikube.api.errors import Cause
from bamikube.api.resources import Resource
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.cache import Filter, Item
from bamikube.apiserver.cache.item import encode
from bamikube.apiserver.identity import SYSTEM, User
from bamikube.apiserver.registry import policy
from bamikube.apiserver.registry.base import TRIES, deep
from bamikube.apiserver.registry.hooks import NOTHING
from bamikube.apiserver.registry.preconditions import before_deletion
from bamikube.apiserver.registry.reading import ListOptions, Reading
from bamikube.apiserver.registry.writing import Writing, Written, goes
from bamikube.kit.clock import parse_rfc3339, rfc3339

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
LONGEST_GRACE = 10**10  # seconds, some centuries: deletionTimestamp must stay a date
TOGETHER = 48  # deletions of a collection in flight at once


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How to delete. ``grace`` is in seconds, None for the object's own; ``propagation`` "" for the kind's default."""

    grace: int | None = None
    propagation: str = ""
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False

    @classmethod
    def of(cls, body: dict[str, Any], query: dict[str, list[str]]) -> DeleteOptions:
        """From a DeleteOptions object and query parameters; the body wins. Raises 400 and 422."""
        grace = body.get("gracePeriodSeconds")
        if grace is None and (text := _first(query, "gracePeriodSeconds")):
            try:
                grace = int(text)
            except ValueError:
                raise errors.bad_request(f'gracePeriodSeconds: "{text}" is not a number of seconds') from None
        if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
            raise errors.bad_request("gracePeriodSeconds must be a whole number of seconds")
        if grace is not None and abs(grace) > LONGEST_GRACE:
            raise errors.bad_request(f"gracePeriodSeconds: {grace} is out of range")
        orphan = body.get("orphanDependents")
        if orphan is None and (text := _first(query, "orphanDependents")):
            orphan = text in ("true", "1", "True", "t")
        propagation = body.get("propagationPolicy") or _first(query, "propagationPolicy")
        if propagation and orphan is not None:
            raise _invalid(
                "propagationPolicy",
                "orphanDependents and deletionPropagation cannot be both set",
                propagation,
            )
        if propagation not in ("", "Orphan", "Background", "Foreground"):
            raise _invalid(
                "propagationPolicy", 'supported values: "Foreground", "Background", "Orphan"', propagation
            )
        if orphan is not None:
            propagation = "Orphan" if orphan else "Background"
        dry = body.get("dryRun") or query.get("dryRun") or []
        check_dry_run(dry)
        preconditions = body.get("preconditions") or {}
        return cls(
            grace,
            propagation,
            preconditions.get("uid") or "",
            preconditions.get("resourceVersion") or "",
            bool(dry),
        )

    def asked(self) -> dict[str, Any]:
        """As admission sees them, in the order of Kubernetes' fields; what is not said is None or empty."""
        preconditions = {"uid": self.uid, "resourceVersion": self.resource_version}
        return {
            "gracePeriodSeconds": self.grace,
            "preconditions": {name: value for name, value in preconditions.items() if value},
            "propagationPolicy": self.propagation,
            "dryRun": ["All"] if self.dry_run else [],
        }


def _first(query: dict[str, list[str]], name: str) -> str:
    values = query.get(name)
    return values[0] if values else ""


def _invalid(field: str, message: str, value: str) -> errors.ApiError:
    cause = Cause("FieldValueInvalid", f'Invalid value: "{value}": {message}', field)
    return errors.invalid("DeleteOptions", "", [cause], "meta.k8s.io")


def check_dry_run(values: Any, kind: str = "DeleteOptions") -> None:
    """``dryRun`` of options of ``kind`` knows one value, All. Raises 422."""
    if not isinstance(values, list) or any(value != "All" for value in values):
        shown = values[0] if isinstance(values, list) and values else values
        cause = Cause(
            "FieldValueNotSupported", f'Unsupported value: "{shown}": supported values: "All"', "dryRun"
        )
        raise errors.invalid(kind, "", [cause], "meta.k8s.io")


class Deleting(Reading, Writing):
    """The deleting verbs."""

    async def delete_item(
        self, resource: Resource, namespace: str, name: str, options: DeleteOptions, *, user: User = SYSTEM
    ) -> Written:
        """Delete, or begin to. ``removed`` says whether it is gone; ``item`` is its last state."""
        item = self.cached(resource, namespace, name)
        fresh = item is None
        if item is None:
            item = await self.fetch(resource, namespace, name)
        for _ in range(TRIES):
            if item is None:
                raise self.missing(resource, name)
            try:
                done, there = await self._delete(resource, namespace, name, item, options, user)
            except errors.ApiError:
                newest = None if fresh else await self.fetch(resource, namespace, name)
                if fresh or (newest is not None and newest.revision == item.revision):
                    raise
                item, fresh = newest, True
                continue
            if done is not None:
                if done.changed or fresh or options.dry_run:
                    return done
                newest = await self.fetch(resource, namespace, name)
                fresh = True
                if newest is None or newest.revision == item.revision:
                    return done
                there = newest
            item, fresh = there, True
        raise errors.conflict(resource.plural, name, errors.MODIFIED, resource.group)

    async def _delete(
        self, resource: Resource, namespace: str, name: str, item: Item, options: DeleteOptions, user: User
    ) -> tuple[Written | None, Item | None]:
        stored = self.stored(resource)
        old = item.decode()
        metadata = old["metadata"]
        before_deletion(resource, metadata, options.uid, options.resource_version)
        seen = old if stored is resource else await self.shown(resource, item)
        asked = options.asked()
        ctx = AdmissionContext(
            "DELETE", resource, namespace, name, user, None, seen, "", options.dry_run, asked
        )
        await self.admit(ctx)
        await self.judge(ctx)
        if stored.key == ("batch", "jobs") and not options.propagation:
            ctx.warnings.append(policy.ORPHANED_PODS)
        new = deep(old)
        self._mark(stored, new, options)
        if goes(stored, new):
            removed = await self._remove_instead(resource, item, options.dry_run)
            if removed is not None:
                removed.warnings = ctx.warnings
            return removed, (await self.fetch(resource, namespace, name) if removed is None else None)
        new["metadata"].pop("resourceVersion", None)
        old["metadata"].pop("resourceVersion", None)
        if new == old or options.dry_run:
            shown = item if new == old else Item.of(stored, encode(new), item.revision)
            return Written(shown, changed=False, warnings=ctx.warnings), None
        key = self.key(resource, namespace, name)
        done, there = await self.put(resource, key, new, item.revision, NOTHING)
        if done is not None:
            return Written(done, warnings=ctx.warnings), None
        return None, self.item_of(resource, there)

    def _mark(self, stored: Resource, obj: dict[str, Any], options: DeleteOptions) -> None:
        """Write down that ``obj`` shall go, when, and what has to happen before."""
        metadata = obj["metadata"]
        finalizers = list(metadata.get("finalizers") or ())
        if options.propagation:
            finalizers = [one for one in finalizers if one not in (ORPHAN, FOREGROUND)]
            wanted = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(options.propagation)
            if wanted:
                finalizers.append(wanted)
        elif stored.key in policy.ORPHANS_BY_DEFAULT and not {ORPHAN, FOREGROUND} & set(finalizers):
            finalizers.append(ORPHAN)
        if finalizers:
            metadata["finalizers"] = finalizers
        else:
            metadata.pop("finalizers", None)
        now = self.world.clock.now()
        grace = strategy.deletion_grace(stored, obj, options.grace)
        if metadata.get("deletionTimestamp"):
            # Already going: the grace period can only become shorter.
            before = metadata.get("deletionGracePeriodSeconds")
            if options.grace is None or before is None or grace >= before:
                return
            since = parse_rfc3339(metadata["deletionTimestamp"]) - before
            metadata["deletionTimestamp"] = rfc3339(max(now, since + grace))
            metadata["deletionGracePeriodSeconds"] = grace
            return
        metadata["deletionTimestamp"] = rfc3339(now + grace)
        metadata["deletionGracePeriodSeconds"] = grace
        if strategy.counts_generation(stored) and metadata.get("generation"):
            metadata["generation"] += 1
        if stored.key == policy.NAMESPACES:
            obj.setdefault("status", {})["phase"] = "Terminating"
        elif stored.key == policy.DEFINITIONS:
            naming.marked(obj, rfc3339(now))

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        user: User = SYSTEM,
        grace: int | None = None,
        uid: str = "",
    ) -> bool:
        """Delete, for the server's own loops. True when it is gone at once. Raises 404."""
        return (
            await self.delete_item(resource, namespace, name, DeleteOptions(grace, uid=uid), user=user)
        ).removed

    async def delete_collection(
        self,
        resource: Resource,
        wanted: Filter,
        listing: ListOptions,
        options: DeleteOptions,
        *,
        user: User = SYSTEM,
    ) -> list[Item]:
        """Delete all that match; those that vanish meanwhile do not count. Raises the first refusal."""
        listed = await self.list_items(resource, wanted, listing)
        waiting = iter(listed.items)
        failures: list[errors.ApiError] = []

        async def work() -> None:
            for item in waiting:
                if failures:
                    return
                try:
                    await self.delete_item(resource, item.namespace, item.name, options, user=user)
                except errors.ApiError as error:
                    if error.code != 404:
                        failures.append(error)
                        return

        await asyncio.gather(*(work() for _ in range(min(TOGETHER, len(listed.items)))))
        if failures:
            raise failures[0]
        return listed.items

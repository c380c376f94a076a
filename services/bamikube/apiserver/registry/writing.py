"""create, update and patch.

A write reads what is there, decides what shall be there, and writes it under the guard that nobody was faster::

    item (cache) -> change(copy) -> prepare -> admit -> validate -> txn(guard: item's revision)
         ^                                                              |
         +------------------- somebody was faster: what he wrote <------+

The first look comes from the cache and may be old. Therefore a refusal that rests on it (a conflict, an immutable
field, a validation against the old object) is only believed after a second look at the store itself; a write that
succeeded needs no second look, its guard was the proof.

A write that changes nothing is not written: the answer is the object as it stands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from bamikube.api import conversion, defaults, errors, strategy, validation, warnings
from bamikube.api.errors import Cause
from bamikube.api.kinds import expect_kind
from bamikube.api.resources import Resource
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.cache import Item
from bamikube.apiserver.converting import calls_out
from bamikube.apiserver.identity import SYSTEM, User
from bamikube.apiserver.registry import owners, ownership, policy
from bamikube.apiserver.registry.base import FREE_TRIES, READ_BACK, TRIES, Base, deep, same
from bamikube.apiserver.registry.preconditions import another_object
from bamikube.kit.clock import rfc3339
from bamikube.store.port import Compare, Delete, Put

# Given the current object (a private copy, in the request's version), the object that shall replace it.
Change = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

GENERATED_TRIES = 8
MAX_GENERATED_BASE = 58  # so that base and suffix fit a DNS label of 63


@dataclass(slots=True)
class Written:
    """The outcome of a write. ``item`` is what stands now; ``changed`` says whether anything was written."""

    item: Item
    created: bool = False
    changed: bool = True
    removed: bool = False
    warnings: list[str] = field(default_factory=list)


class Writing(Base):
    """The writing verbs, without delete."""

    # -- create --------------------------------------------------------------------------------------------------

    async def create_item(
        self,
        resource: Resource,
        obj: dict[str, Any],
        *,
        namespace: str = "",
        user: User = SYSTEM,
        dry_run: bool = False,
        options: dict[str, Any] | None = None,
        manager: str | None = ownership.SERVER,
    ) -> Written:
        """Create ``obj`` (which is changed). Raises 400, 403, 409, 422 and what hooks and admission raise.

        ``manager`` owns what he wrote; None when ``obj`` says already who owns what.
        """
        expect_kind(resource, obj)
        metadata = obj.setdefault("metadata", {})
        if metadata.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        metadata.pop("resourceVersion", None)
        namespace = settle_namespace(resource, metadata, namespace)
        generated = not metadata.get("name") and bool(metadata.get("generateName"))
        metadata["name"] = (
            metadata.get("name") or ""
        )  # validation wants one, and says so with what else is wrong
        metadata["uid"] = self.world.chance.uuid()
        metadata["creationTimestamp"] = rfc3339(self.world.clock.now())
        pristine = deep(obj) if generated else obj
        for attempt in range(GENERATED_TRIES if generated else 1):
            if generated:
                obj = deep(pristine)
                base = metadata["generateName"][:MAX_GENERATED_BASE]
                obj["metadata"]["name"] = base + self.world.chance.suffix(5)
            try:
                return await self._create(resource, obj, namespace, user, dry_run, options or {}, manager)
            except errors.ApiError as error:
                if not generated or error.reason != "AlreadyExists":
                    raise
                if attempt == GENERATED_TRIES - 1:
                    raise errors.none_left(resource.plural, obj["metadata"]["name"], resource.group) from None
        raise AssertionError("the last attempt returns or raises")

    async def _create(
        self,
        resource: Resource,
        obj: dict[str, Any],
        namespace: str,
        user: User,
        dry_run: bool,
        options: dict[str, Any],
        manager: str | None,
    ) -> Written:
        name = obj["metadata"]["name"]
        defaults.apply(resource, obj)
        told = owners.dedupe(obj["metadata"], owners.GIVEN)
        if manager is not None:
            ownership.track(resource, None, obj, manager, "", self._now())
        ctx = AdmissionContext("CREATE", resource, namespace, name, user, obj, None, "", dry_run, options)
        ctx.warnings += told
        uid, born = obj["metadata"]["uid"], obj["metadata"]["creationTimestamp"]
        managed = obj["metadata"].get("managedFields")
        await self.admit(ctx)
        obj = ctx.object if ctx.object is not None else obj
        if ctx.patched:
            metadata = obj.setdefault("metadata", {})
            metadata |= {"uid": uid, "creationTimestamp": born}
            settle_namespace(resource, metadata, namespace)
            name = ctx.name = metadata.get("name") or name
            metadata["name"] = name
            ctx.warnings += ownership.mend(obj, managed)
            ctx.warnings += owners.dedupe(metadata, owners.ADMITTED)
        strategy.prepare_create(resource, obj)
        hooks = self.hooks_of(resource)
        prepared = deep(obj) if hooks else obj
        lease = 0 if dry_run else await self.lease_of(resource)
        key = self.key(resource, namespace, name)
        for _ in range(TRIES):
            if hooks:
                obj = deep(prepared)
            extra = await self.extra(hooks, lambda hook, obj=obj: hook.on_create(obj))  # type: ignore[misc]
            refuse(resource, name, validation.validate_create(resource, obj))
            ctx.warnings += warnings.on_create(resource, obj)
            ctx.object = obj
            await self.judge(ctx)
            if dry_run:
                if await self.fetch(resource, namespace, name) is not None:
                    raise errors.already_exists(resource.plural, name, resource.group)
                shown = await self._unwritten(resource, obj)
                return Written(shown, created=True, changed=False, warnings=ctx.warnings)
            item, there = await self.put(
                resource, key, await self.to_stored(resource, obj), 0, extra, lease=lease
            )
            if item is not None:
                return Written(item, created=True, warnings=ctx.warnings)
            if there is not None:
                raise errors.already_exists(resource.plural, name, resource.group)
        raise errors.conflict(
            resource.plural, name, "too many others allocate at the same time; try again", resource.group
        )

    async def create(
        self, resource: Resource, obj: dict[str, Any], user: User = SYSTEM, *, namespace: str = ""
    ) -> dict[str, Any]:
        """Create, for the server's own loops. Returns the object as stored, in ``resource``'s version."""
        written = await self.create_item(resource, deep(obj), namespace=namespace, user=user)
        return await self.shown(resource, written.item)

    # -- update --------------------------------------------------------------------------------------------------

    async def modify(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Change,
        *,
        subresource: str = "",
        user: User = SYSTEM,
        dry_run: bool = False,
        options: dict[str, Any] | None = None,
        absent: Callable[[], Awaitable[Written]] | None = None,
        manager: str | None = ownership.SERVER,
        private: bool = True,
    ) -> Written:
        """Replace an object by what ``change`` makes of it, trying again when somebody was faster.

        ``manager`` takes what he changes; None when ``change`` says itself who owns what: then it returns the very object
        it is given when there is nothing to change, else one that has its ``metadata`` for itself and may share the rest.
        ``private``: what it is given is its own to write into; else it only reads that.

        ``change`` may refuse by raising; a refusal on what may be an old state is checked against the store.
        ``absent`` is called when there is no such object (create on update).
        """

        async def once(item: Item) -> tuple[Written | None, Item | None]:
            return await self._replace(
                resource,
                namespace,
                name,
                item,
                change,
                subresource,
                user,
                dry_run,
                options or {},
                manager,
                private,
            )

        key = self.key(resource, namespace, name)
        written = None
        if not self.turns.contended(key):
            written = await self._tried(resource, namespace, name, FREE_TRIES, once, absent, dry_run)
        if written is None:
            async with self.turns.taken(key):
                written = await self._tried(resource, namespace, name, TRIES, once, absent, dry_run)
        if written is None:
            raise errors.conflict(resource.plural, name, errors.MODIFIED, resource.group)
        return written

    async def _tried(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        tries: int,
        once: Callable[[Item], Awaitable[tuple[Written | None, Item | None]]],
        absent: Callable[[], Awaitable[Written]] | None,
        dry_run: bool,
    ) -> Written | None:
        """The outcome of a change; None when others were faster every time."""
        item = self.cached(resource, namespace, name)
        fresh = item is None
        if item is None:
            item = await self.fetch(resource, namespace, name)
        for _ in range(tries):
            if item is None:
                if absent is not None:
                    return await absent()
                raise self.missing(resource, name)
            try:
                written, item_now = await once(item)
            except errors.ApiError:
                if fresh:
                    raise
                newest = await self.fetch(resource, namespace, name)
                fresh = True
                if newest is not None and newest.revision == item.revision:
                    raise
                item = newest
                continue
            if written is not None:
                if written.changed or fresh or dry_run:
                    return written
                # Nothing to write, judged by a state that may be old: look once more.
                if await self._stands(resource, item):
                    return written
                item, fresh = await self.fetch(resource, namespace, name), True
                continue
            item, fresh = item_now, True
        return None

    async def _replace(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        item: Item,
        change: Change,
        subresource: str,
        user: User,
        dry_run: bool,
        options: dict[str, Any],
        manager: str | None,
        private: bool,
    ) -> tuple[Written | None, Item | None]:
        """One try. Returns the outcome, or None and the item that stands there now."""
        # Who only reads what there is, and says himself who owns what, need not have it for himself.
        reads = manager is None and not private and self.stored(resource) is resource
        key = self.key(resource, namespace, name)
        old = (self.recent.at(key, item.revision) if reads else None) or await self.shown(resource, item)
        new = await change(deep(old) if private else old)
        metadata = new.setdefault("metadata", {})
        metadata.pop("resourceVersion", None)
        old["metadata"].pop("resourceVersion", None)
        ctx = AdmissionContext(
            "UPDATE", resource, namespace, name, user, new, old, subresource, dry_run, options
        )
        ctx.revision = item.revision
        hooks = self.hooks_of(resource) if subresource in ("", "scale") else []
        changes = self.changes(ctx)
        if new is old and not (changes or hooks or item.outdated):
            return await self._unchanged(item, ctx), None
        if new is old or (manager is None and (changes or hooks)):
            # It will be changed in place. What is left else, defaults, adds nothing to a part that was stored before.
            ctx.object = new = deep(new)
            metadata = new["metadata"]
        defaults.apply(resource, new)
        ctx.warnings += owners.dedupe(metadata, owners.GIVEN)
        if manager is not None:
            ownership.track(resource, old, new, manager, subresource, self._now())
        self._prepare(resource, new, old, subresource)
        managed = metadata.get("managedFields")
        await self.admit(ctx)
        new = ctx.object if ctx.object is not None else new
        if ctx.patched:
            ctx.warnings += ownership.mend(new, managed)
            ctx.warnings += owners.dedupe(new.setdefault("metadata", {}), owners.ADMITTED)
            # A webhook may change what the request itself may, and no more.
            self._prepare(resource, new, old, subresource)
        prepared = deep(new) if hooks else new
        for _ in range(TRIES):
            if hooks:
                new = deep(prepared)
            extra = await self.extra(hooks, lambda hook, new=new: hook.on_update(old, new))  # type: ignore[misc]
            ownership.settle(new, old)
            unchanged = same(new, old)
            if not unchanged:
                causes = (
                    validation.validate_status_update(resource, new, old, ctx.warnings)
                    if subresource == "status"
                    else validation.validate_update(resource, new, old, ctx.warnings)
                )
                refuse(resource, name, causes)
            if subresource == "":
                ctx.warnings += warnings.on_update(resource, new, old)
            ctx.object = new
            await self.judge(ctx)
            if unchanged and not extra.writes and not item.outdated:
                return Written(item, changed=False, warnings=ctx.warnings), None
            if goes(resource, new):
                removed = await self._remove_instead(resource, item, dry_run)
                if removed is not None:
                    removed.warnings = ctx.warnings
                    return removed, None
                return None, await self.fetch(resource, namespace, name)
            if dry_run:
                shown = await self._unwritten(resource, new, item.revision)
                return Written(shown, changed=False, warnings=ctx.warnings), None
            lease = await self.lease_of(resource)
            stored = await self.to_stored(resource, new)
            done, there = await self.put(resource, key, stored, item.revision, extra, lease=lease)
            if done is not None:
                if reads and resource.custom is None:
                    self.recent.keep(key, done.revision, stored, len(done.raw))
                return Written(done, warnings=ctx.warnings), None
            if there is None or there.mod_revision != item.revision:
                return None, self.item_of(resource, there)
        raise errors.conflict(
            resource.plural, name, "too many others allocate at the same time; try again", resource.group
        )

    async def _unchanged(self, item: Item, ctx: AdmissionContext) -> Written:
        """The outcome of a change that changes nothing and that nobody will add to: judged all the same."""
        obj = ctx.object
        assert obj is not None
        if ctx.subresource == "":
            ctx.warnings += warnings.on_update(ctx.resource, obj, obj)
        await self.judge(ctx)
        return Written(item, changed=False, warnings=ctx.warnings)

    async def _stands(self, resource: Resource, item: Item) -> bool:
        """Whether the store still holds this revision of an object. Its value need not come along."""
        key = self.key(resource, item.namespace, item.name)
        there = (await self.store.range(key, limit=1, keys_only=True)).kvs
        return bool(there) and there[0].key == key and there[0].mod_revision == item.revision

    async def _remove_instead(self, resource: Resource, item: Item, dry_run: bool) -> Written | None:
        """Nothing holds the object any more: take it away, with what hooks release. None when somebody was faster."""
        if dry_run:
            return Written(item, changed=False, removed=True)
        hooks = self.hooks_of(resource)
        obj = await self.shown(resource, item) if hooks else {}
        key = self.key(resource, item.namespace, item.name)
        for _ in range(TRIES):
            extra = await self.extra(hooks, lambda hook: hook.on_delete(obj))
            guards: list[Compare] = [Compare(key, item.revision), *extra.guards]
            writes: list[Put | Delete] = [Delete(key), *extra.writes]
            if self.ledger is None or not self.ledger.watches(item.namespace, resource.storage_key):
                done = await self.store.txn(guards, writes)
            else:
                metadata = {"namespace": item.namespace, "name": item.name}
                done = await self.counted(self.ledger, resource, metadata, None, guards, writes)
            if done.succeeded:
                if resource.storage_key in READ_BACK:
                    await self.cache.reach(done.revision, 1.0)
                return Written(item, removed=True)
            there = done.current[0]
            if there is None or there.mod_revision != item.revision:
                return None
        raise errors.conflict(
            resource.plural, item.name, "too many others release at the same time; try again", resource.group
        )

    async def update_item(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        obj: dict[str, Any],
        *,
        subresource: str = "",
        user: User = SYSTEM,
        dry_run: bool = False,
        options: dict[str, Any] | None = None,
        manager: str = ownership.SERVER,
        may_create: Callable[[], None] = lambda: None,
    ) -> Written:
        """PUT. ``obj`` replaces what is there; with a resourceVersion only if that is still the one.

        ``may_create`` is asked before a PUT creates, and raises 403 when this user may only update.
        """
        expect_kind(resource, obj)
        metadata = obj.setdefault("metadata", {})
        if not metadata.get("name"):
            raise errors.bad_request(
                f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )
        if metadata["name"] != name:
            raise errors.bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            )
        metadata["name"] = name
        settle_namespace(resource, metadata, namespace)
        version = str(metadata.get("resourceVersion") or "")
        unconditional = version in ("", "0")
        uid = metadata.get("uid") or ""

        async def change(old: dict[str, Any]) -> dict[str, Any]:
            there = old["metadata"]
            if uid and uid != there.get("uid"):
                raise another_object(self.stored(resource), namespace, name, uid, there.get("uid", ""))
            if unconditional:
                if policy.needs_version(resource):
                    missing = Cause(
                        "FieldValueInvalid",
                        "Invalid value: 0: must be specified for an update",
                        "metadata.resourceVersion",
                    )
                    raise errors.invalid(resource.kind, name, [missing], resource.group)
            elif version != there.get("resourceVersion"):
                raise errors.conflict(resource.plural, name, errors.MODIFIED, resource.group)
            return deep(obj)

        async def absent() -> Written:
            if uid:
                raise another_object(self.stored(resource), namespace, name, uid, "")
            if unconditional and not subresource and policy.creates_on_update(resource):
                may_create()
                return await self.create_item(
                    resource,
                    without_version(obj),
                    namespace=namespace,
                    user=user,
                    dry_run=dry_run,
                    options=options,
                    manager=manager,
                )
            raise self.missing(resource, name)

        return await self.modify(
            resource,
            namespace,
            name,
            change,
            subresource=subresource,
            user=user,
            dry_run=dry_run,
            options=options,
            manager=manager,
            private=False,
            absent=absent,
        )

    async def update(
        self, resource: Resource, obj: dict[str, Any], user: User = SYSTEM, *, subresource: str = ""
    ) -> dict[str, Any]:
        """Update, for the server's own loops."""
        metadata = obj.get("metadata") or {}
        written = await self.update_item(
            resource,
            metadata.get("namespace", ""),
            metadata["name"],
            deep(obj),
            subresource=subresource,
            user=user,
        )
        return await self.shown(resource, written.item)

    # -- helpers -------------------------------------------------------------------------------------------------

    def _prepare(
        self, resource: Resource, new: dict[str, Any], old: dict[str, Any], subresource: str
    ) -> None:
        """Keep of ``old`` what an update of this part may not change."""
        if subresource == "status":
            strategy.prepare_status_update(resource, new, old, self._now())
        elif subresource in ("", "scale"):
            strategy.prepare_update(resource, new, old)

    def _now(self) -> str:
        return rfc3339(self.world.clock.now())

    async def shown(self, resource: Resource, item: Item) -> dict[str, Any]:
        """A private copy of an item in ``resource``'s version."""
        obj = item.decode()
        if self.converter is not None and calls_out(resource):
            return (await self.converter.objects(resource, [obj]))[0]
        return conversion.from_storage(resource, obj)

    async def to_stored(self, resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
        """``obj``, in ``resource``'s version, as it is kept."""
        if self.converter is not None and calls_out(resource):
            return (await self.converter.objects(self.stored(resource), [obj]))[0]
        return conversion.to_storage(resource, obj)

    async def _unwritten(self, resource: Resource, obj: dict[str, Any], revision: int = 0) -> Item:
        """The item a dry run would have written."""
        from bamikube.apiserver.cache.item import encode

        return Item.of(self.stored(resource), encode(await self.to_stored(resource, obj)), revision)


FOREIGN_NAMESPACE = "the namespace of the provided object does not match the namespace sent on the request"


def settle_namespace(resource: Resource, metadata: dict[str, Any], namespace: str) -> str:
    """The namespace of path and object, which must agree. Raises 400."""
    if not resource.namespaced:
        metadata.pop("namespace", None)
        return ""
    given = metadata.get("namespace") or ""
    if namespace and given and namespace != given:
        raise errors.bad_request(FOREIGN_NAMESPACE)
    namespace = namespace or given
    if not namespace:
        raise errors.bad_request("an empty namespace may not be set during creation")
    metadata["namespace"] = namespace
    return namespace


def without_version(obj: dict[str, Any]) -> dict[str, Any]:
    obj = deep(obj)
    obj["metadata"].pop("resourceVersion", None)
    return obj


def refuse(resource: Resource, name: str, causes: list[Cause]) -> None:
    """422 when there is anything wrong."""
    if causes:
        raise errors.invalid(resource.kind, name, causes, resource.group)


def goes(resource: Resource, obj: dict[str, Any]) -> bool:
    """Whether an object being deleted has nothing left that holds it."""
    metadata = obj["metadata"]
    if (
        not metadata.get("deletionTimestamp")
        or metadata.get("finalizers")
        or metadata.get("deletionGracePeriodSeconds")
    ):
        return False
    return not (resource.storage_key == policy.NAMESPACES and (obj.get("spec") or {}).get("finalizers"))

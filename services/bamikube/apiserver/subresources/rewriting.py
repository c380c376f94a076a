"""Guarded read-change-write for endpoints that change one part of an object by rules of their own.

The generic update judges a pod by what a client may change; binding sets exactly what it may not. So these endpoints
change the stored object themselves: read, change, admission, one transaction guarded by the revision that was read.
Whoever was faster makes it start again from what is there now.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bamikube.api import errors
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.call import Call
from bamikube.apiserver.registry import ownership
from bamikube.apiserver.registry.deletion import check_dry_run
from bamikube.apiserver.registry.hooks import NOTHING
from bamikube.kit.clock import rfc3339

Object = dict[str, Any]
_TRIES = 12


async def current(call: Call) -> Object:
    """A private copy of the object the call is about. Raises 404."""
    item = call.registry.cached(call.resource, call.namespace, call.name)
    if item is None:
        item = await call.registry.fetch(call.resource, call.namespace, call.name)
    if item is None:
        raise errors.not_found(call.resource.plural, call.name, call.resource.group)
    return item.decode()


async def rewrite(
    call: Call,
    change: Callable[[Object], None],
    *,
    admit: bool = True,
    dry_run: bool = False,
    subresource: str | None = None,
    manager: str | None = None,
) -> Object:
    """Apply ``change`` (in place; it may refuse by raising) and store. Returns the object as it is stored now.

    ``manager`` takes the fields that change; without one nobody does, as when the server binds a pod.
    What ``change`` refuses on a cached state is asked again of the state in the store.
    """
    registry, resource = call.registry, call.resource
    part = call.subresource if subresource is None else subresource
    item = registry.cached(resource, call.namespace, call.name)
    fresh = item is None
    if item is None:
        item = await registry.fetch(resource, call.namespace, call.name)
    for _ in range(_TRIES):
        if item is None:
            raise errors.not_found(resource.plural, call.name, resource.group)
        old, new = item.decode(), item.decode()
        try:
            change(new)
        except errors.ApiError:
            if fresh:
                raise
            item, fresh = await registry.fetch(resource, call.namespace, call.name), True
            continue
        for obj in (old, new):
            obj["metadata"].pop("resourceVersion", None)
        if manager is not None:
            now = rfc3339(call.world.clock.now())
            ownership.track(resource, old, new, manager, part, now)
        ownership.settle(new, old)
        if new == old:
            return item.decode()
        admission = call.services.admission
        if admit and admission is not None:
            ctx = AdmissionContext(
                "UPDATE", resource, call.namespace, call.name, call.user, new, old, part, dry_run
            )
            ctx.revision = item.revision
            await admission.mutate(ctx)
            await admission.validate(ctx)
            call.warnings[:] = ctx.warnings
        if dry_run:
            new["metadata"]["resourceVersion"] = str(item.revision)
            return new
        key = registry.key(resource, call.namespace, call.name)
        done, there = await registry.put(resource, key, new, item.revision, NOTHING)
        if done is not None:
            return done.decode()
        item, fresh = registry.item_of(resource, there), True
    raise errors.conflict(resource.plural, call.name, errors.MODIFIED, resource.group)


@asynccontextmanager
async def admitted(call: Call, body: Object) -> AsyncIterator[Object]:
    """What is asked, for the answer alone, passes admission like anything that is created: what mutating admission has made of
    ``body``. At the end of the block, where it has been found in order, the others judge it. Raises ApiError."""
    admission = call.services.admission
    if admission is None:
        yield body
        return
    name = str((body.get("metadata") or {}).get("name") or "")
    ctx = AdmissionContext("CREATE", call.resource, call.namespace, name, call.user, body, dry_run=dry(call))
    await admission.mutate(ctx)
    yield ctx.object or body
    await admission.validate(ctx)
    call.warnings.extend(ctx.warnings)


def dry(call: Call) -> bool:
    """Whether the caller wants nothing to be kept (``?dryRun=All``). Raises 422 on any other value."""
    values = [value for value in call.request.query.get("dryRun", []) if value]
    check_dry_run(values, f"{call.verb.capitalize()}Options")
    return bool(values)


def success(call: Call, code: int = 201) -> Object:
    """``Status: Success``, the answer of endpoints that return no object."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}

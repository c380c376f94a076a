"""The object of a request in the form a webhook asked for, and back.

A webhook whose rules name another version of a resource (matchPolicy Equivalent) is shown the object in that version,
and its patch is written for it. A scale is shown as a Scale, although what is stored is the workload.
"""

from __future__ import annotations

from typing import Any

from bamikube.api import conversion, defaults, schema
from bamikube.api.resources import Resource
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.matching import kind_of

Object = dict[str, Any]
SCALE = "scale"


def shown(ctx: AdmissionContext, row: Resource, obj: Object | None) -> Object | None:
    """``ctx.object`` or ``ctx.old`` as the webhook sees it; a copy where it differs."""
    if obj is None:
        return None
    own = kind_of(ctx.resource, ctx.subresource) == (
        ctx.resource.group,
        ctx.resource.version,
        ctx.resource.kind,
    )
    if not own and ctx.subresource != SCALE:
        group, version, kind = kind_of(row, ctx.subresource)
        return {"kind": kind, "apiVersion": f"{group}/{version}" if group else version, **obj}
    if ctx.revision and obj.get("metadata") is not None and "resourceVersion" not in obj["metadata"]:
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(ctx.revision)}}
    if ctx.subresource == SCALE:
        from bamikube.apiserver.registry.scale import scale_of

        return scale_of(ctx.resource, obj)
    return (
        obj if row is ctx.resource else conversion.from_storage(row, conversion.to_storage(ctx.resource, obj))
    )


def take_over(ctx: AdmissionContext, row: Resource, patched: Object) -> None:
    """Make ``ctx.object`` what a webhook made of it, in place: unknown fields go, defaults are filled in.

    Raises ValueError for an object whose types are wrong.
    """
    assert ctx.object is not None
    if ctx.subresource == SCALE:
        replicas = (patched.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            raise ValueError(f"spec.replicas: {replicas!r} is not a number of replicas")
        ctx.object.setdefault("spec", {})["replicas"] = replicas
        return
    if kind_of(row, ctx.subresource) == (row.group, row.version, row.kind):
        report = schema.check(row, patched)
        if report.errors:
            raise ValueError(report.errors[0].message)
        if row is not ctx.resource:
            patched = conversion.from_storage(ctx.resource, conversion.to_storage(row, patched))
        if isinstance(patched.get("metadata"), dict):
            patched["metadata"].pop("resourceVersion", None)
        defaults.apply(ctx.resource, patched)
    ctx.object.clear()
    ctx.object.update(patched)
    ctx.patched = True

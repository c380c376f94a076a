"""OwnerReferencesPermissionEnforcement: an owner reference is a power of its own, so it takes a right.

Whoever changes the owners of an object could make the garbage collector delete it: he needs the right to delete it.
Whoever makes an object block its owner's deletion needs the right to update the owner's ``finalizers``. Off by default.

Source: Kubernetes' admission controller reference, OwnerReferencesPermissionEnforcement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bamikube.api import errors, table
from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authz.authorizer import Authorizer

Object = dict[str, Any]


class OwnerReferencesPermissionEnforcement(Plugin):
    name = "OwnerReferencesPermissionEnforcement"
    operations = frozenset({"CREATE", "UPDATE"})

    def __init__(self, authorizer: Authorizer, rows: Callable[[], Sequence[Resource]]) -> None:
        """``rows`` are the resources served now: owners may be of custom kinds."""
        self._authorizer = authorizer
        self._rows = rows

    async def validate(self, ctx: AdmissionContext) -> None:
        if ctx.object is None or (ctx.resource.key == ("", "pods") and ctx.subresource == "status"):
            return
        new, old = _owners(ctx.object), _owners(ctx.old)
        if new == old:
            return
        if ctx.operation == "UPDATE":
            self._may_delete(ctx)
        for uid, owner in new.items():
            blocked_before = (old.get(uid) or {}).get("blockOwnerDeletion")
            if owner.get("blockOwnerDeletion") and not blocked_before:
                self._may_block(ctx, owner)

    def _may_delete(self, ctx: AdmissionContext) -> None:
        resource = ctx.resource
        asked = Attributes(
            ctx.user,
            "delete",
            group=resource.group,
            version=resource.version,
            resource=resource.plural,
            subresource=ctx.subresource,
            namespace=ctx.namespace,
            name=ctx.name,
        )
        verdict = self._authorizer.authorize(asked)
        if not verdict.allowed:
            why = f"cannot set an ownerRef on a resource you can't delete: {verdict.reason}, <nil>"
            raise _refused(ctx, why)

    def _may_block(self, ctx: AdmissionContext, owner: Object) -> None:
        version, kind = str(owner.get("apiVersion", "")), str(owner.get("kind", ""))
        resource = table.by_kind(version, kind)
        if resource is None:
            kinds = ((row.api_version, row.kind, row) for row in self._rows())
            resource = next((row for known, named, row in kinds if (known, named) == (version, kind)), None)
        if resource is None:
            why = (
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for "
                f'APIVersion {version} Kind {kind}: no matches for kind "{kind}" in version "{version}"'
            )
            raise _refused(ctx, why)
        asked = Attributes(
            ctx.user,
            "update",
            group=resource.group,
            version=resource.version,
            resource=resource.plural,
            subresource="finalizers",
            namespace=ctx.namespace if resource.namespaced else "",
            name=str(owner.get("name", "")),
        )
        verdict = self._authorizer.authorize(asked)
        if not verdict.allowed:
            why = (
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set "
                f"finalizers on: {verdict.reason}, <nil>"
            )
            raise _refused(ctx, why)


def _owners(obj: Object | None) -> dict[str, Object]:
    """Owner references by uid."""
    owners = ((obj or {}).get("metadata") or {}).get("ownerReferences") or []
    return {str(owner.get("uid", "")): owner for owner in owners}


def _refused(ctx: AdmissionContext, why: str) -> ApiError:
    return errors.forbidden(ctx.resource.plural, ctx.name, why, ctx.resource.group)

"""PATCH in its dialects, as a change for :meth:`Writing.modify`.

A patch is applied to the object as it stands; when somebody is faster it is applied again to what he wrote. Only a
patch that names a resourceVersion is held to it and answered 409.
"""

from __future__ import annotations

from typing import Any

import orjson

from bamikube.api import errors, kinds, patches, schema
from bamikube.api.errors import ApiError
from bamikube.api.gojson import go_map, kind_of
from bamikube.api.resources import Resource
from bamikube.apiserver import decoding
from bamikube.apiserver.identity import SYSTEM, User
from bamikube.apiserver.registry import ownership
from bamikube.apiserver.registry.base import deep
from bamikube.apiserver.registry.preconditions import frozen_uid
from bamikube.apiserver.registry.writing import (
    FOREIGN_NAMESPACE,
    Change,
    Writing,
    Written,
)
from bamikube.apiserver.warnings import telling, with_warnings

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
REJECTED = "the server rejected our request due to an error in our request"
KINDS = {"json": JSON_PATCH, "merge": MERGE_PATCH, "strategic": STRATEGIC_PATCH}


def parse_patch(media: str, body: bytes, resource: Resource) -> Any:
    """The patch document of a body. Raises 400, or 415 for a dialect that is not understood."""
    if not resource.definition and media not in (JSON_PATCH, MERGE_PATCH):
        raise errors.unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            f"{JSON_PATCH}, {MERGE_PATCH}, {APPLY_PATCH}"
        )
    if media not in (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH):
        # Where Kubernetes' router, and not its decoder, looks at the type, it does not say which there are.
        raise errors.unsupported_media_type("415: Unsupported Media Type", {})
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        prefix = "" if media == STRATEGIC_PATCH else "error decoding patch: "
        raise errors.bad_request(prefix + decoding.syntax(body, error)) from None


def apply_patch(media: str, doc: dict[str, Any], patch: Any, definition: str) -> dict[str, Any]:
    """``doc`` after ``patch``. Raises 400, 413 or 422."""
    try:
        if media == JSON_PATCH:
            return patches.json_patch(doc, patch)
        if media == MERGE_PATCH:
            return patches.merge_patch(doc, patch)
        return patches.strategic_merge_patch(doc, patch, definition, schema.property)
    except patches.PatchError as error:
        if error.too_large:
            raise errors.too_large(str(error)) from None
        if error.malformed:
            raise errors.bad_request(str(error)) from None
        # Kubernetes does not say why; a warning does, to the person at the terminal.
        raise ApiError(422, "Invalid", REJECTED, {}, with_warnings({}, [str(error)])) from None


def outcome_of(media: str, old: dict[str, Any], patch: Any, resource: Resource) -> schema.Patched:
    """How an error shows this patch, should its outcome be no such object."""
    if media == STRATEGIC_PATCH:
        return schema.Patched(lambda: go_map(patch), strategic=True)

    def patched() -> str:
        return orjson.dumps(
            apply_patch(media, old, patch, resource.definition), option=orjson.OPT_SORT_KEYS
        ).decode()

    return schema.Patched(patched)


class Patching(Writing):
    """The patch verb."""

    async def patch_item(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        media: str,
        patch: Any,
        *,
        subresource: str = "",
        user: User = SYSTEM,
        dry_run: bool = False,
        field_validation: str = "Warn",
        repeated: schema.Repeats = schema.NO_REPEATS,
        options: dict[str, Any] | None = None,
        manager: str = ownership.SERVER,
    ) -> Written:
        """PATCH. ``repeated`` are keys the patch gives twice. The answer's ``warnings`` name unknown fields of the outcome, and what admission says."""
        warnings: list[str] = []
        change = self.patch_change(resource, name, media, patch, field_validation, warnings, repeated)
        with telling(warnings):
            written = await self.modify(
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
            )
        written.warnings = [*warnings, *written.warnings]
        return written

    def patch_change(
        self,
        resource: Resource,
        name: str,
        media: str,
        patch: Any,
        field_validation: str,
        warnings: list[str],
        repeated: schema.Repeats = schema.NO_REPEATS,
    ) -> Change:
        async def change(old: dict[str, Any]) -> dict[str, Any]:
            new = deep(apply_patch(media, old, patch, resource.definition))
            outcome = outcome_of(media, old, patch, resource)
            if media != STRATEGIC_PATCH:  # which reads a kind and does not heed it
                _same_kind(resource, new, outcome)
            new["apiVersion"], new["kind"] = resource.api_version, resource.kind
            _same_object(resource, name, new, old["metadata"])
            warnings[:] = schema.ensure(resource, new, field_validation, repeated, outcome)
            return new

        return change


def _same_kind(resource: Resource, new: dict[str, Any], outcome: schema.Patched) -> None:
    """Raises 422 when the patched object is of another kind or version, 400 for a version that is served."""
    version, kind = new.get("apiVersion") or resource.api_version, new.get("kind") or resource.kind
    for field, value in (("apiVersion", version), ("kind", kind)):
        if not isinstance(value, str):
            raise outcome.error(
                "couldn't get version/kind; json parse error: "
                f"json: cannot unmarshal {kind_of(value)} into Go struct field .{field} of type string"
            )
    if (version, kind) == (resource.api_version, resource.kind):
        return
    fault = kinds.misfit(resource, version, kind) if resource.custom is None else ""
    if fault:
        raise outcome.error(fault)
    new["apiVersion"], new["kind"] = version, kind
    if resource.custom is not None:
        kinds.expect_kind(resource, new)


def _same_object(resource: Resource, name: str, new: dict[str, Any], before: dict[str, Any]) -> None:
    """Raises 400 or 409 when the patched object is not the one that was patched."""
    after = new.setdefault("metadata", {})
    if not isinstance(after, dict):
        return  # the schema has the say
    if not after.get("name"):
        raise errors.bad_request(
            f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )
    version = str(after.get("resourceVersion") or "")
    if version not in ("", "0") and version != before.get("resourceVersion"):
        raise errors.conflict(resource.plural, name, errors.MODIFIED, resource.group)
    if after.get("uid") and after["uid"] != before.get("uid"):
        raise frozen_uid(resource, name, after["uid"])
    if resource.namespaced and after.get("namespace", before["namespace"]) != before["namespace"]:
        raise errors.bad_request(FOREIGN_NAMESPACE)
    if resource.namespaced:
        after["namespace"] = before["namespace"]
    else:
        after.pop("namespace", None)
    if after["name"] != before["name"]:
        raise errors.bad_request(
            f"the name of the object ({after['name']}) does not match the name on the URL ({before['name']})"
        )

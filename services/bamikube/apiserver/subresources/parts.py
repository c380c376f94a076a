"""Subresources that change one part of an object: ephemeral containers, resizing, finalizers, approval.

Each takes the whole object in the body (or a patch of it), lets only its own part through, and adds its own rules.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from bamikube.api import defaults, errors, schema
from bamikube.api.errors import Cause
from bamikube.api.ownership import Author
from bamikube.api.ownership.managers import APPLY
from bamikube.api.validation import certificates, metadata, resizing
from bamikube.api.validation.containers import container
from bamikube.api.validation.security import proc_mount
from bamikube.apiserver import negotiation
from bamikube.apiserver.call import Call
from bamikube.apiserver.endpoints import patch_options, repeated_in_patch
from bamikube.apiserver.registry import ownership
from bamikube.apiserver.registry.applying import applied, check_document, parse_document
from bamikube.apiserver.registry.base import deep
from bamikube.apiserver.registry.patching import APPLY_PATCH, apply_patch, outcome_of, parse_patch
from bamikube.apiserver.subresources.rewriting import Object, current, dry, rewrite
from bamikube.kit.clock import rfc3339
from bamikube.kit.http import Answer

Merge = Callable[[Object, Object], None]


async def _edit(call: Call, merge: Merge) -> Answer:
    """GET, PUT and PATCH of a part: ``merge(stored, wanted)`` moves the part over, or refuses."""
    if call.verb == "get":
        return call.answer(await current(call))
    if call.verb not in ("update", "patch"):
        raise errors.method_not_allowed()
    wanted_of = await _wanted(call)
    applies = negotiation.content_type(call.request) == APPLY_PATCH

    def change(stored: Object) -> None:
        wanted = wanted_of(stored)
        given = wanted.get("metadata") or {}
        version = given.get("resourceVersion")
        if version and version != stored["metadata"].get("resourceVersion"):
            raise errors.conflict(call.resource.plural, call.name, errors.MODIFIED, call.resource.group)
        if given.get("name", call.name) != call.name:
            raise errors.bad_request(
                f"the name of the object ({given['name']}) does not match the name on the URL ({call.name})"
            )
        defaults.apply(call.resource, wanted)
        merge(stored, wanted)
        if applies:
            ownership.put(stored, given.get("managedFields") or [])

    manager = None if applies else ownership.manager_in(call.request)
    return call.answer(await rewrite(call, change, dry_run=dry(call), manager=manager))


async def _wanted(call: Call) -> Callable[[Object], Object]:
    if call.verb == "update":
        body = await call.decode()
        return lambda stored: body
    media = negotiation.content_type(call.request)
    if media == APPLY_PATCH:
        return _applied(call)
    patch = parse_patch(media, call.request.body, call.resource)
    validation = patch_options(call.request)["fieldValidation"]
    repeated = repeated_in_patch(call.request, patch, validation)

    def patched(stored: Object) -> Object:
        wanted = apply_patch(media, stored, patch, call.resource.definition)
        outcome = outcome_of(media, stored, patch, call.resource)
        call.told[:] = schema.ensure(call.resource, wanted, validation, repeated, outcome)
        return wanted

    return patched


def _applied(call: Call) -> Callable[[Object], Object]:
    """What an applied document makes of the object; only the part goes through, with its owners."""
    request, resource = call.request, call.resource
    options = patch_options(request)
    doc, call.told[:] = parse_document(request.body, options["fieldValidation"])
    document = check_document(resource, doc, call.namespace, call.name)
    author = Author(options["fieldManager"], APPLY, resource.api_version, call.subresource)
    now = rfc3339(call.world.clock.now())
    return lambda stored: deep(applied(resource, stored, document, author, now, bool(options["force"])))


async def ephemeral_containers(call: Call) -> Answer:
    """``pods/ephemeralcontainers``: containers for debugging are added to a running pod, and never change again."""
    return await _edit(call, add_ephemeral)


def add_ephemeral(stored: Object, wanted: Object) -> None:
    """Take over new ephemeral containers. Raises 422 when a known one changes or goes."""
    name = stored["metadata"]["name"]
    before = {one["name"]: one for one in (stored.get("spec") or {}).get("ephemeralContainers") or []}
    after = (wanted.get("spec") or {}).get("ephemeralContainers") or []
    taken = {
        one["name"]
        for field in ("containers", "initContainers")
        for one in (stored.get("spec") or {}).get(field) or []
    }
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, one in enumerate(after):
        path = f"spec.ephemeralContainers[{index}]"
        own = one.get("name") or ""
        if not own:
            causes.append(Cause("FieldValueRequired", "Required value", f"{path}.name"))
        elif own in taken or own in seen:
            causes.append(Cause("FieldValueDuplicate", f'Duplicate value: "{own}"', f"{path}.name"))
        if not one.get("image"):
            causes.append(Cause("FieldValueRequired", "Required value", f"{path}.image"))
        target = one.get("targetContainerName")
        if target and target not in taken:
            causes.append(
                Cause("FieldValueNotFound", f'Not found: "{target}"', f"{path}.targetContainerName")
            )
        causes.extend(
            Cause(
                "FieldValueForbidden",
                "Forbidden: cannot be set for an Ephemeral Container",
                f"{path}.{field}",
            )
            for field in ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle")
            if one.get(field)
        )
        if own in before and one != before[own]:
            causes.append(
                Cause(
                    "FieldValueForbidden",
                    f'Forbidden: existing ephemeral containers "{own}" may not be changed',
                    path,
                )
            )
        seen.add(own)
    causes.extend(
        Cause(
            "FieldValueForbidden",
            f'Forbidden: existing ephemeral containers "{own}" may not be removed',
            "spec.ephemeralContainers",
        )
        for own in before
        if own not in seen
    )
    if not causes:
        volumes = {each.get("name") or "" for each in (stored.get("spec") or {}).get("volumes") or ()}
        for index, each in enumerate(after):
            path = f"spec.ephemeralContainers[{index}]"
            causes += container(path, each, volumes, set())
            causes += proc_mount(
                f"{path}.securityContext", each.get("securityContext") or {}, stored.get("spec") or {}
            )
    if resizing.MIRROR in (stored["metadata"].get("annotations") or {}):
        causes.append(
            Cause("FieldValueForbidden", "Forbidden: static pods do not support ephemeral containers", "")
        )
    if causes:
        raise errors.invalid("Pod", name, causes)
    if after and after != ((stored.get("spec") or {}).get("ephemeralContainers") or []):
        stored["spec"]["ephemeralContainers"] = after
        _count(stored)


async def resize(call: Call) -> Answer:
    """``pods/resize``: cpu and memory of running containers."""
    return await _edit(call, resize_containers)


def resize_containers(stored: Object, wanted: Object) -> None:
    """Take over the resources of containers. Raises 422 for what cannot be resized."""
    before = copy.deepcopy(stored)
    resizing.take_resources(stored, wanted)
    if stored["spec"] == before["spec"]:
        return
    causes = resizing.resized(stored, before)
    if causes:
        raise errors.invalid("Pod", stored["metadata"]["name"], causes)
    _count(stored)


def _count(pod: Object) -> None:
    """A pod's spec changed: one generation more."""
    pod["metadata"]["generation"] = int(pod["metadata"].get("generation") or 0) + 1


async def finalize(call: Call) -> Answer:
    """``namespaces/finalize``: the one way to change a namespace's ``spec.finalizers``. An emptied, deleted one goes.

    As in Kubernetes the rest of the namespace's author's part, its metadata, goes through as well.
    """
    if call.verb != "update":
        raise errors.method_not_allowed()
    body = await call.decode()
    finalizers = list((body.get("spec") or {}).get("finalizers") or [])
    version = (body.get("metadata") or {}).get("resourceVersion")

    async def change(stored: Object) -> Object:
        if version and version != stored["metadata"].get("resourceVersion"):
            raise errors.conflict("namespaces", call.name, errors.MODIFIED)
        take_metadata("Namespace", "", stored, body)
        stored.setdefault("spec", {})["finalizers"] = finalizers
        if not finalizers:
            del stored["spec"]["finalizers"]
        return stored

    written = await call.registry.modify(
        call.resource,
        "",
        call.name,
        change,
        subresource="finalize",
        user=call.user,
        dry_run=dry(call),
        manager=ownership.manager_in(call.request),
    )
    return call.answer(written.item.decode())


async def approve(call: Call) -> Answer:
    """``certificatesigningrequests/approval``: the conditions, among them Approved and Denied, and metadata."""
    now = rfc3339(call.world.clock.now())
    return await _edit(call, lambda stored, wanted: take_approval(stored, wanted, now))


def take_metadata(kind: str, group: str, stored: Object, wanted: Object) -> None:
    """Take over what authors may change in metadata. Raises 422."""
    before = dict(stored["metadata"])
    for field in ("labels", "annotations", "finalizers", "ownerReferences"):
        stored["metadata"].pop(field, None)
        if given := (wanted.get("metadata") or {}).get(field):
            stored["metadata"][field] = given
    causes = metadata.validate_change(stored["metadata"], before)
    if causes:
        raise errors.invalid(kind, before["name"], causes, group)


def take_approval(stored: Object, wanted: Object, now: str) -> None:
    """Take over metadata and the conditions. Raises 422 when a request would be both approved and denied, or be taken back."""
    take_metadata("CertificateSigningRequest", "certificates.k8s.io", stored, wanted)
    before = {one.get("type"): one for one in (stored.get("status") or {}).get("conditions") or []}
    conditions: list[dict[str, Any]] = [
        dict(one) for one in (wanted.get("status") or {}).get("conditions") or []
    ]
    causes = certificates.approval({"status": {"conditions": conditions}}, stored)
    if causes:
        raise errors.invalid(
            "CertificateSigningRequest", stored["metadata"]["name"], causes, "certificates.k8s.io"
        )
    for condition in conditions:
        condition["lastUpdateTime"] = condition.get("lastUpdateTime") or now
        known = before.get(condition.get("type"))
        since = (
            now
            if known is None or known.get("status") != condition["status"]
            else known.get("lastTransitionTime")
        )
        condition["lastTransitionTime"] = condition.get("lastTransitionTime") or since
    if conditions:
        stored.setdefault("status", {})["conditions"] = conditions

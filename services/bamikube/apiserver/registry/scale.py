"""The scale subresource: the replica count of a workload as an ``autoscaling/v1`` Scale.

A Scale is a view: it is made from the workload, and writing it writes ``spec.replicas`` under the same guard. Its
resourceVersion and uid are the workload's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api import errors, schema, selectors
from bamikube.api.custom.kind import CustomKind
from bamikube.api.errors import Cause
from bamikube.api.fields import defined_object_type
from bamikube.api.resources import Resource
from bamikube.apiserver.identity import SYSTEM, User
from bamikube.apiserver.registry import ownership
from bamikube.apiserver.registry.applying import Applying, check_document, untyped
from bamikube.apiserver.registry.patching import apply_patch, outcome_of

# What the body is, as a row of the table; there is no such resource.
SCALE = Resource(
    "autoscaling", "v1", "Scale", "scales", "scale", True, "io.k8s.api.autoscaling.v1.Scale", virtual=True
)
Wanted = Callable[[dict[str, Any]], dict[str, Any]]


def scale_of(resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
    """The Scale of a workload."""
    metadata = obj.get("metadata") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    replicas, observed, text = _custom(resource.custom, obj) if resource.custom else _builtin(resource, obj)
    shown: dict[str, Any] = {"replicas": observed}
    if text:
        shown["selector"] = text
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": shown,
    }


def _builtin(resource: Resource, obj: dict[str, Any]) -> tuple[int, int, str]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    selector = spec.get("selector")
    if selector is None:
        text = ""
    elif resource.key == ("", "replicationcontrollers"):
        text = str(selectors.from_map(selector))
    else:
        text = selectors.format_object(selector)
    return spec.get("replicas", 1), status.get("replicas") or 0, text


def _custom(kind: CustomKind, obj: dict[str, Any]) -> tuple[int, int, str]:
    """What stands at the paths of the definition; a number that is not there is 0."""
    paths = kind.compiled.scale
    if paths is None:
        return 0, 0, ""
    replicas, observed = _at(obj, paths.spec_replicas), _at(obj, paths.status_replicas)
    text = _at(obj, paths.selector) if paths.selector else ""
    return (
        replicas if isinstance(replicas, int) else 0,
        observed if isinstance(observed, int) else 0,
        text if isinstance(text, str) else "",
    )


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        obj = obj.get(name) if isinstance(obj, dict) else None
    return obj


def set_replicas(resource: Resource, obj: dict[str, Any], replicas: int) -> None:
    """Write the count where the workload keeps it, in place. Raises 422 when something else stands on the way."""
    paths = resource.custom.compiled.scale if resource.custom is not None else None
    *way, last = paths.spec_replicas if paths is not None else ("spec", "replicas")
    place = obj
    for name in way:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            wrong = Cause("FieldValueInvalid", f"Invalid value: {name} is no object", ".".join(way))
            raise errors.invalid(resource.kind, obj["metadata"]["name"], [wrong], resource.group)
    place[last] = replicas


def patched_scale(
    media: str, patch: Any, field_validation: str, repeated: schema.Repeats, warnings: list[str]
) -> Wanted:
    """What a patch makes of a Scale; ``warnings`` then are those about its outcome. Raises 400, 413 or 422."""

    def wanted(current: dict[str, Any]) -> dict[str, Any]:
        scale = apply_patch(media, current, patch, SCALE.definition)
        outcome = outcome_of(media, current, patch, SCALE)
        warnings[:] = schema.ensure(SCALE, scale, field_validation, repeated, outcome)
        return scale

    return wanted


def replicas_of(scale: dict[str, Any], name: str) -> int:
    """The count a Scale asks for. Raises 422."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        wrong = Cause(
            "FieldValueInvalid",
            f"Invalid value: {replicas}: must be greater than or equal to 0",
            "spec.replicas",
        )
        raise errors.invalid("Scale", name, [wrong], "autoscaling")
    return replicas


class Scaling(Applying):
    """get, update and patch of scale."""

    async def write_scale(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        wanted_of: Wanted,
        warnings: list[str],
        *,
        user: User = SYSTEM,
        dry_run: bool = False,
        manager: str = ownership.SERVER,
    ) -> dict[str, Any]:
        """PUT or PATCH: ``wanted_of`` makes the wanted Scale of the present one. Returns the new Scale; what admission
        says is added to ``warnings``."""

        async def change(old: dict[str, Any]) -> dict[str, Any]:
            wanted = wanted_of(scale_of(resource, old))
            metadata = wanted.get("metadata") or {}
            version = str(metadata.get("resourceVersion") or "")
            if version not in ("", "0") and version != old["metadata"].get("resourceVersion"):
                raise errors.conflict(resource.plural, name, errors.MODIFIED, resource.group)
            if metadata.get("uid") and metadata["uid"] != old["metadata"].get("uid"):
                raise errors.conflict(
                    resource.plural, name, "the uid of the Scale is another object's", resource.group
                )
            if metadata.get("name") and metadata["name"] != name:
                raise errors.bad_request(
                    f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
                )
            set_replicas(resource, old, replicas_of(wanted, name))
            return old

        written = await self.modify(
            resource,
            namespace,
            name,
            change,
            subresource="scale",
            user=user,
            dry_run=dry_run,
            manager=manager,
        )
        warnings += written.warnings
        return scale_of(resource, await self.shown(resource, written.item))

    async def apply_scale(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        doc: dict[str, Any],
        warnings: list[str],
        manager: str,
        *,
        force: bool = False,
        user: User = SYSTEM,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """PATCH with an applied Scale: its manager owns the workload's ``spec.replicas``. Returns the new Scale."""
        if (doc.get("apiVersion"), doc.get("kind")) != ("autoscaling/v1", "Scale"):
            raise errors.bad_request(
                "incorrect version specified in apply patch. Specified patch version: "
                f"{doc.get('apiVersion') or ''}, Kind={doc.get('kind') or ''}, expected: autoscaling/v1, Kind=Scale"
            )
        if faults := defined_object_type(SCALE.definition).check(doc):
            raise untyped(resource, namespace, name, faults)
        metadata = dict(doc.get("metadata") or {})
        if metadata.get("managedFields") is not None:
            raise errors.bad_request("metadata.managedFields must be nil")
        wanted: dict[str, Any] = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata,
        }
        if "replicas" in (doc.get("spec") or {}):
            set_replicas(resource, wanted, replicas_of(doc, name))
        checked = check_document(resource, wanted, namespace, name)
        written = await self.apply_item(
            resource,
            namespace,
            name,
            checked,
            manager,
            force=force,
            subresource="scale",
            user=user,
            dry_run=dry_run,
        )
        warnings += written.warnings
        return scale_of(resource, await self.shown(resource, written.item))

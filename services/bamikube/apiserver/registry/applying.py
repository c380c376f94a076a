"""Server-side apply, as a change for :meth:`Writing.modify`, or a create when there is nothing yet.

The document is judged before anything is looked at: of the right version, with nothing its schema does not know, no list
element twice. Then it is applied to the object as it stands; when somebody is faster, to what he wrote. Only a document
that names a resourceVersion is held to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from bamikube.api import errors, ownership, schema
from bamikube.api.fields import Faults, FieldSet, Unfit, sets
from bamikube.api.gojson import kind_of
from bamikube.api.ownership import Applied, Author, lastapplied
from bamikube.api.ownership.managers import APPLY
from bamikube.api.resources import Resource
from bamikube.apiserver import bodies, decoding
from bamikube.apiserver.identity import SYSTEM, User
from bamikube.apiserver.registry import ownership as owners
from bamikube.apiserver.registry.base import TRIES, deep
from bamikube.apiserver.registry.patching import Patching
from bamikube.apiserver.registry.preconditions import frozen_uid
from bamikube.apiserver.registry.writing import Written


def parse_document(body: bytes, field_validation: str) -> tuple[dict[str, Any], list[str]]:
    """The applied document (YAML or JSON) and what there is to warn of. Raises 400."""
    doc, repeated = _parsed(body)
    if not repeated or field_validation == "Ignore":
        return doc, []
    if field_validation == "Strict":
        raise errors.bad_request(
            f"error strict decoding YAML: error converting YAML to JSON: {repeated.error}"
        )
    return doc, list(repeated.texts)


def _parsed(body: bytes) -> tuple[dict[str, Any], schema.Repeats]:
    try:
        doc = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            doc = decoding.load_yaml(body)
        except decoding.Unreadable as error:
            raise errors.bad_request(f"error decoding YAML: error converting YAML to JSON: {error}") from None
        return _mapping(doc), bodies.survey_yaml(body)
    doc = _mapping(doc)
    # Whatever it is written in, an applied document is read as YAML.
    return doc, bodies.survey_yaml(body) if bodies.duplicate_keys(body, doc) else schema.NO_REPEATS


def _mapping(doc: Any) -> dict[str, Any]:
    if doc is None:
        return {}
    if not isinstance(doc, dict):
        raise errors.bad_request(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal "
            f"{kind_of(doc)} into Go value of type map[string]interface {{}}"
        )
    return doc


@dataclass(slots=True)
class Document:
    """What somebody applies, as it will be merged: with quantities and times as they are stored.

    ``fields`` are the ones it states; ``nulls``: it says null somewhere; ``said`` gives the document as he said it.
    ``used``: parts of it have become parts of an object, so it is whole no more.
    """

    meant: dict[str, Any]
    fields: FieldSet
    nulls: bool
    said: Callable[[], dict[str, Any]]
    used: bool = False


def check_document(resource: Resource, doc: dict[str, Any], namespace: str, name: str) -> Document:
    """The document, ready to be applied; ``doc`` is changed on the way. Raises 400."""
    if not isinstance(doc.get("metadata", {}), dict):
        raise errors.bad_request("error decoding YAML: metadata must be an object")
    metadata = doc.get("metadata") or {}
    if doc.get("apiVersion") != resource.api_version:
        raise errors.bad_request(
            "incorrect version specified in apply patch. "
            f"Specified patch version: {doc.get('apiVersion') or ''}, expected: {resource.api_version}"
        )
    if doc.get("kind") != resource.kind:
        raise errors.bad_request(
            f"the kind in the data ({doc.get('kind') or ''}) does not match the kind of the resource ({resource.kind}): "
            f"{resource.plural} expects {resource.api_version}, Kind={resource.kind}"
        )
    if metadata.get("managedFields") is not None:
        raise errors.bad_request("metadata.managedFields must be nil")
    if metadata.get("name", name) != name:
        raise errors.bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
        )
    if namespace and metadata.get("namespace", namespace) != namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request: "
            f"{metadata['namespace']} is not {namespace}"
        )
    text = _text_of(doc)
    kept = None if text else deep(doc)

    def said() -> dict[str, Any]:
        # Few ask, so the text is read again rather than a copy made each time.
        return orjson.loads(text) if kept is None else kept  # type: ignore[no-any-return]

    kind = owners.type_of(resource)
    report = schema.check(resource, doc)
    if report.errors or report.unknown or resource.custom is not None:
        if faults := kind.check(said()):
            raise untyped(resource, namespace, name, faults)
        if report.errors:
            raise schema.decode_error(resource, report)
    nulls = (not text or _NOTHING.search(text) is not None) and _restore_nulls(doc, said())
    try:
        return Document(doc, kind.stated(doc), nulls, said)
    except Unfit:
        raise untyped(resource, namespace, name, kind.check(said()) or []) from None


_NOTHING = re.compile(rb':(?:null|false|0|"")[,}]')
_ZEROS = ("", 0, False)


def _text_of(doc: dict[str, Any]) -> bytes:
    """The document as JSON; nothing when it cannot be written: integers beyond 64 bits, hundreds of levels."""
    try:
        return orjson.dumps(doc)
    except (TypeError, ValueError):
        return b""


def untyped(resource: Resource, namespace: str, name: str, faults: Faults) -> errors.ApiError:
    """400: the document does not fit its schema."""
    lines = [f"{path}: {what}" for path, what in faults]
    what = lines[0] if len(lines) == 1 else "errors:" + "".join(f"\n  {one}" for one in lines)
    return errors.bad_request(
        f"failed to create typed patch object ({namespace}/{name}; "
        f"{resource.group}/{resource.version}, Kind={resource.kind}): {what}"
    )


def _restore_nulls(normal: Any, doc: Any) -> bool:
    """Put back the nulls and zeros that the schema's check dropped: who says so owns the field, and wants it empty.

    Says whether there were any.
    """
    found = False
    if isinstance(doc, dict) and isinstance(normal, dict):
        for key, value in doc.items():
            if value is None or (value in _ZEROS and key not in normal):
                normal[key] = value
                found = True
            elif isinstance(value, dict | list) and key in normal:
                found |= _restore_nulls(normal[key], value)
    elif isinstance(doc, list) and isinstance(normal, list):
        for one, other in zip(normal, doc, strict=False):
            found |= _restore_nulls(one, other)
    return found


def _outcome(
    resource: Resource,
    live: dict[str, Any] | None,
    doc: Document,
    author: Author,
    now: str,
    force: bool,
) -> Applied:
    """What applying ``doc`` makes of ``live``. Raises 409 for conflicts."""
    versions = owners.versions_of(resource)
    reset = owners.reset_fields(resource, author.subresource)

    def once(force: bool) -> Applied:
        return ownership.apply(live, doc.meant, doc.fields, author, versions, now, force=force, reset=reset)

    outcome = once(force)
    if outcome.conflicts:
        conflicts = outcome.conflicts
        if author.manager == lastapplied.MANAGER and live is not None:
            conflicts = _unexcused(resource, live, conflicts)
        if conflicts:
            raise ownership.conflict_error(conflicts)
        outcome = once(True)
    return outcome


def applied(
    resource: Resource,
    live: dict[str, Any] | None,
    doc: Document,
    author: Author,
    now: str,
    force: bool,
) -> dict[str, Any]:
    """``live`` after ``doc`` has been applied, ``managedFields`` included: ``live`` itself when nothing is new.

    What is new is so on the outside only: its parts are parts of ``live`` and of ``doc``. Raises 409 for conflicts.
    """
    outcome = _outcome(resource, live, doc, author, now, force)
    renews = author.manager == lastapplied.MANAGER and not author.subresource
    renews = renews and lastapplied.noted_in(outcome.object)
    if live is not None and outcome.nothing and not renews:
        return live
    doc.used = True
    new: dict[str, Any] = deep(outcome.object) if doc.nulls else dict(outcome.object)
    new["metadata"] = dict(new.get("metadata") or {})
    if renews:
        lastapplied.renew(new, doc.said())
    if doc.nulls:
        schema.check(resource, new)  # they have done their work
    owners.put(new, ownership.written(outcome.managers))
    return new


def _unexcused(
    resource: Resource, live: dict[str, Any], conflicts: tuple[ownership.Conflict, ...]
) -> tuple[ownership.Conflict, ...]:
    """The conflicts that client-side apply's last document does not explain."""
    said = lastapplied.last_document(live, resource.api_version)
    if said is None:
        return conflicts
    schema.check(resource, said)
    try:
        fields = lastapplied.excused(live, said, owners.type_of(resource))
    except Unfit:
        return conflicts
    return tuple(one for one in conflicts if not sets.has(fields, one.path))


class Applying(Patching):
    """The apply patch."""

    async def apply_item(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        doc: Document,
        manager: str,
        *,
        force: bool = False,
        subresource: str = "",
        user: User = SYSTEM,
        dry_run: bool = False,
        options: dict[str, Any] | None = None,
        may_create: Callable[[], None] = lambda: None,
    ) -> Written:
        """PATCH with an applied document. ``may_create`` raises 403 when it may only patch."""
        author = Author(manager, APPLY, resource.api_version, subresource)
        metadata = doc.meant.get("metadata") or {}
        version, uid = str(metadata.get("resourceVersion") or ""), metadata.get("uid") or ""

        def document() -> Document:
            """The document, whole."""
            return check_document(resource, doc.said(), namespace, name) if doc.used else doc

        async def change(old: dict[str, Any]) -> dict[str, Any]:
            there = old["metadata"]
            if version not in ("", "0") and version != there.get("resourceVersion"):
                raise errors.conflict(resource.plural, name, errors.MODIFIED, resource.group)
            if uid and uid != there.get("uid"):
                raise frozen_uid(resource, name, uid)
            return applied(resource, old, document(), author, self._now(), force)

        async def absent() -> Written:
            if subresource:
                raise self.missing(resource, name)
            may_create()
            if uid:
                message = (
                    f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                )
                raise errors.conflict(resource.plural, name, message, resource.group)
            if version not in ("", "0"):
                raise self.missing(resource, name)
            obj = applied(resource, None, document(), author, self._now(), force)
            obj["metadata"]["name"] = name
            return await self.create_item(
                resource, obj, namespace=namespace, user=user, dry_run=dry_run, options=options, manager=None
            )

        for attempt in range(TRIES):
            try:
                return await self.modify(
                    resource,
                    namespace,
                    name,
                    change,
                    subresource=subresource,
                    user=user,
                    dry_run=dry_run,
                    options=options,
                    absent=absent,
                    manager=None,
                    private=False,
                )
            except errors.ApiError as error:
                if error.reason != "AlreadyExists" or attempt == TRIES - 1:
                    raise  # else somebody has created it meanwhile: apply to that
        raise AssertionError("the last attempt returns or raises")

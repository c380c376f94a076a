"""Who owns which fields: where the registry asks :mod:`bamikube.api.ownership`.

Types are compiled once per definition. Kinds that are served in two shapes (events, autoscalers) are compared in the shape
in which a manager wrote; for all others a version is a name and nothing more.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Any

from bamikube.api import conversion, errors, ownership, strategy, table
from bamikube.api.errors import Cause
from bamikube.api.fields import FieldSet, Object, defined_object_type
from bamikube.api.memory import remembered
from bamikube.api.ownership import Author, Version, Versions
from bamikube.api.ownership.managers import UPDATE, read_foreign
from bamikube.api.resources import Resource
from bamikube.kit.http import Request

SERVER = "kube-apiserver"  # the manager of what the server writes by itself
LONGEST_MANAGER = 128


def type_of(resource: Resource) -> Object:
    """The type of a resource's objects."""
    if resource.custom is not None:
        return resource.custom.compiled.type
    return defined_object_type(resource.definition)


def versions_of(resource: Resource) -> Versions:
    """The versions a resource's managers may have written in, seen from ``resource``."""
    return _known(resource, "")[0]


def reset_fields(resource: Resource, subresource: str) -> FieldSet:
    """The fields an endpoint does not write."""
    return _known(resource, subresource)[1]


@functools.lru_cache(maxsize=1024)
def _known(resource: Resource, subresource: str) -> tuple[Versions, FieldSet]:
    return _versions(resource), strategy.reset_fields(resource, subresource)


def _versions(resource: Resource) -> Versions:
    if resource.custom is not None:
        rows = list(resource.custom.family.rows.values())
        return {row.api_version: Version(type_of(row), evolves=True) for row in rows}.get
    builtin = table.TABLE + table.OPTIONAL
    rows = [row for row in builtin if row.storage_key == resource.storage_key and row.kind == resource.kind]
    if any(conversion.to_storage(row, _PROBE) is not _PROBE for row in rows):
        return {row.api_version: _version(resource, row) for row in rows}.get
    return {row.api_version: Version(type_of(row)) for row in rows}.get


_PROBE: dict[str, Any] = {"metadata": {}}


def _version(here: Resource, row: Resource) -> Version:
    if row is here:
        return Version(type_of(row))

    def into(obj: dict[str, Any]) -> dict[str, Any]:
        return conversion.from_storage(row, conversion.to_storage(here, obj))

    def back(obj: dict[str, Any]) -> dict[str, Any]:
        return conversion.from_storage(here, conversion.to_storage(row, obj))

    return Version(type_of(row), into, back)


def track(
    resource: Resource,
    old: dict[str, Any] | None,
    new: dict[str, Any],
    manager: str,
    subresource: str,
    now: str,
) -> None:
    """Write into ``new`` who owns its fields after ``manager`` has made it of ``old`` (None: created it)."""
    author = Author(manager, UPDATE, resource.api_version, subresource)
    versions, reset = _known(resource, subresource)
    put(new, ownership.track(old, new, author, versions, now, reset))


def put(obj: dict[str, Any], managed: list[dict[str, Any]]) -> None:
    """Set ``managedFields``; an object without managers has none."""
    if managed:
        obj["metadata"]["managedFields"] = managed
    else:
        obj["metadata"].pop("managedFields", None)


def mend(obj: dict[str, Any], before: list[dict[str, Any]] | None) -> list[str]:
    """Take back what admission has made of ``managedFields`` when that cannot be understood. Returns warnings."""
    after = obj["metadata"].get("managedFields")
    if after == before:
        return []
    try:
        put(obj, ownership.written(read_foreign(after)))
    except ValueError as error:
        put(obj, before or [])
        return [
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated "
            f"mutating admission controller; please fix your requests: {error}"
        ]
    return []


def settle(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Take over the old ``managedFields`` when the new ones tell of nothing but another time."""
    after, before = new["metadata"].get("managedFields"), old["metadata"].get("managedFields")
    if after and before and after != before and list(map(_timeless, after)) == list(map(_timeless, before)):
        new["metadata"]["managedFields"] = before


def _timeless(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "time"}


def manager_in(request: Request) -> str:
    """Who makes a change: the manager he says he is, or his User-Agent."""
    named = request.param("fieldManager") if request.raw_query else ""
    return named or manager_of(request.headers.get("user-agent", ""))


@remembered(1024)
def manager_of(user_agent: str) -> str:
    """The manager of a client that names none: its User-Agent up to the first slash, at most 128 characters."""
    name = user_agent.partition("/")[0]
    return "".join(each for each in name if _printable(each))[:LONGEST_MANAGER]


@remembered(1024)
def _legible(manager: str) -> bool:
    return all(map(_printable, manager))


def _printable(character: str) -> bool:
    return character == " " or unicodedata.category(character)[0] not in "CZ"


def check_manager(kind: str, manager: str, *, required: bool = False) -> None:
    """The ``fieldManager`` parameter of a request whose options are of ``kind``. Raises 422."""
    cause = None
    if required and not manager:
        cause = Cause("FieldValueRequired", "Required value: is required for apply patch", "fieldManager")
    elif len(manager) > LONGEST_MANAGER:
        cause = Cause(
            "FieldValueTooLong", f"Too long: may not be more than {LONGEST_MANAGER} bytes", "fieldManager"
        )
    elif not _legible(manager):
        cause = Cause(
            "FieldValueInvalid",
            f'Invalid value: "{manager}": should only contain printable characters',
            "fieldManager",
        )
    if cause is not None:
        raise errors.invalid(kind, "", [cause], "meta.k8s.io")

"""``managedFields``: for every manager the set of fields that are his.

An entry is known by its manager's name, the operation (Apply or Update) and the subresource; an Update also by the
version it was made in, because a client that writes two versions means two sets of fields. An Apply in another version
replaces the one before.

At most ten Update entries are kept; beyond that the oldest ones of a version are merged into ``ancient-changes``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bamikube.api.fields import FieldSet, Object, sets

APPLY = "Apply"
UPDATE = "Update"
ANCIENT = "ancient-changes"
BEFORE = "before-first-apply"
MAX_UPDATERS = 10

Key = tuple[str, str, str, str]  # manager, operation, subresource, version (of an Update)


@dataclass(frozen=True, slots=True)
class Version:
    """An object's form in one version: its type, and how an object of the request's version comes into it and back.

    ``evolves``: the type may be another than when the managers wrote (a custom resource's schema was changed).
    """

    type: Object
    into: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    back: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    evolves: bool = False


Versions = Callable[[str], "Version | None"]


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes, by which operation, in which version, through which subresource ("" for the object itself)."""

    manager: str
    operation: str
    api_version: str
    subresource: str = ""

    @property
    def key(self) -> Key:
        version = "" if self.operation == APPLY else self.api_version
        return (self.manager or "unknown", self.operation, self.subresource, version)


@dataclass(frozen=True, slots=True)
class Entry:
    """What one manager owns. ``time`` is RFC 3339, "" when unknown; ``raw`` the entry as it was read, if unchanged."""

    manager: str
    operation: str
    api_version: str
    time: str
    subresource: str
    fields: FieldSet
    raw: dict[str, Any] | None = None

    @property
    def key(self) -> Key:
        version = "" if self.operation == APPLY else self.api_version
        return (self.manager, self.operation, self.subresource, version)

    @classmethod
    def new(cls, author: Author, fields: FieldSet, time: str) -> Entry:
        manager = author.manager or "unknown"
        return cls(manager, author.operation, author.api_version, time, author.subresource, fields)

    def with_fields(self, fields: FieldSet) -> Entry:
        return self if fields is self.fields else self._with(self.time, fields, None)

    def at(self, time: str) -> Entry:
        """The same fields, at another time."""
        return self._with(time, self.fields, None if self.raw is None else {**self.raw, "time": time})

    def _with(self, time: str, fields: FieldSet, raw: dict[str, Any] | None) -> Entry:
        # Written out: every write does this, and dataclasses.replace takes five times as long.
        return Entry(self.manager, self.operation, self.api_version, time, self.subresource, fields, raw)

    def shown(self) -> dict[str, Any]:
        """The entry of ``managedFields``."""
        if self.raw is not None:
            return self.raw
        entry: dict[str, Any] = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
        }
        if self.time:
            entry["time"] = self.time
        entry["fieldsType"] = "FieldsV1"
        entry["fieldsV1"] = sets.ordered(self.fields)
        if self.subresource:
            entry["subresource"] = self.subresource
        return entry

    @property
    def printed(self) -> str:
        """The manager as conflicts name him: ``"kubectl" using apps/v1 at 2026-01-02T03:04:05Z``."""
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        if self.operation == UPDATE:
            text += f" using {self.api_version}"
            if self.time:
                text += f" at {self.time}"
        return text


Managers = dict[Key, Entry]

_TEXTS = ("manager", "apiVersion", "time", "subresource")


def read(entries: Any) -> Managers:
    """The managers of a stored object: what stands there was written by us."""
    managers: Managers = {}
    for raw in entries or ():
        entry = _entry(raw, raw.get("fieldsV1") or {}, raw)
        managers[entry.key] = entry
    return managers


def read_foreign(entries: Any) -> Managers:
    """The managers a client has written. Raises ValueError for what cannot be understood."""
    managers: Managers = {}
    if not isinstance(entries or [], list):
        raise ValueError("managedFields must be a list")
    for raw in entries or ():
        if not isinstance(raw, dict) or raw.get("operation") not in (APPLY, UPDATE):
            raise ValueError("managedFields: operation must be Apply or Update")
        if not all(isinstance(raw.get(name) or "", str) for name in _TEXTS):
            raise ValueError(f"managedFields: {', '.join(_TEXTS)} must be text")
        if raw.get("fieldsType") != "FieldsV1" or not raw.get("apiVersion"):
            raise ValueError("managedFields: fieldsType must be FieldsV1, and apiVersion must be there")
        entry = _entry(raw, sets.canonical(raw.get("fieldsV1") or {}), None)
        managers[entry.key] = entry
    return managers


def _entry(raw: dict[str, Any], fields: FieldSet, kept: dict[str, Any] | None) -> Entry:
    return Entry(
        raw.get("manager") or "",
        raw.get("operation") or "",
        raw.get("apiVersion") or "",
        raw.get("time") or "",
        raw.get("subresource") or "",
        fields,
        kept,
    )


def given(old: dict[str, Any] | None, new: dict[str, Any], subresource: str) -> Managers:
    """The managers a write starts from.

    A client may change ``managedFields``, through the object itself; ``[{}]`` resets them. What he leaves out, or what
    cannot be understood, stays as it is.
    """
    live = ((old or {}).get("metadata") or {}).get("managedFields")
    wanted = (new.get("metadata") or {}).get("managedFields")
    if not subresource and wanted and wanted != live:
        if wanted == [{}]:
            return {}
        try:
            managers = read_foreign(wanted)
        except ValueError:
            managers = {}
        if managers:
            return managers
    return read(live)


def settled(managers: Managers, versions: Versions) -> Managers:
    """The managers along the types of today."""
    result: Managers = {}
    for key, entry in managers.items():
        version = versions(entry.api_version)
        if version is not None and version.evolves:
            fields = version.type.settled(entry.fields)
            if fields != entry.fields:
                entry = entry.with_fields(fields)
        result[key] = entry
    return result


def written(managers: Managers) -> list[dict[str, Any]]:
    """``managedFields``, in order: appliers first, then by time, name, version, subresource."""
    entries = sorted(
        managers.values(),
        key=lambda one: (one.operation, one.time, one.manager, one.api_version, one.subresource),
    )
    return [entry.shown() for entry in entries]


def capped(managers: Managers) -> Managers:
    """Not more than ten updaters: the oldest of a version become one."""
    if len(managers) <= MAX_UPDATERS:
        return managers
    updaters = [entry for entry in managers.values() if entry.operation == UPDATE]
    excess = len(updaters) - MAX_UPDATERS
    if excess <= 0:
        return managers
    updaters.sort(key=lambda one: (one.time, one.key))
    result = dict(managers)
    first: dict[str, Entry] = {}
    for entry in updaters:
        if excess <= 0:
            break
        version = entry.api_version
        if version not in first:
            first[version] = entry
            continue
        author = Author(ANCIENT, UPDATE, version)
        bucket = result.get(author.key)
        if bucket is None:
            bucket = first[version]
            del result[bucket.key]
        del result[entry.key]
        result[author.key] = Entry.new(author, sets.union(bucket.fields, entry.fields), entry.time)
        excess -= 1
    return result

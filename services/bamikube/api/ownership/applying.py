"""Server-side apply: a document says what fields its manager wants, and with which values.

::

    merged   = live with everything the document says
    mine     = the fields of the document           (what the manager owns from now on)
    given up = what he owned before and does not any more; what nobody else owns of it is taken out of merged
    changes  = compare(live, merged);  another manager's field among them is a conflict, unless forced

Worked example: kubectl owns ``replicas: 3`` and ``image: a``. ``ci`` applies ``image: b``: a conflict with kubectl. With
force, ``image`` is ci's. Then kubectl applies a document without ``replicas``: nobody owns it any more, it goes (and is
defaulted). A document that says what is there already shares the ownership, and changes nothing.

Applying a document twice is applying it once: the second time nothing changes, not even a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.api.fields import FieldSet, elements, sets
from bamikube.api.ownership import managers as entries
from bamikube.api.ownership import updating
from bamikube.api.ownership.managers import APPLY, BEFORE, UPDATE, Author, Entry, Managers, Version, Versions

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field that another manager owns and the document would change. ``path`` are the steps to it."""

    owner: Entry
    path: tuple[str, ...]

    @property
    def field(self) -> str:
        return elements.text(self.path)


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome: the object (without ``managedFields``), its managers, and the conflicts that forbid it.

    ``nothing``: the object and its managers are what they were.
    """

    object: Object
    managers: Managers
    conflicts: tuple[Conflict, ...] = ()
    nothing: bool = False


def apply(
    live: Object | None,
    doc: Object,
    stated: FieldSet,
    author: Author,
    versions: Versions,
    now: str,
    *,
    force: bool = False,
    reset: FieldSet = sets.EMPTY,
) -> Applied:
    """Apply ``doc``, of the request's version, to ``live`` in the same version (None: there is nothing yet).

    ``stated`` is what the document says, as its type states it: whoever has checked the document knows that already.
    ``reset`` are the fields that this endpoint does not write.
    """
    assert author.operation == APPLY
    bare = _bare(live or {})
    found = entries.read((live or {}).get("metadata", {}).get("managedFields"))
    known = entries.settled(found, versions)
    if live is not None and not known:
        before = Author(BEFORE, UPDATE, author.api_version, author.subresource)
        known = updating.updated({}, bare, {}, before, versions, now, reset)
    here = versions(author.api_version)
    assert here is not None, "the version of the request is served"
    merged: Object = here.type.merge(bare, doc)
    last = known.get(author.key)
    mine = sets.without_subtrees(stated, reset)
    same = last is not None and last.api_version == author.api_version and last.fields == mine
    managers = {**known, author.key: Entry.new(author, mine, now)}
    if last is not None and not same:
        merged = _prune(merged, managers, last, author.api_version, versions)
    changes = updating.Changes(bare, merged, author.api_version, versions, reset)
    conflicts = _conflicts(managers, author, changes)
    if conflicts and not force:
        return Applied(bare, known, conflicts)
    managers = updating.strip(managers, changes, but=author.key)
    if not mine:
        del managers[author.key]
    elif last is not None and same:
        # Where nothing is new the time stays, too.
        managers[author.key] = last.at(now) if any(changes.at(author.api_version)) else last
    managers = entries.capped(managers)
    # Entries that nobody touched are the very ones that were read, so this is a comparison of identities.
    return Applied(merged, managers, nothing=merged is bare and managers == found)


def _bare(obj: Object) -> Object:
    """The object without ``managedFields``."""
    metadata = obj.get("metadata")
    if not metadata or "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {name: each for name, each in metadata.items() if name != "managedFields"}}


# Every document names its object, though entries of managedFields do not say so: metadata is never given up.
_NAMED: FieldSet = {"f:metadata": {"f:name": sets.LEAF}}


def _prune(merged: Object, managers: Managers, last: Entry, api_version: str, versions: Versions) -> Object:
    """``merged`` without what only the manager's last document said.

    A struct goes when it was only there for what he gave up, with whatever defaults have grown in it.
    """
    version = versions(last.api_version)
    if version is None:
        return merged
    kind = version.type
    owned = _NAMED
    others: dict[str, FieldSet] = {}
    for entry in managers.values():
        if entry.api_version == last.api_version or _alike(version, versions(entry.api_version)):
            owned = sets.union(owned, entry.fields)
        else:
            others[entry.api_version] = sets.union(others.get(entry.api_version, sets.EMPTY), entry.fields)
    if not sets.difference(last.fields, owned):
        return merged
    given_up = sets.difference(kind.named(last.fields), kind.named(owned))
    if last.api_version == api_version or version.into is None or version.back is None:
        pruned: Object = kind.without(merged, given_up)
    else:
        pruned = version.back(kind.without(version.into(merged), given_up))
    for other, fields in others.items():
        pruned = _keep(merged, pruned, fields, other, api_version, versions)
    return pruned


def _alike(one: Version, other: Version | None) -> bool:
    """Whether fields have the same paths in both versions."""
    return other is not None and one.into is None and other.into is None


def _keep(
    merged: Object, pruned: Object, owned: FieldSet, other: str, api_version: str, versions: Versions
) -> Object:
    """``pruned`` with what managers of the version ``other`` own of ``merged``."""
    version = versions(other)
    if version is None:
        return pruned
    if other == api_version or version.into is None or version.back is None:
        before, after = merged, pruned
    else:
        before, after = version.into(merged), version.into(pruned)
    removed = version.type.compare(before, after)[1]
    owned = version.type.named(owned)
    if not removed or not sets.intersection(removed, owned):
        return pruned
    kept: Object = version.type.without(before, sets.difference(removed, owned))
    return kept if version.back is None or other == api_version else version.back(kept)


def _conflicts(managers: Managers, author: Author, changes: updating.Changes) -> tuple[Conflict, ...]:
    found: list[Conflict] = []
    if not changes.at(author.api_version)[0]:
        return ()
    for key, entry in managers.items():
        if key == author.key:
            continue
        try:
            taken, _ = changes.at(entry.api_version)
        except KeyError:
            continue
        found += [Conflict(entry, path) for path in sets.paths(sets.intersection(entry.fields, taken))]
    return tuple(sorted(found, key=lambda one: (one.owner.printed, one.path)))


def conflict_error(conflicts: tuple[Conflict, ...]) -> ApiError:
    """The 409 that names every field and its owner."""
    if len(conflicts) == 1:
        only = conflicts[0]
        message = f"Apply failed with 1 conflict: conflict with {only.owner.printed}: {only.field}"
    else:
        lines: list[str] = []
        owner = ""
        for one in conflicts:
            if one.owner.printed != owner:
                owner = one.owner.printed
                lines.append(f"conflicts with {owner}:")
            lines.append(f"- {one.field}")
        message = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {one.owner.printed}",
            "field": one.field,
        }
        for one in conflicts
    ]
    return ApiError(409, "Conflict", message, {"causes": causes})

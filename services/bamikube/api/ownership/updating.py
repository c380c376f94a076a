"""Who owns what after a create, an update or a patch that is no apply.

Such a write takes whatever it changes: what it added or changed is the author's alone, what it removed is nobody's.
Everything else stays with whom it was.

Worked example: ``kubectl`` applied ``{replicas: 3, image: a}``; an autoscaler updates ``replicas`` to 5. Now ``image`` is
kubectl's (Apply) and ``replicas`` the autoscaler's (Update).
"""

from __future__ import annotations

from typing import Any

from bamikube.api.fields import FieldSet, sets
from bamikube.api.ownership import managers as entries
from bamikube.api.ownership.managers import Author, Entry, Managers, Versions

Object = dict[str, Any]


def track(
    old: Object | None,
    new: Object,
    author: Author,
    versions: Versions,
    now: str,
    reset: FieldSet = sets.EMPTY,
) -> list[dict[str, Any]]:
    """The ``managedFields`` of ``new``, which replaces ``old`` (None: is created).

    ``reset`` are the fields that this endpoint does not write, whatever the body says (``status``, on the object
    itself). An object whose managers are not tracked (they were reset) stays so.
    """
    known = entries.given(old, new, author.subresource)
    if old is not None and not known:
        return []
    known = entries.settled(known, versions)
    return entries.written(entries.capped(updated(old or {}, new, known, author, versions, now, reset)))


def updated(
    old: Object,
    new: Object,
    known: Managers,
    author: Author,
    versions: Versions,
    now: str,
    reset: FieldSet = sets.EMPTY,
) -> Managers:
    """The managers after ``author`` has made ``new`` of ``old``."""
    changes = Changes(old, new, author.api_version, versions, reset)
    taken, removed = changes.at(author.api_version)
    if not taken and not removed:
        return known
    result = strip(known, changes)
    if taken:
        before = known.get(author.key)
        mine = before.fields if before is not None else sets.EMPTY
        fields = sets.union(sets.difference(mine, removed), taken)
        result[author.key] = Entry.new(author, fields, now)
    return result


class Changes:
    """What a write changes, in whichever version one asks for. ``at`` gives what it takes and what it removes."""

    def __init__(
        self, old: Object, new: Object, api_version: str, versions: Versions, reset: FieldSet
    ) -> None:
        self._old, self._new = old, new
        self._api_version = api_version
        self._versions = versions
        self._reset = reset
        self._known: dict[str, tuple[FieldSet, FieldSet]] = {}

    def at(self, api_version: str) -> tuple[FieldSet, FieldSet]:
        """Raises KeyError when there is no such version (any more)."""
        known = self._known.get(api_version)
        if known is None:
            version = self._versions(api_version)
            if version is None:
                raise KeyError(api_version)
            into = version.into
            if api_version == self._api_version or into is None:
                taken, removed = version.type.compare(self._old, self._new)
            else:
                taken, removed = version.type.compare(into(self._old), into(self._new))
            known = (self._kept(taken), self._kept(removed))
            self._known[api_version] = known
        return known

    def _kept(self, fields: FieldSet | None) -> FieldSet:
        return sets.without_subtrees(fields, self._reset) if fields else sets.EMPTY


def strip(known: Managers, changes: Changes, but: entries.Key | None = None) -> Managers:
    """Managers without the fields somebody has taken or removed; those left with nothing go."""
    result: Managers = {}
    for key, entry in known.items():
        if key == but:
            result[key] = entry
            continue
        try:
            taken, removed = changes.at(entry.api_version)
        except KeyError:
            continue  # a version that is not served any more: nobody can say what its fields are
        fields = sets.difference(sets.difference(entry.fields, taken), removed)
        if fields == entry.fields:
            result[key] = entry
        elif fields:
            result[key] = entry.with_fields(fields)
    return result

"""Which resources this server serves: the built-in rows, and those of the custom resources that are there.

The catalog follows the definitions in the cache. A definition that appears gives the cache a slot at once, so that no
event of its objects is missed; its versions are served once it is established. A changed definition takes effect with
the event that brings it: the next request finds new rows, objects in the cache get their new form, and watches end so
that their clients ask again. A definition that goes takes rows, slot and watches along.

::

    definition created -> slot -> established -> rows served -> changed -> other rows -> deleted -> nothing left

Built-in rows come first: no definition can take their place.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from bamikube.api import table
from bamikube.api.custom import family as families
from bamikube.api.custom.kind import Family
from bamikube.api.resources import Resource
from bamikube.apiserver.cache import Cache, keys

log = logging.getLogger(__name__)

DEFINITIONS = ("apiextensions.k8s.io", "customresourcedefinitions")
_BUILT_IN = frozenset(row.storage_key for row in table.TABLE)


class Catalog:
    """The live table of rows. ``version`` moves whenever the rows do."""

    def __init__(self, cache: Cache, optional: Sequence[Resource] = ()) -> None:
        """``optional`` are rows of :data:`table.OPTIONAL` that are served, too."""
        self._builtin = table.TABLE + tuple(optional)
        self.rows: tuple[Resource, ...] = self._builtin
        self.version = 0
        self.families: dict[str, Family] = {}
        self._cache = cache
        self._by_path = {(row.group, row.version, row.plural): row for row in self._builtin}
        cache.subscribe(DEFINITIONS, self._changed)

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The row behind ``/apis/<group>/<version>/<plural>``."""
        return self._by_path.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """The row of an object's ``apiVersion`` and ``kind``."""
        builtin = table.by_kind(api_version, kind)
        if builtin in self._builtin:
            return builtin
        return next((row for row in self.rows if row.api_version == api_version and row.kind == kind), None)

    def stored(self) -> list[Resource]:
        """One row for every resource whose objects are kept, in the form they are kept in."""
        builtin = [row for row in self._builtin if not row.virtual and table.storage_row(row) is row]
        return builtin + [family.storage for family in self.families.values()]

    # -- following -----------------------------------------------------------------------------------------------

    def _changed(self, kind: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        name = ((new or old) or {})["metadata"]["name"]
        before = self.families.get(name)
        if new is None:
            if before is not None:
                del self.families[name]
                self._cache.remove(before.storage)
                self._publish()
            return
        try:
            family = families.family_of(new, before)
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            log.error("the definition %s in the store cannot be used and is left out: %r", name, error)
            return
        if family.storage.key in _BUILT_IN:
            return
        if before is not None and before.uid != family.uid:
            self._cache.remove(before.storage)
            before = None
        if before is None:
            self.families[name] = family
            self._cache.add(family.storage, family.revision)
        elif families.serves_alike(family, before):
            before.revision = family.revision  # a condition moved: the rows stay as they are
            return
        else:
            self.families[name] = family
            self._cache.replace(family.storage, renew=family.digest != before.digest)
        self._publish()

    def _publish(self) -> None:
        custom = [row for name in sorted(self.families) for row in self.families[name].served]
        self.rows = self._builtin + tuple(custom)
        self._by_path = {(row.group, row.version, row.plural): row for row in self.rows}
        self.version += 1


def definition_key(resource: Resource) -> bytes:
    """Where the definition of a custom resource stands in the store."""
    definitions = table.by_name("customresourcedefinitions.apiextensions.k8s.io")
    return keys.key(definitions, "", f"{resource.plural}.{resource.group}")

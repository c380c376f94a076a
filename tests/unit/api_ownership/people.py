"""A small stage: managers who write one object, one after the other."""

from __future__ import annotations

import copy
from typing import Any

from bamikube.api import ownership
from bamikube.api.fields import Object, defined_object_type, elements, sets
from bamikube.api.ownership import Applied, Author, Version
from bamikube.api.ownership.managers import APPLY, UPDATE

DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"
SERVICE = "io.k8s.api.core.v1.Service"


class Stage:
    """``obj`` is what stands; time goes on by a second a write."""

    def __init__(
        self, definition: str = "", api_version: str = "apps/v1", kind: Object | None = None
    ) -> None:
        self.kind = kind or defined_object_type(definition)
        self.api_version = api_version
        self.obj: dict[str, Any] | None = None
        self.evolves = False
        self._second = 0

    def _versions(self, api_version: str) -> Version:
        return Version(self.kind, evolves=self.evolves)

    def _now(self) -> str:
        self._second += 1
        return f"2026-01-01T00:{self._second // 60:02}:{self._second % 60:02}Z"

    def update(self, manager: str, obj: dict[str, Any], subresource: str = "", reset: Any = None) -> None:
        """Create or replace; ``managedFields`` of the live object travel along unless ``obj`` has its own."""
        new = copy.deepcopy(obj)
        author = Author(manager, UPDATE, self.api_version, subresource)
        managed = ownership.track(self.obj, new, author, self._versions, self._now(), reset or sets.EMPTY)
        new.setdefault("metadata", {})["managedFields"] = managed
        self.obj = new

    def try_apply(
        self, manager: str, doc: dict[str, Any], *, force: bool = False, subresource: str = ""
    ) -> Applied:
        author = Author(manager, APPLY, self.api_version, subresource)
        return ownership.apply(
            self.obj,
            copy.deepcopy(doc),
            self.kind.stated(doc),
            author,
            self._versions,
            self._now(),
            force=force,
        )

    def apply(self, manager: str, doc: dict[str, Any], **how: Any) -> dict[str, Any]:
        """Apply, which must succeed. The object without ``managedFields``."""
        outcome = self.try_apply(manager, doc, **how)
        assert outcome.conflicts == (), self.conflicts(outcome)
        new = copy.deepcopy(outcome.object)
        shown = copy.deepcopy(new)
        new.setdefault("metadata", {})["managedFields"] = ownership.written(outcome.managers)
        self.obj = new
        return shown

    @staticmethod
    def conflicts(outcome: Applied) -> list[tuple[str, str]]:
        return [(one.owner.manager, one.field) for one in outcome.conflicts]

    def owned(self) -> dict[str, list[str]]:
        """``manager/operation`` to the paths it owns."""
        assert self.obj is not None
        return {
            f"{entry['manager']}/{entry['operation']}": [
                elements.text(path) for path in sets.paths(entry["fieldsV1"])
            ]
            for entry in self.obj["metadata"].get("managedFields") or ()
        }

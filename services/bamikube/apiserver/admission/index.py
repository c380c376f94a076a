"""Objects of one kind by namespace, kept from the cache's changes: a plugin's question costs one look-up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bamikube.apiserver.registry.reader import Reader, ResourceKey

Object = dict[str, Any]
_NONE: Mapping[str, Object] = {}


class ByNamespace:
    """The objects of a kind, by namespace and name. They are shared: nobody changes them."""

    def __init__(self, reader: Reader, key: ResourceKey) -> None:
        self._held: dict[str, dict[str, Object]] = {}
        reader.subscribe(key, self._changed)

    def of(self, namespace: str) -> Mapping[str, Object]:
        """Objects of a namespace by name."""
        return self._held.get(namespace, _NONE)

    def _changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        metadata = (new or old or {})["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        if new is not None:
            self._held.setdefault(namespace, {})[name] = new
            return
        within = self._held.get(namespace)
        if within is not None:
            within.pop(name, None)
            if not within:
                del self._held[namespace]

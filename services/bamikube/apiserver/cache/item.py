"""An object as the cache keeps it: its JSON bytes and the few facts that filters look at.

What is stored is the object without ``metadata.resourceVersion``: the revision is the store's, and becomes known
only when the write is done. It is spliced in once, here, when the bytes enter the cache::

    stored  {"kind":"Pod","apiVersion":"v1","metadata":{"name":"a",...
    raw     {"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"812","name":"a",...
                                                        ^ splice
so that every GET, LIST and WATCH afterwards copies bytes and encodes nothing.

A custom object may have been written under another schema or in another version than today's. It is given today's form
when it enters the cache, not when it is read; what the store really holds is kept beside it (``outdated``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from bamikube.api import selectable
from bamikube.api.resources import Resource

_METADATA = b'"metadata":{'
_EMPTY: Mapping[str, str] = {}
ROOM = 8  # levels that answers, reviews and audit may put around an object


@lru_cache(maxsize=512)
def _indexed(resource: Resource) -> tuple[str, ...]:
    """Selectable fields beyond name and namespace, which an item has anyway."""
    if resource.custom is not None:
        return resource.custom.family.indexed  # a watch of any version finds its fields here
    return tuple(path for path in resource.selectable_fields if not path.startswith("metadata."))


class Item:
    """One object. ``raw`` carries its ``revision``; ``key`` is ``namespace/name`` or ``name``."""

    __slots__ = (
        "_obj",
        "_origin",
        "_splice",
        "fields",
        "key",
        "labels",
        "name",
        "namespace",
        "raw",
        "revision",
    )

    def __init__(
        self,
        raw: bytes,
        splice: int,
        revision: int,
        namespace: str,
        name: str,
        labels: Mapping[str, str],
        fields: Mapping[str, str],
    ) -> None:
        self.raw = raw
        self._splice = splice
        self.revision = revision
        self.namespace = namespace
        self.name = name
        self.key = f"{namespace}/{name}" if namespace else name
        self.labels = labels
        self.fields = fields
        self._obj: dict[str, Any] | None = None
        self._origin: bytes | None = None  # what the store holds, when ``raw`` was made from something else

    @classmethod
    def of(cls, resource: Resource, stored: bytes, revision: int, obj: dict[str, Any] | None = None) -> Item:
        """The item of stored bytes. ``obj``, the decoded object, saves decoding when the caller has it."""
        origin = None
        if obj is None:
            obj = orjson.loads(stored)
            if resource.custom is not None and resource.custom.revive(obj):
                origin, stored = stored, encode(obj)
        metadata = obj.get("metadata") or {}
        splice = stored.index(_METADATA) + len(_METADATA)
        comma = b"" if stored[splice : splice + 1] == b"}" else b","
        # A concatenation has exactly its size; what orjson returns may hold several kilobytes of slack.
        raw = b'%b"resourceVersion":"%d"%b%b' % (stored[:splice], revision, comma, stored[splice:])
        if not revision:  # what a dry run would have created has none
            raw = stored
        item = cls(
            raw,
            splice,
            revision,
            metadata.get("namespace") or "",
            metadata.get("name") or "",
            metadata.get("labels") or _EMPTY,
            {path: selectable.value(resource, obj, path) for path in _indexed(resource)},
        )
        item._origin = origin
        return item

    @property
    def outdated(self) -> bool:
        """Whether the store holds another form of the object, so that writing it unchanged is worth while."""
        return self._origin is not None

    @property
    def stored(self) -> bytes:
        """The bytes as they stand in the store."""
        if self._origin is not None:
            return self._origin
        end = self._splice + len(b'"resourceVersion":""') + len(str(self.revision))
        return self.raw[: self._splice] + self.raw[end + (self.raw[end : end + 1] == b",") :]

    def at(self, revision: int) -> bytes:
        """The bytes with another revision: how a deletion shows the last state with the deletion's revision."""
        end = self._splice + len(b'"resourceVersion":""') + len(str(self.revision))
        return b'%b"resourceVersion":"%d"%b' % (self.raw[: self._splice], revision, self.raw[end:])

    @property
    def obj(self) -> dict[str, Any]:
        """The decoded object, kept. It is shared: copy before changing it."""
        if self._obj is None:
            self._obj = orjson.loads(self.raw)
        return self._obj

    def decode(self) -> dict[str, Any]:
        """A decoded copy of one's own."""
        decoded: dict[str, Any] = orjson.loads(self.raw)
        return decoded


def encode(obj: dict[str, Any]) -> bytes:
    """The stored form: kind, apiVersion and metadata first, no resourceVersion. ``obj`` is left as it is.

    JSON is written 254 levels deep at most. An object that needed all of them could be stored but not shown in a table,
    and every table with it would fail: it is written within as many lists as anything may be put around it.
    """
    metadata = {key: value for key, value in (obj.get("metadata") or {}).items() if key != "resourceVersion"}
    head: dict[str, Any] = {
        "kind": obj.get("kind"),
        "apiVersion": obj.get("apiVersion"),
        "metadata": metadata,
    }
    whole = head | {key: value for key, value in obj.items() if key not in head}
    return orjson.dumps([[[[[[[[whole]]]]]]]])[ROOM:-ROOM]

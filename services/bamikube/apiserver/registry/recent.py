"""Objects that were just written, decoded.

Whoever applies to an object applies again soon, and to read it back from its bytes costs more than to merge a document
into it. So what the last applies have written is kept as it is, for the next one::

    apply A   reads the object's bytes, writes revision 7     kept, as of 7
    apply B   the cache says 7: taken as it is, writes 8      kept, as of 8
    apply C   the cache says 9, somebody else wrote           reads the bytes

Nobody may change anything in it, at any depth: it is handed out again.
"""

from __future__ import annotations

from typing import Any

LONGEST = 64 * 1024  # bytes of an object worth keeping
TOTAL = 1024 * 1024  # bytes of all together; decoded they take ten times as much


class Recent:
    """The objects, by their keys in the store."""

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[int, dict[str, Any], int]] = {}
        self._size = 0

    def at(self, key: bytes, revision: int) -> dict[str, Any] | None:
        """The object as it was written at this revision, whose outermost parts (it, its metadata) are the caller's."""
        found = self._kept.get(key)
        if found is None or found[0] != revision:
            return None
        metadata = {**found[1]["metadata"], "resourceVersion": str(revision)}
        return {**found[1], "metadata": metadata}

    def keep(self, key: bytes, revision: int, obj: dict[str, Any], size: int) -> None:
        """Keep an object, in the version it is stored in, of ``size`` bytes; the oldest go."""
        self._drop(key)
        if size > LONGEST:
            return
        self._kept[key] = (revision, obj, size)
        self._size += size
        while self._size > TOTAL:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._size -= found[2]

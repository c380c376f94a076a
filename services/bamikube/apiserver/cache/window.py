"""The recent past of one resource: what a watcher needs to resume where it left off.

A :class:`Window` holds the last events in order. ``floor`` is the revision from which on it is complete: a watcher
that has seen everything up to R can resume when ``R >= floor``, else it has fallen out of the window and is told to
list again (410 Expired).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from bamikube.apiserver.cache.item import Item

MAX_EVENTS = 10_000  # events kept for resuming watchers, per resource
MAX_AGE = 300.0  # seconds; older events go first, but never below MIN_EVENTS
MIN_EVENTS = 200


class Event:
    """One change of one object: what was, what is, and at which revision.

    ``frames`` keeps the encoded event per representation, so that it is encoded once for all watchers.
    """

    __slots__ = ("frames", "new", "old", "revision", "seen")

    def __init__(self, old: Item | None, new: Item | None, revision: int, seen: float) -> None:
        self.old = old
        self.new = new
        self.revision = revision
        self.seen = seen
        self.frames: dict[object, bytes] = {}

    def frame(self, kind: str, form: object, encode: Callable[[str, bytes], bytes]) -> bytes:
        """The framed event of type ``kind``, encoded on first use and then shared."""
        name = (kind, form)
        frame = self.frames.get(name)
        if frame is None:
            if kind == "DELETED":
                assert self.old is not None
                raw = self.old.at(self.revision)
            else:
                assert self.new is not None
                raw = self.new.raw
            frame = self.frames[name] = encode(kind, raw)
        return frame


class Window:
    """Events of one resource, oldest first."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self._events: list[Event] = []
        self._revisions: list[int] = []

    def append(self, event: Event) -> None:
        """``event.revision`` is never below the last one's."""
        self._events.append(event)
        self._revisions.append(event.revision)
        if len(self._events) >= MAX_EVENTS + 1_000 or (
            len(self._events) % 256 == 0 and event.seen - self._events[0].seen > MAX_AGE
        ):
            self._trim(event.seen - MAX_AGE)

    def _trim(self, oldest: float) -> None:
        cut = max(0, len(self._events) - MAX_EVENTS)
        limit = len(self._events) - MIN_EVENTS
        while cut < limit and self._events[cut].seen < oldest:
            cut += 1
        # A transaction's events share a revision and stay together.
        while 0 < cut < len(self._events) and self._revisions[cut] == self._revisions[cut - 1]:
            cut += 1
        if cut:
            self.floor = self._revisions[cut - 1]
            del self._events[:cut], self._revisions[:cut]

    def since(self, revision: int) -> list[Event] | None:
        """The events after ``revision``; None when the window no longer reaches back to it."""
        if revision < self.floor:
            return None
        return self._events[bisect_right(self._revisions, revision) :]

"""Watchers: who hears of a change, and in which form.

Watchers that ask the same question (same namespace, selectors and representation) form a :class:`Group`: its events
are filtered once and framed once, and every member is handed the same bytes. A member that does not read is never
waited for: above :data:`BUFFER` bytes it becomes *lagging*, keeps only the revision it has reached, and catches up
from the window when it reads again (etcd's synced and unsynced watchers). When it has fallen out of the window its
stream ends with 410 Expired.

A member whose stream rests - everything handed over, waiting for more - is written to directly, through the sink its
connection gave it; only when the connection takes no more is the stream woken, and waits in the member's stead.

``DELETED`` and ``ADDED`` are also what a watcher with a selector sees when an object leaves or enters its selection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from bamikube.api import errors
from bamikube.apiserver.cache.item import Item
from bamikube.apiserver.cache.window import Event
from bamikube.kit.http import Sink

if TYPE_CHECKING:
    from bamikube.apiserver.cache.cache import Slot

BUFFER = 4 << 20  # bytes a watcher may have waiting before it is parked
CHUNK = 256 << 10  # bytes of initial events that are written at once


class LabelMatcher(Protocol):
    def matches(self, labels: Mapping[str, str]) -> bool: ...


@dataclass(frozen=True)
class Filter:
    """What is asked for. ``label`` and ``field`` are None when nothing is asked; the texts identify the question.

    ``deep``: it looks at more than name and namespace, so that a version that a webhook makes has to be made first.
    """

    namespace: str = ""
    label_text: str = ""
    field_text: str = ""
    label: LabelMatcher | None = None
    field: Callable[[Item], bool] | None = None
    deep: bool = False

    @property
    def question(self) -> tuple[str, str, str]:
        return (self.namespace, self.label_text, self.field_text)

    @property
    def selective(self) -> bool:
        return self.label is not None or self.field is not None

    def matches(self, item: Item) -> bool:
        if self.namespace and item.namespace != self.namespace:
            return False
        if self.label is not None and not self.label.matches(item.labels):
            return False
        return self.field is None or self.field(item)


class Representation(Protocol):
    """A form that objects are shown in. ``form`` is hashable and names it; equal forms give equal bytes."""

    form: Any

    def event(self, kind: str, raw: bytes) -> bytes:
        """One framed event."""

    def bookmark(self, revision: int, initial_end: bool) -> bytes:
        """A framed BOOKMARK."""

    def error(self, status: dict[str, Any]) -> bytes:
        """A framed ERROR."""


class Changes:
    """The representation for whoever has to look at an object before and after a change himself::

        {"type": "MODIFIED", "object": {...}, "before": {...}}

    ``before`` has the revision of the change, as a DELETED event shows it; ``type`` is none of a selection.
    """

    form = "changes"

    def event(self, kind: str, raw: bytes) -> bytes:
        return plain_event(kind, raw)

    def change(self, event: Event) -> bytes:
        frame = event.frames.get(self.form)
        if frame is None:
            new = event.new.raw if event.new is not None else b"null"
            old = event.old.at(event.revision) if event.old is not None else b"null"
            frame = event.frames[self.form] = b'{"type":"MODIFIED","object":%b,"before":%b}\n' % (new, old)
        return frame

    def bookmark(self, revision: int, initial_end: bool) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        return b'{"type":"BOOKMARK","object":%b}\n' % orjson.dumps({"metadata": metadata})

    def error(self, status: dict[str, Any]) -> bytes:
        return error_event(status)


def verdict(event: Event, wanted: Filter) -> str:
    """What the event is for somebody with this filter: ADDED, MODIFIED, DELETED, or "" for nothing."""
    new = event.new is not None and wanted.matches(event.new)
    old = event.old is not None and wanted.matches(event.old)
    if new:
        return "MODIFIED" if old else "ADDED"
    return "DELETED" if old else ""


class Group:
    """Watchers with one question and one representation."""

    def __init__(self, wanted: Filter, shown: Representation) -> None:
        self.wanted = wanted
        self.shown = shown
        self.members: dict[Watcher, None] = {}

    def frames(self, events: Iterable[Event]) -> list[bytes]:
        """The events that concern this group, framed."""
        frames = []
        shown = self.shown
        for event in events:
            kind = verdict(event, self.wanted)
            if kind:
                if isinstance(shown, Changes):
                    frames.append(shown.change(event))
                else:
                    frames.append(event.frame(kind, shown.form, shown.event))
        return frames

    def render(self, events: Iterable[Event]) -> bytes:
        """The events that concern this group, framed and joined."""
        return b"".join(self.frames(events))

    def deliver(self, events: list[Event], reached: int) -> int:
        """Hand the events to all members. How many deliveries that makes."""
        frames = self.frames(events)
        if not frames:
            return 0
        chunk = frames[0] if len(frames) == 1 else b"".join(frames)
        for member in list(self.members):
            member.push(chunk, reached)
        return len(frames) * len(self.members)


class Watcher:
    """One running watch. ``stream`` is what its connection writes."""

    def __init__(self, slot: Slot, group: Group, reached: int, *, bookmarks: bool) -> None:
        self._slot = slot
        self.group = group
        self._reached = reached  # every event up to here has been pushed or was there from the start
        self._bookmarks = bookmarks
        self._chunks: list[bytes] = []
        self._size = 0
        self._lagging = False
        self._ended = False
        self._wake = asyncio.Event()
        self._resting = False  # the stream has handed everything over and waits
        self._sink: Sink | None = None

    def direct(self, sink: Sink) -> None:
        """Where events may go without waking the stream, as long as it rests."""
        self._sink = sink

    def push(self, chunk: bytes, reached: int) -> None:
        """Hand over framed events; called by the group, never waits."""
        if self._lagging:
            return
        if self._resting and not self._chunks and self._sink is not None and self._sink(chunk):
            self._reached = reached
            return
        if self._size > BUFFER:
            self._lagging = True
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._reached = reached
        self._wake.set()

    def end(self) -> None:
        """The server is going away: let the stream end."""
        self._ended = True
        self._wake.set()

    def _catch_up(self) -> bytes | None:
        """After a lag: what the window holds since the last delivery, None when that is too old."""
        self._slot.flush()
        events = self._slot.window.since(self._reached)
        if events is None:
            return None
        self._lagging = False
        self._reached = self._slot.reached()
        return self.group.render(events)

    async def stream(
        self,
        initial: Iterable[bytes],
        *,
        initial_end: bool,
        deadline: float,
        bookmark_every: float,
        monotonic: Callable[[], float],
    ) -> AsyncIterator[bytes]:
        """Chunks of framed events until ``deadline`` (monotonic seconds)."""
        try:
            start = self._reached
            gathered: list[bytes] = []
            size = 0
            for frame in initial:
                gathered.append(frame)
                size += len(frame)
                if size > CHUNK:
                    yield b"".join(gathered)
                    gathered, size = [], 0
            if initial_end:
                gathered.append(self.group.shown.bookmark(start, True))
            if gathered:
                yield b"".join(gathered)
            next_bookmark = monotonic() + bookmark_every
            while True:
                if self._chunks:
                    chunks, self._chunks, self._size = self._chunks, [], 0
                    yield chunks[0] if len(chunks) == 1 else b"".join(chunks)
                    continue
                if self._lagging:
                    missed = self._catch_up()
                    if missed is None:
                        expired = errors.expired(
                            "too old resource version: the watch fell behind; list again"
                        )
                        yield self.group.shown.error(expired.status())
                        return
                    if missed:
                        yield missed
                    continue
                now = monotonic()
                if self._ended or now >= deadline:
                    if self._bookmarks and not self._ended:
                        yield self._bookmark()
                    return
                if self._bookmarks and now >= next_bookmark:
                    next_bookmark = now + bookmark_every
                    yield self._bookmark()
                    continue
                self._wake.clear()
                until = min(deadline, next_bookmark) if self._bookmarks else deadline
                timer = asyncio.get_running_loop().call_later(until - now, self._wake.set)
                self._resting = True
                try:
                    await self._wake.wait()
                finally:
                    self._resting = False
                    timer.cancel()
        finally:
            self._slot.leave(self)

    def _bookmark(self) -> bytes:
        self._slot.flush()
        if self._chunks or self._lagging:
            return b""  # events came first; the next bookmark will say so
        self._reached = max(self._reached, self._slot.reached())
        return self.group.shown.bookmark(self._reached, False)


def plain_event(kind: str, raw: bytes) -> bytes:
    """An event in plain JSON, as most watchers want it."""
    return b'{"type":"%b","object":%b}\n' % (kind.encode(), raw)


def error_event(status: dict[str, Any]) -> bytes:
    """A failure inside a stream that has begun."""
    return b'{"type":"ERROR","object":%b}\n' % orjson.dumps(status)

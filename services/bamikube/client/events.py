"""Events: what happened to an object, for the person who asks ``kubectl describe``.

Recording never blocks and never fails the work it reports on: events go into a bounded queue and are written by a
task. Three rules keep a busy cluster readable, with the numbers and in the order of client-go's EventCorrelator:

* when events about one object differ in their message alone, the tenth message within ten minutes and all new ones that
  follow become one, "(combined from similar events)";
* the same event about the same object raises the count of one Event object instead of making a new one, however long ago
  the last one was; where that has gone meanwhile it is made again and goes on counting;
* a source that repeats itself about one object is cut to a burst of 25 with one more every five minutes. What is cut off
  still counts, and shows in the next one that is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bamikube.api.errors import ApiError
from bamikube.kit.clock import rfc3339
from bamikube.kit.pace import Pace
from bamikube.kit.world import World

log = logging.getLogger(__name__)

BURST = 25
REFILL_SECONDS = 300.0
SIMILAR_SECONDS = 600.0
SIMILAR = 10  # the how manyeth message of one kind is combined with those that follow
COMBINED = "(combined from similar events): "
TRIES, MOST = (
    12,
    10.0,
)  # how often an event is written that nobody takes, and seconds between two tries at most
REMEMBERED = 4096
QUEUED = 1000


class EventWriter(Protocol):
    """Where events are written: a :class:`~bamikube.client.client.Client`, or the API server's own way. Both raise
    ApiError."""

    async def create(self, resource: str, obj: dict[str, Any]) -> Any: ...

    async def patch(self, resource: str, name: str, patch: Any, namespace: str = "") -> Any: ...


@dataclass(slots=True)
class _Known:
    """An event that was seen: what it is called, how often it happened, when first."""

    name: str
    first: float
    count: int = 0


@dataclass(frozen=True, slots=True)
class _Occurrence:
    component: str
    involved: tuple[tuple[str, str], ...]
    type: str
    reason: str
    message: str
    when: float
    name: str = ""
    first: float = 0.0
    count: int = 1
    action: str = ""
    annotations: tuple[tuple[str, str], ...] = ()


def reference(obj: dict[str, Any], field_path: str = "") -> dict[str, str]:
    """An ObjectReference to an object that carries apiVersion and kind."""
    meta = obj.get("metadata", {})
    found = {
        "kind": obj.get("kind", ""),
        "namespace": meta.get("namespace", ""),
        "name": meta.get("name", ""),
        "uid": meta.get("uid", ""),
        "apiVersion": obj.get("apiVersion", ""),
        "resourceVersion": meta.get("resourceVersion", ""),
        "fieldPath": field_path,
    }
    return {key: value for key, value in found.items() if value}


class EventRecorder:
    """Records core/v1 Events as ``component`` on ``host``.

    Several components of one process may share a recorder: each names itself when it records. ``pace``: how many are
    written a second, and how many at once (0: no bound).
    """

    def __init__(
        self,
        client: EventWriter,
        world: World,
        component: str,
        host: str = "",
        pace: tuple[float, int] = (0.0, 0),
    ) -> None:
        self._pace = Pace(world.clock, *pace)
        self._client = client
        self._world = world
        self._component = component
        self._host = host
        self._queue: asyncio.Queue[_Occurrence] = asyncio.Queue(QUEUED)
        self._known: OrderedDict[tuple[Any, ...], _Known] = OrderedDict()
        self._similar: OrderedDict[tuple[Any, ...], tuple[set[str], float]] = OrderedDict()
        self._spam: OrderedDict[tuple[Any, ...], tuple[float, float]] = OrderedDict()

    def event(
        self,
        obj: dict[str, Any],
        type: str,
        reason: str,
        message: str,
        *,
        field_path: str = "",
        component: str = "",
        action: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Record that something happened to ``obj`` (which must carry apiVersion, kind and metadata)."""
        involved = reference(obj, field_path)
        self.event_on(
            involved, type, reason, message, component=component, action=action, annotations=annotations
        )

    def event_on(
        self,
        involved: dict[str, str],
        type: str,
        reason: str,
        message: str,
        *,
        component: str = "",
        action: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Record for an ObjectReference. ``action``: what was done about it, in one word; ``annotations`` are the event's."""
        component = component or self._component
        about = (
            component,
            *(involved.get(key, "") for key in ("kind", "namespace", "name", "uid", "apiVersion")),
        )
        now = self._world.clock.now()
        bare = (*about, type, reason)
        combined = self._combined(bare, message, now)
        # Kept under the series' own identity: the revision of the object differs from one occurrence to the next.
        series = bare if combined else (*bare, involved.get("fieldPath", ""), message)
        known = self._observed(series, involved, now)
        if self._cut_off(about, now):
            return
        occurrence = _Occurrence(
            component,
            tuple(involved.items()),
            type,
            reason,
            ((COMBINED if combined else "") + message)[:1024],
            now,
            known.name,
            known.first,
            known.count,
            action,
            () if combined else tuple((annotations or {}).items()),
        )
        try:
            self._queue.put_nowait(occurrence)
        except asyncio.QueueFull:
            log.warning("event dropped (queue full): %s %s %s", reason, about, message)

    def _combined(self, bare: tuple[str, ...], message: str, now: float) -> bool:
        """Whether so many similar events have come lately that this one only counts."""
        messages, last = self._similar.get(bare, (set(), now))
        if now - last > SIMILAR_SECONDS:
            messages = set()
        combined = message not in messages and len(messages) + 1 >= SIMILAR
        if not combined:
            messages.add(message)
        self._remember(self._similar, bare, (messages, now))
        return combined

    def _observed(self, series: tuple[str, ...], involved: Mapping[str, str], now: float) -> _Known:
        """Count one more of a series."""
        known = self._known.get(series)
        if known is None:
            name = f"{involved.get('name', 'unknown')[:220]}.{int(now * 1e9):x}{self._world.chance.suffix(3)}"
            known = _Known(name, now)
        known.count += 1
        self._remember(self._known, series, known)
        return known

    def _cut_off(self, about: tuple[str, ...], now: float) -> bool:
        """Whether there have been too many events about one object."""
        tokens, since = self._spam.get(about, (float(BURST), now))
        tokens = min(float(BURST), tokens + (now - since) / REFILL_SECONDS)
        self._remember(self._spam, about, (tokens - 1 if tokens >= 1 else tokens, now))
        return tokens < 1

    @staticmethod
    def _remember(book: OrderedDict[Any, Any], key: Any, value: Any) -> None:
        book[key] = value
        book.move_to_end(key)
        if len(book) > REMEMBERED:
            book.popitem(last=False)

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        while True:
            occurrence = await self._queue.get()
            await self._pace.wait()
            for attempt in range(TRIES):
                try:
                    await self._write(occurrence)
                    break
                except ApiError as error:
                    # A namespace that is going away takes no new events; nothing is lost that anyone could read.
                    log.debug("event %s not written: %s", occurrence.reason, error.message)
                    if error.code < 500 and error.code != 429:
                        break
                except (OSError, TimeoutError) as error:
                    log.debug("event %s not written yet: %s", occurrence.reason, error)
                await self._world.clock.sleep(min(MOST, 0.5 * 2**attempt))

    async def _write(self, occurrence: _Occurrence) -> None:
        involved = dict(occurrence.involved)
        namespace = involved.get("namespace") or "default"
        stamp = rfc3339(occurrence.when)
        if occurrence.count > 1:
            patch = {"count": occurrence.count, "lastTimestamp": stamp, "message": occurrence.message}
            try:
                await self._client.patch("events", occurrence.name, patch, namespace)
                return
            except ApiError as error:
                if error.code != 404:
                    raise
        source = {"component": occurrence.component}
        if self._host:
            source["host"] = self._host
        acted = {"action": occurrence.action} if occurrence.action else {}
        noted = {"annotations": dict(occurrence.annotations)} if occurrence.annotations else {}
        await self._client.create(
            "events",
            {
                **acted,
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": occurrence.name, "namespace": namespace} | noted,
                "involvedObject": involved,
                "reason": occurrence.reason,
                "message": occurrence.message,
                "type": occurrence.type,
                "source": source,
                "firstTimestamp": rfc3339(occurrence.first),
                "lastTimestamp": stamp,
                "count": occurrence.count,
                "reportingComponent": occurrence.component,
                "reportingInstance": self._host,
            },
        )

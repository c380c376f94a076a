"""Flow control carried out: seats are taken and given back, who finds none waits on a future.

The way in when seats are free is two look-ups and an addition, so that even the GETs that are answered inline can go
through here. What a *kind* of request is classified as is remembered (user, groups, verb, resource, namespace); any
change of a schema or a level forgets it all.

**Width.** This server works on one thing at a time, so what keeps others waiting is not how many requests are under way
but how much there is to do for each: a read takes one seat, a write a few, a list as many as it is long. A watch holds
its seat until it has begun; what passes bytes through (exec, log, proxy) takes none.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bamikube.api import errors
from bamikube.api.errors import ApiError
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.flow import figures, objects
from bamikube.apiserver.flow.levels import Level, Waiting, flow_hash, lent_to, share_out
from bamikube.apiserver.flow.matching import Schema, classify, compiled
from bamikube.apiserver.registry.reader import Reader

Object = dict[str, Any]

SCHEMAS = ("flowcontrol.apiserver.k8s.io", "flowschemas")
LEVELS = ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations")
REMEMBERED = 8192  # kinds of requests, and flows

# Subresources through which bytes pass for as long as somebody likes.
LONG = frozenset({"attach", "exec", "log", "portforward", "proxy"})
READING = 1  # seats of a GET and of a watch that begins
WRITING = 5  # seats of a write: it costs some ten times what a GET costs, half of it waiting for the store
PER_SEAT = 20  # objects of a list that make up a seat
WIDEST = 100  # seats of one request
_WRITES = frozenset({"create", "delete", "patch", "update"})


@dataclass(slots=True)
class Pass:
    """What a request was classified as: its level, its flow, and the headers that say so. Shared by all alike."""

    level: Level[asyncio.Future[None]]
    schema: Schema
    flow: int
    headers: dict[str, str]
    requests: int = 0  # started at once since the metrics were told
    running: int = 0
    waiting: int = 0

    @property
    def labels(self) -> tuple[str, str]:
        """What metrics know it by."""
        return self.schema.name, self.level.name


class FlowControl:
    """All levels of this server. ``seats`` is what they share; ``patience`` how long a request waits, in seconds."""

    def __init__(self, reader: Reader, seats: int, patience: float) -> None:
        self._reader = reader
        self._seats = seats
        self._patience = patience
        self._schemas: tuple[Schema, ...] = ()
        self._passes: dict[tuple[Any, ...], Pass] = {}  # by kind of request
        self._flows: dict[tuple[str, str], Pass] = {}  # by schema and distinguisher
        self._crowded: dict[str, Level[asyncio.Future[None]]] = {}  # levels in which somebody waits
        self.levels: dict[str, Level[asyncio.Future[None]]] = {}
        self._stale = True
        for key in (SCHEMAS, LEVELS):
            reader.subscribe(key, self._changed)

    def _changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or old.get("spec") != new.get("spec"):
            self._stale = True

    # -- in and out ----------------------------------------------------------------------------------------------

    def enter(self, request: Attributes, width: int = 1) -> Pass | None:
        """A pass for a request that may start at once, with its seats taken; None when it has to wait."""
        found = self._pass(request)
        level = found.level
        if level.exempt or (not level.waiting and level.in_use + width <= level.nominal):
            level.in_use += width
            found.requests += 1
            found.running += 1
            return found
        return None

    async def wait(self, request: Attributes, width: int = 1) -> Pass:
        """A pass with its seats taken, as soon as there are any. Raises ApiError 429 when there will be none."""
        found = self._pass(request)
        level = found.level
        if not level.waiting and level.fits(width, self._lent(level)):
            level.in_use += width
            found.requests += 1
            found.running += 1
            return found
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        waiting = level.enqueue(found.flow, width, waiter)
        if waiting is None:
            figures.REJECTED.of(*found.labels, "queue-full" if level.queues else "concurrency-limit").inc()
            raise _too_many(found)
        self._crowded[level.name] = level
        start = loop.time()
        found.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await waiter
        except TimeoutError:
            if not waiting.gone:
                self._give_up(found, waiting, "time-out")
                figures.WAITED.of(*found.labels, "false").observe(loop.time() - start)
                raise _too_many(found) from None
        except asyncio.CancelledError:
            if not waiting.gone:
                self._give_up(found, waiting, "cancelled")
                figures.WAITED.of(*found.labels, "false").observe(loop.time() - start)
            else:  # the seats came with the cancellation
                found.running += 1
                self.leave(found, width)
            raise
        finally:
            found.waiting -= 1
        found.running += 1
        figures.DISPATCHED.of(*found.labels).inc()
        figures.WAITED.of(*found.labels, "true").observe(loop.time() - start)
        return found

    def leave(self, found: Pass, width: int = 1) -> None:
        """Give the seats back."""
        found.running -= 1
        found.level.in_use -= width
        if self._crowded:
            self._dispatch()

    def _give_up(self, found: Pass, waiting: Waiting[asyncio.Future[None]], reason: str) -> None:
        figures.REJECTED.of(*found.labels, reason).inc()
        found.level.give_up(waiting)
        self._dispatch()  # what stood behind it may fit

    def _dispatch(self) -> None:
        """Let those start for whom there is room now."""
        for level in list(self._crowded.values()):
            while (waiting := level.next()) is not None and level.fits(waiting.width, self._lent(level)):
                level.start(waiting)
                if not waiting.held.done():
                    waiting.held.set_result(None)
            if not level.waiting:
                self._crowded.pop(level.name, None)

    def _lent(self, level: Level[asyncio.Future[None]]) -> int:
        return lent_to(level, self.levels.values())

    # -- classifying ---------------------------------------------------------------------------------------------

    def _pass(self, request: Attributes) -> Pass:
        if self._stale:
            self._compile()
        user = request.user
        if request.is_resource:
            kind: tuple[Any, ...] = (
                user.name,
                request.resource,
                request.namespace,
                request.verb,
                request.group,
                request.subresource,
                user.groups,
            )
        else:
            kind = (user.name, request.path, request.verb, user.groups)
        found = self._passes.get(kind)
        if found is None:
            if len(self._passes) >= REMEMBERED:
                self._passes.clear()
            found = self._passes[kind] = self._classify(request)
        return found

    def _classify(self, request: Attributes) -> Pass:
        schema = classify(self._schemas, request)
        if schema is None:  # nobody's: neither authenticated nor not; the catch-all is for everybody
            schema = next(one for one in self._schemas if one.name == "catch-all")
        distinguisher = schema.flow_of(request)
        found = self._flows.get((schema.name, distinguisher))
        if found is None:
            level = self.levels[schema.level]
            headers = {
                "X-Kubernetes-PF-FlowSchema-UID": schema.uid,
                "X-Kubernetes-PF-PriorityLevel-UID": level.uid,
            }
            flow = flow_hash(schema.name, distinguisher)
            if len(self._flows) >= REMEMBERED:
                self._forget()
            found = self._flows[(schema.name, distinguisher)] = Pass(level, schema, flow, headers)
        return found

    def _forget(self) -> None:
        """Keep only the flows in which somebody is under way: users and namespaces come and go, and would add up."""
        self.tell()
        self._passes.clear()
        self._flows = {key: found for key, found in self._flows.items() if found.running or found.waiting}

    def _compile(self) -> None:
        """Take in what the cluster says now. Levels that stay keep who is inside and who waits."""
        self._stale = False
        configs = self._known(LEVELS, objects.LEVELS)
        fresh: dict[str, Level[asyncio.Future[None]]] = share_out(configs, self._seats)
        for name, level in fresh.items():
            before = self.levels.get(name)
            if before is None:
                continue
            if before.in_use or before.waiting:
                # Whoever is inside holds on to the old value and gives his seats back there.
                before.uid, before.exempt, before.nominal = level.uid, level.exempt, level.nominal
                before.lendable, before.borrowing = level.lendable, level.borrowing
                before.hand_size, before.length = level.hand_size, level.length
                if not before.waiting:
                    before.queues = level.queues
                fresh[name] = before
        self.levels = fresh
        self._schemas = compiled(self._known(SCHEMAS, objects.SCHEMAS), fresh)
        self.tell()
        self._passes.clear()
        self._flows.clear()
        self._dispatch()

    def _known(self, key: tuple[str, str], own: tuple[Object, ...]) -> list[Object]:
        """What the store holds, and the mandatory objects in any case."""
        found = {obj["metadata"]["name"]: obj for obj in self._reader.list(key)}
        for obj in objects.mandatory(own):
            found.setdefault(obj["metadata"]["name"], obj)
        return list(found.values())

    def running(self, level: str) -> int:
        """Requests of a level whose answer has not begun."""
        return sum(found.running for found in self._flows.values() if found.level.name == level)

    def tell(self) -> None:
        """Bring the metrics up to date."""
        running: Counter[tuple[str, str]] = Counter()
        waiting: Counter[tuple[str, str]] = Counter()
        for found in self._flows.values():
            labels = found.labels
            running[labels] += found.running
            waiting[labels] += found.waiting
            if found.requests:
                figures.DISPATCHED.of(*labels).inc(found.requests)
                figures.WAITED.of(*labels, "true").counts[0] += found.requests
                found.requests = 0
        for gauge, numbers in ((figures.RUNNING, running), (figures.WAITING, waiting)):
            gauge.clear()
            for labels, number in numbers.items():
                gauge.labels(*labels).set(number)
        for name, level in self.levels.items():
            figures.EXECUTING.labels(name).set(level.in_use)
            figures.NOMINAL.labels(name).set(level.nominal)
            figures.LOWER.labels(name).set(level.nominal - level.lendable)
            figures.UPPER.labels(name).set(min(self._seats, level.nominal + level.borrowing))
            figures.CURRENT.labels(name).set(level.nominal + min(level.borrowing, self._lent(level)))


def width_of(request: Attributes, limit: int, count: Callable[[], int]) -> int:
    """Seats a request takes; 0 for what is not controlled. ``limit`` is a list's page size (0: none), ``count`` says
    how many objects there are."""
    if not request.is_resource:
        return READING
    if request.subresource in LONG or request.verb == "proxy":
        return 0
    if request.verb in _WRITES:
        return WRITING
    if request.verb in ("list", "deletecollection"):
        length = min(limit, count()) if limit else count()
        return min(WIDEST, max(READING, -(-length // PER_SEAT)))
    return READING


def _too_many(found: Pass) -> ApiError:
    error = errors.too_many_requests("Too many requests, please try again later.")
    error.headers.update(found.headers)
    return error

"""Priority levels: how many seats each has, who waits for one, and who is next. Pure: no clock, no tasks.

**Seats.** The server's seats are shared out by the levels' ``nominalConcurrencyShares``. A level may use seats beyond its
own as long as others leave theirs empty and lend them (``lendablePercent``); a lender is never kept from its own.

**Queues.** A request that finds no seat goes into one of its level's queues. A flow is dealt a *hand* of queues by its
hash (shuffle sharding) and takes the shortest: two flows rarely share all of their hands, so a flood fills its own hand
and leaves others a free queue. Free seats go to the queue whose next request would *start* first by fair queueing: each
queue has a virtual start tag, that grows with the seats it has been given.

Worked example, one seat, hand size 1: flow a sends a1 a2 a3 and then b sends b1. a1 runs; a2, a3 wait with tags 0 and 1,
b1 with tag 0. When a1 ends, a2 goes (tag 0, first in), then b1 (0), then a3 (1).
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Object = dict[str, Any]
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Waiting(Generic[T]):
    """A request in a queue. ``held`` is the executor's; ``gone`` says that nobody waits for it any more."""

    held: T
    width: int
    queue: Queue[T]
    gone: bool = False


@dataclass(slots=True, eq=False)
class Queue(Generic[T]):
    """Requests in the order they came. ``tag`` is the virtual start of the first; ``seats`` are what waits in all."""

    requests: deque[Waiting[T]] = field(default_factory=deque)
    tag: float = 0.0
    seats: int = 0


@dataclass(slots=True, eq=False)
class Level(Generic[T]):
    """One priority level with its state. ``nominal`` seats are its own; it lends up to ``lendable`` of them and borrows
    up to ``borrowing``. ``exempt`` levels are never limited; a level without queues refuses instead of waiting."""

    name: str
    uid: str = ""
    exempt: bool = False
    nominal: int = 1
    lendable: int = 0
    borrowing: int = 0
    hand_size: int = 1
    length: int = 0  # requests a queue holds
    queues: list[Queue[T]] = field(default_factory=list)
    in_use: int = 0
    waiting: int = 0
    clock: float = 0.0  # virtual time: the tag of what was started last

    def fits(self, width: int, lent: int) -> bool:
        """Whether a request may start, given the seats that others lend. A request wider than the level starts alone."""
        limit = self.nominal + min(self.borrowing, lent)
        return self.in_use + width <= limit or (self.in_use == 0 and width > limit)

    def enqueue(self, flow: int, width: int, held: T) -> Waiting[T] | None:
        """Put a request into the shortest queue of its flow's hand; None when that is full."""
        if not self.queues:
            return None
        queue = min(
            (self.queues[index] for index in hand(flow, len(self.queues), self.hand_size)),
            key=lambda one: one.seats,
        )
        if len(queue.requests) >= self.length:
            return None
        if not queue.requests:
            queue.tag = max(queue.tag, self.clock)
        waiting = Waiting(held, width, queue)
        queue.requests.append(waiting)
        queue.seats += width
        self.waiting += 1
        return waiting

    def next(self) -> Waiting[T] | None:
        """Who is to start when there is room; it stays in its queue."""
        heads = [queue for queue in self.queues if queue.requests]
        return min(heads, key=lambda queue: queue.tag).requests[0] if heads else None

    def start(self, waiting: Waiting[T]) -> None:
        """Give the first of a queue its seats."""
        queue = waiting.queue
        queue.requests.popleft()
        self.clock = queue.tag
        queue.tag += waiting.width
        self._left(waiting)
        self.in_use += waiting.width

    def give_up(self, waiting: Waiting[T]) -> None:
        """Somebody does not want to wait any longer."""
        waiting.queue.requests.remove(waiting)
        self._left(waiting)

    def _left(self, waiting: Waiting[T]) -> None:
        waiting.queue.seats -= waiting.width
        waiting.gone = True
        self.waiting -= 1

    def spare(self) -> int:
        """Seats that it lends at present."""
        return max(0, min(self.lendable, self.nominal - self.in_use))

    def overdrawn(self) -> int:
        """Seats that it has borrowed at present."""
        return 0 if self.exempt else max(0, self.in_use - self.nominal)


def lent_to(level: Level[T], levels: Iterable[Level[T]]) -> int:
    """Seats that ``level`` may use beyond its own: what others spare, less what is borrowed of it already."""
    spare = borrowed = 0
    for one in levels:
        if one is not level:
            spare += one.spare()
            borrowed += one.overdrawn()
    return max(0, spare - borrowed)


def flow_hash(schema: str, distinguisher: str) -> int:
    """A number that is the same for a flow on every server."""
    digest = hashlib.sha256(f"{schema}\0{distinguisher}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def hand(flow: int, queues: int, size: int) -> list[int]:
    """Different queues for a flow, dealt like cards from a deck that its hash has shuffled.

    Source: Kubernetes' shuffle sharding, KEP-1040.
    """
    dealt: list[int] = []
    for left in range(queues, queues - min(size, queues), -1):
        flow, card = divmod(flow, left)
        for before in sorted(dealt):
            if card >= before:
                card += 1
        dealt.append(card)
    return dealt


def share_out(objects: Iterable[Object], seats: int) -> dict[str, Level[Any]]:
    """Levels by name, with the server's ``seats`` shared out among them."""
    configs = {obj["metadata"]["name"]: obj for obj in objects}
    parts = {name: _part(obj) for name, obj in configs.items()}
    total = sum(int(part.get("nominalConcurrencyShares") or 0) for part in parts.values()) or 1
    levels: dict[str, Level[Any]] = {}
    for name, obj in sorted(configs.items()):
        part = parts[name]
        nominal = math.ceil(seats * int(part.get("nominalConcurrencyShares") or 0) / total)
        lendable = round(nominal * int(part.get("lendablePercent") or 0) / 100)
        limit = part.get("borrowingLimitPercent")
        level: Level[Any] = Level(
            name,
            obj["metadata"].get("uid", ""),
            exempt=(obj.get("spec") or {}).get("type") == "Exempt",
            nominal=nominal,
            lendable=lendable,
            borrowing=seats if limit is None else round(nominal * int(limit) / 100),
        )
        response = part.get("limitResponse") or {}
        if response.get("type") == "Queue":
            queuing = response.get("queuing") or {}
            level.hand_size = int(queuing.get("handSize") or 8)
            level.length = int(queuing.get("queueLengthLimit") or 50)
            level.queues = [Queue() for _ in range(int(queuing.get("queues") or 64))]
        levels[name] = level
    return levels


def _part(obj: Object) -> Object:
    spec = obj.get("spec") or {}
    part: Object = spec.get("exempt" if spec.get("type") == "Exempt" else "limited") or {}
    return part

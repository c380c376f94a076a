"""What a node is short of now, and whether to act on it: the decision of every look, as a pure function.

Each look brings observations. A threshold that is met is remembered since when; once its grace has passed it is acted on,
and stays met until its minimum reclaim is reached too. What it puts the node under (``MemoryPressure``) is said at once and
kept for the transition period after the last look that saw it, so that the condition does not sway with every pod that
comes and goes.

Worked example: ``memory.available<1Gi`` soft with a grace of 30 s, transition 5 min. At 0 s 900Mi are left: the node has
MemoryPressure, nothing is evicted. At 30 s still so: a pod goes. At 40 s 2Gi are left: nothing is met, but the condition
holds until 330 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bamikube.api.quantity import BINARY, DECIMAL, Quantity
from bamikube.nodeagent.eviction.thresholds import ALLOCATABLE, Threshold


@dataclass(frozen=True, slots=True)
class Observation:
    """How much is left of something, in bytes or pieces; when that was seen, in seconds since the epoch."""

    available: int
    capacity: int
    time: float
    whole: bool = False  # pieces (inodes, process ids), not bytes

    def left(self) -> Quantity:
        return Quantity.of(self.available, DECIMAL if self.whole else BINARY)


Observations = Mapping[str, Observation]  # by signal


@dataclass(frozen=True, slots=True)
class Book:
    """What is remembered from look to look."""

    since: Mapping[Threshold, float] = field(default_factory=dict)  # when each threshold was first met
    last: Mapping[str, float] = field(default_factory=dict)  # when each condition was last seen
    met: tuple[Threshold, ...] = ()  # those that were acted on and are not resolved yet
    seen: Mapping[str, float] = field(default_factory=dict)  # by signal: the time of the last observation


@dataclass(frozen=True, slots=True)
class Verdict:
    """``due``: the thresholds to act on, the most urgent first."""

    conditions: tuple[str, ...]
    due: tuple[Threshold, ...]
    book: Book


def met(
    thresholds: Iterable[Threshold], observed: Observations, *, reclaimed: bool = False
) -> list[Threshold]:
    """Those that are crossed; with ``reclaimed`` those from which the node has not yet come away far enough."""
    found = []
    for threshold in thresholds:
        seen = observed.get(threshold.signal)
        if seen is None:
            continue
        wanted = threshold.value.of(seen.capacity, threshold.signal)
        if reclaimed and threshold.reclaim is not None:
            wanted = wanted.add(threshold.reclaim.of(seen.capacity, threshold.signal))
        if wanted > seen.left():
            found.append(threshold)
    return found


def decide(
    thresholds: Iterable[Threshold], observed: Observations, book: Book, now: float, transition: float
) -> Verdict:
    """``transition``: seconds that a condition outlasts what it was seen by."""
    crossed = met(thresholds, observed)
    crossed += [t for t in met(book.met, observed, reclaimed=True) if t not in crossed]
    since = {t: book.since.get(t, now) for t in crossed}
    last = {**book.last, **{t.about.condition: now for t in crossed}}
    last = {kind: at for kind, at in last.items() if now - at < transition}
    waited = tuple(t for t in crossed if now - since[t] >= t.grace)
    fresh = [t for t in waited if observed[t.signal].time > book.seen.get(t.signal, float("-inf"))]
    due = sorted(fresh, key=lambda t: t.signal not in ("memory.available", ALLOCATABLE))
    seen = {signal: observation.time for signal, observation in observed.items()}
    return Verdict(tuple(sorted(last)), tuple(due), Book(since, last, waited, seen))

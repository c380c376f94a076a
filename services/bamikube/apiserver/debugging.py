"""``/debug``: what goes on inside, for whoever may read that path; there only with ``--profiling``.

- ``/debug/api_priority_and_fairness/dump_priority_levels``, ``dump_queues`` and ``dump_requests`` show who waits for his turn, in
  the columns of Kubernetes;
- ``/debug/pprof/goroutine`` lists the tasks of the event loop, the nearest thing to goroutines here;
- ``/debug/pprof/profile?seconds=30`` samples where the time goes, in folded stacks (:mod:`bamikube.kit.profiling`).

Kubernetes has profiling on unless it is told otherwise; here it is off, since it shows more than an administrator needs each day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bamikube.api import errors
from bamikube.apiserver.flow import FlowControl, figures
from bamikube.kit import profiling
from bamikube.kit.http import Request, Response

PREFIX = "/debug/"
_FLOWS = "/debug/api_priority_and_fairness/"
_PPROF = "/debug/pprof/"
LONGEST = 50.0  # seconds of a profile: the answer has to begin within the time of a request
_PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Debugging:
    """Answers under :data:`PREFIX`."""

    _flow: FlowControl

    async def answer(self, request: Request) -> Response:
        """Raises ApiError 404 for what there is not, 400 for a strange number of seconds."""
        path = request.path
        if path in (_PPROF, _PPROF.rstrip("/")):
            return _text("profiles: goroutine (the tasks), profile (?seconds=N)\n")
        if path == f"{_PPROF}goroutine":
            return _text(profiling.tasks())
        if path == f"{_PPROF}profile":
            return _text(await profiling.profile(_seconds(request)))
        dumps = {
            "dump_priority_levels": self._levels,
            "dump_queues": self._queues,
            "dump_requests": self._requests,
        }
        dump = dumps.get(path.removeprefix(_FLOWS)) if path.startswith(_FLOWS) else None
        if dump is None:
            raise errors.no_such_path()
        return _text(_table(dump()))

    def _levels(self) -> Iterable[Sequence[object]]:
        yield (
            *("PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests"),
            *("ExecutingRequests", "DispatchedRequests", "RejectedRequests", "TimedoutRequests"),
            "CancelledRequests",
        )
        self._flow.tell()
        refused = figures.REJECTED.total
        for name, level in sorted(self._flow.levels.items()):
            late, cancelled = (refused(priority_level=name, reason=why) for why in ("time-out", "cancelled"))
            active = sum(1 for queue in level.queues if queue.requests)
            idle = not level.in_use and not level.waiting
            yield (
                *(name, "<none>" if level.exempt else active, str(idle).lower(), "false", level.waiting),
                *(self._flow.running(name), figures.DISPATCHED.total(priority_level=name)),
                *(refused(priority_level=name) - late - cancelled, late, cancelled),
            )

    def _queues(self) -> Iterable[Sequence[object]]:
        yield (
            *("PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse"),
            *("NextDispatchR", "InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum"),
        )
        for name, level in sorted(self._flow.levels.items()):
            for index, queue in enumerate(level.queues):
                # Seats are the level's here: what runs no longer belongs to a queue.
                pending, seats = len(queue.requests), queue.seats
                yield (
                    name,
                    index,
                    pending,
                    "<none>",
                    "<none>",
                    f"{queue.tag:.8f}ss",
                    seats,
                    seats,
                    f"{seats:.8f}ss",
                )

    def _requests(self) -> Iterable[Sequence[object]]:
        yield (*("PriorityLevelName", "QueueIndex", "RequestIndexInQueue", "InitialSeats", "FinalSeats"),)
        for name, level in sorted(self._flow.levels.items()):
            for index, queue in enumerate(level.queues):
                for position, waiting in enumerate(queue.requests):
                    yield (name, index, position, waiting.width, 0)


def _seconds(request: Request) -> float:
    text = request.param("seconds") or "30"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST:
        raise errors.bad_request(f"seconds={text}: must be a number over 0, {LONGEST:g} at the most")
    return seconds


def _table(rows: Iterable[Sequence[object]]) -> str:
    """Columns with commas, as wide as they have to be."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    lines = []
    for row in texts:
        cells = [*(f"{cell}," for cell in row[:-1]), row[-1]]
        lines.append(
            " ".join(cell.ljust(width + 1) for cell, width in zip(cells, widths, strict=True)).rstrip()
        )
    return "\n".join(lines) + "\n"


def _text(text: str) -> Response:
    return Response(200, text.encode(), {"X-Content-Type-Options": "nosniff"}, _PLAIN)

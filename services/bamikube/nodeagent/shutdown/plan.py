"""Who ends when, once the machine is told to go down. Pure.

The time there is (``--shutdown-grace-period``) is shared out by priority: the last part of it
(``--shutdown-grace-period-critical-pods``) is for critical pods, which end after all others; or there is a time for each of
several priorities. A pod belongs to the highest priority that is not above its own. Groups end one after the other, the lowest first, and
one in which nothing runs takes no time.

Worked example: 30 s, 10 s of them for critical pods: pods below 2000000000 get up to 20 s, then the critical ones up to 10 s.

Source: "Graceful node shutdown" of the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import Rejection

REASON = "Terminated"
MESSAGE = "Pod was terminated in response to imminent node shutdown."
REFUSAL = ("NodeShutdown", "Pod was rejected as the node is shutting down.")
STATUS = "node is shutting down"


@dataclass(frozen=True, slots=True)
class Period:
    """``seconds`` for the pods of this priority and above."""

    priority: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Group:
    seconds: int
    pods: tuple[JSON, ...]


def periods(total: float, critical: float, by_priority: Mapping[int, int]) -> tuple[Period, ...]:
    """The periods of the flags, in the order they are gone through; () where nobody waits. Raises ValueError."""
    if by_priority:
        if total or critical:
            raise ValueError(
                "--shutdown-grace-period-by-pod-priority: cannot specify both shutdownGracePeriodByPodPriority and "
                "shutdownGracePeriod at the same time"
            )
        for priority, seconds in by_priority.items():
            if seconds < 0:
                raise ValueError(
                    f"--shutdown-grace-period-by-pod-priority: {priority}={seconds} must not be negative"
                )
        return tuple(Period(priority, by_priority[priority]) for priority in sorted(by_priority))
    for name, value in (("", total), ("-critical-pods", critical)):
        if value < 0 or 0 < value < 1:
            raise ValueError(
                f"--shutdown-grace-period{name} {value:g}s must be either zero or otherwise >= 1 sec"
            )
    if critical > total:
        raise ValueError(
            f"--shutdown-grace-period-critical-pods {critical:g}s must be <= --shutdown-grace-period {total:g}s"
        )
    return (Period(0, int(total - critical)), Period(facts.CRITICAL, int(critical))) if total else ()


def groups(given: tuple[Period, ...], pods: Iterable[JSON]) -> list[Group]:
    """The pods by period, lowest priority first, without periods that are nobody's."""
    found: list[list[JSON]] = [[] for _ in given]
    for pod in pods:
        priority = int(pod["spec"].get("priority") or 0)
        below = [n for n, period in enumerate(given) if period.priority <= priority]
        found[below[-1] if below else 0].append(pod)
    return [Group(p.seconds, tuple(some)) for p, some in zip(given, found, strict=True) if some]


def rejection(pod: JSON, seconds: int) -> Rejection:
    """How a pod is told to go that has so many seconds at most."""
    return Rejection(REASON, MESSAGE, min(float(seconds), facts.grace(pod)), disrupted=True)

"""What a pod's worker knows when it decides: the runtime's view, and its own memory.

``RuntimeState`` is read from the runtime before every decision. ``Memory`` holds what only the worker can know:
probe verdicts, failures and until when they hold back a retry, and which work is already under way. Losing it
(the node agent restarts) is harmless: back-offs start over, probes run again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from bamikube.nodeagent.runtime.port import Container, Sandbox

Promise = dict[str, dict[str, Any]]  # by container name: the resources a node agent has granted

BACKOFF_BASE = 10.0  # seconds before the second restart; doubles from there
BACKOFF_CAP = 300.0  # seconds, at most
SETTLE = 5.0  # seconds a failure is shown before the wait for the next attempt is
BACKOFF_RESET = 600.0  # seconds between two ends after which a container is forgiven


IMAGE_TROUBLES = frozenset(
    (
        "InvalidImageName",
        "ImageInspectError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    )
)


@dataclass(frozen=True, slots=True)
class RuntimeState:
    """Sandboxes and containers of one pod, as the runtime reports them now."""

    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Container, ...] = ()

    def newest_sandbox(self) -> Sandbox | None:
        return max(self.sandboxes, key=lambda s: (s.attempt, s.created_at), default=None)

    def sandbox(self) -> Sandbox | None:
        """The sandbox that containers may run in: the newest one, if it is ready."""
        newest = self.newest_sandbox()
        return newest if newest is not None and newest.ready else None

    def history(self, name: str) -> list[Container]:
        """All containers of that name, newest first."""
        found = [c for c in self.containers if c.name == name]
        return sorted(found, key=lambda c: (c.attempt, c.created_at), reverse=True)

    def latest(self, name: str) -> Container | None:
        history = self.history(name)
        return history[0] if history else None

    def running(self) -> list[Container]:
        return [c for c in self.containers if c.state == "running"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait before a container's next restart. ``period`` seconds count from the container's end."""

    period: float
    updated: float  # end of the container that led to this entry

    def expired(self, ended: float) -> bool:
        return ended - self.updated > BACKOFF_RESET

    @classmethod
    def first(cls, ended: float, most: float = BACKOFF_CAP) -> Backoff:
        return cls(min(BACKOFF_BASE, most), ended)

    def next(self, ended: float, most: float = BACKOFF_CAP) -> Backoff:
        """``most``: the longest wait on this node, in seconds."""
        if self.expired(ended):
            return Backoff.first(ended, most)
        return Backoff(min(self.period * 2, most), ended)


@dataclass(frozen=True, slots=True)
class PullBackoff:
    """The wait of a pod before it tries to pull an image again, and why the last pull failed."""

    period: float  # seconds
    since: float  # when the last pull failed
    why: str
    reason: str = "ErrImagePull"

    @property
    def until(self) -> float:
        return self.since + self.period


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something could not be done, and when it is tried again.

    ``later_reason`` replaces ``reason`` once ``settles`` has passed: ErrImagePull becomes ImagePullBackOff.
    """

    reason: str
    message: str
    until: float
    settles: float = 0.0
    later_reason: str = ""
    later_message: str = ""
    period: float = 0.0

    def at(self, now: float) -> tuple[str, str]:
        if self.later_reason and now >= self.settles:
            return self.later_reason, self.later_message
        return self.reason, self.message


@dataclass(slots=True)
class ProbeState:
    """Verdicts on one container. None: no such probe, or not decided yet (readiness then counts as not ready)."""

    started: bool | None = None
    ready: bool | None = None
    alive: bool | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class PendingResize:
    """Resources that a pod wants and does not get now (Deferred) or ever (Infeasible)."""

    reason: str
    message: str
    generation: int  # of the pod that wants them
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class ResizeUnderWay:
    """Granted resources that are not yet in force everywhere; the fault of the last attempt, and when the next is due."""

    generation: int
    fault: str = ""
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Rejection:
    """The node does not run this pod (any more): refused at its arrival, evicted, or put out for a shutdown."""

    reason: str
    message: str
    grace: float | None = None  # seconds its containers get; None: the pod's own grace
    disrupted: bool = False  # it ran, and the node agent ended it: the condition DisruptionTarget says so
    why: str = ""  # what that condition says, if it is not the message


@dataclass(slots=True)
class Memory:
    """A worker's own knowledge about its pod."""

    volumes_ready: bool = False
    starting: bool = False  # the start lane (volumes, sandbox, containers) is at work
    blocked: Trouble | None = None  # volumes or sandbox could not be made
    troubles: dict[str, Trouble] = field(default_factory=dict)  # by container: image or creation failures
    pulls: dict[str, PullBackoff] = field(default_factory=dict)  # by image
    backoffs: dict[str, Backoff] = field(default_factory=dict)  # by container: restarts
    probes: dict[str, ProbeState] = field(default_factory=dict)  # by container id
    hooking: set[str] = field(default_factory=set)  # container ids whose postStart is still running
    stopping: set[str] = field(default_factory=set)  # container and sandbox ids being stopped
    emptied: set[str] = field(default_factory=set)  # sandbox ids whose network was taken away
    messages: dict[str, str] = field(default_factory=dict)  # termination messages by container id
    rejected: Rejection | None = None
    promise: Promise = field(default_factory=dict)  # what was granted, of containers that can be resized
    given: Promise = field(default_factory=dict)  # by container id: what the runtime was told last
    resize: PendingResize | None = None
    resizing: ResizeUnderWay | None = None
    renewed: set[str] = field(default_factory=set)  # container ids stopped to start anew with other resources
    logged: dict[str, int] = field(default_factory=dict)  # by container: the highest attempt that left a log
    keep_dead: bool = True  # one dead container per name is kept for its log, also when the pod has ended
    cleaned: bool = False  # volumes, cgroups and folders are gone

    def another_image(self, name: str) -> None:
        """A container is to run another image now: what was wrong with the old one holds nothing back."""
        if (trouble := self.troubles.get(name)) is not None and trouble.reason in IMAGE_TROUBLES:
            del self.troubles[name]

    def hopeful(self) -> None:
        """What a pod refers to has changed: what could not be configured or mounted is tried again at once."""
        for name, trouble in self.troubles.items():
            if trouble.reason == "CreateContainerConfigError":
                self.troubles[name] = replace(trouble, until=0.0)
        if self.blocked is not None and self.blocked.reason == "FailedMount":
            self.blocked = replace(self.blocked, until=0.0)

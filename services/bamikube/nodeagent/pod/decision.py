"""What a pod's plan is made of: actions with reasons, and the decision that gathers them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import BACKOFF_CAP, Backoff, Memory, RuntimeState
from bamikube.nodeagent.runtime.port import Container

Kind = Literal[
    "MountVolumes", "CreateSandbox", "StartContainer", "StopContainer", "StopSandbox",
    "ResizeContainer", "RemoveContainer", "RemoveSandbox", "Cleanup", "DeletePod",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do. ``reason`` is a word for machines, ``message`` a sentence for the event."""

    kind: Kind
    name: str = ""  # container
    id: str = ""  # container or sandbox in the runtime
    attempt: int = 0
    grace: float = 0.0  # seconds
    again: bool = False  # a stopped container is to start anew, whatever the policy
    after: tuple[str, ...] = ()  # ids of containers that are to end first, within the grace
    reason: str = ""
    message: str = ""
    backoff: Backoff | None = None  # what to remember when this start happens


@dataclass(slots=True)
class Plan:
    actions: list[Action] = field(default_factory=list)
    status: JSON = field(default_factory=dict)
    wake_at: float | None = None  # seconds since the epoch
    ending: str = ""  # why the pod ends, in a word; "" while it may run
    verdict: str = ""  # one sentence: why this is the plan


@dataclass(slots=True)
class Decision:
    """A plan in the making."""

    pod: JSON
    state: RuntimeState
    memory: Memory
    now: float
    restart_max: float = BACKOFF_CAP  # seconds, the longest wait before a restart
    actions: list[Action] = field(default_factory=list)
    wakes: list[float] = field(default_factory=list)
    waiting: dict[str, tuple[str, str]] = field(default_factory=dict)
    verdict: str = ""

    def add(self, kind: Kind, **what: object) -> None:
        self.actions.append(Action(kind, **what))  # type: ignore[arg-type]

    def wake(self, at: float) -> None:
        if at > self.now:
            self.wakes.append(at)

    def stop(
        self,
        container: Container,
        reason: str,
        message: str,
        grace: float,
        after: tuple[str, ...] = (),
        again: bool = False,
    ) -> None:
        """Stop a container, unless that is under way or decided already."""
        told = any(action.kind == "StopContainer" and action.id == container.id for action in self.actions)
        if container.id not in self.memory.stopping and not told:
            self.add(
                "StopContainer",
                name=container.name,
                id=container.id,
                grace=grace,
                after=after,
                again=again,
                reason=reason,
                message=message,
            )

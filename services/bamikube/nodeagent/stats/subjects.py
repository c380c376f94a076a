"""What is measured: the node, the cgroups above pods, each pod, its sandbox, its running containers.

Who is asked is decided from what the workers know, so a scrape costs the runtime nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bamikube.kit.clock import parse_rfc3339
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.worker import PodWorker
from bamikube.nodeagent.runtime.port import Container
from bamikube.nodeagent.stats.groups import children


@dataclass(frozen=True, slots=True)
class Member:
    """A running container."""

    container: Container
    group: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A pod that has a sandbox. ``started``: seconds since the epoch."""

    pod: JSON
    group: str
    sandbox: str  # id
    sandbox_group: str
    started: float
    members: tuple[Member, ...] = field(default=())

    @property
    def uid(self) -> str:
        return facts.uid(self.pod)

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    def groups(self) -> list[str]:
        return [self.group, self.sandbox_group, *(m.group for m in self.members)]


def subjects(
    workers: Iterable[PodWorker], cgroup_parent: Callable[[JSON], str], systemd: bool
) -> list[Subject]:
    """The pods that run now."""
    found = []
    for worker in workers:
        sandbox = worker.state.sandbox()
        if sandbox is None:
            continue
        group, form = children(cgroup_parent(worker.pod), systemd)
        members = tuple(
            Member(c, group + form.format(c.id)) for c in worker.state.running() if c.sandbox_id == sandbox.id
        )
        started = sandbox.created_at or _start_time(worker.status)
        found.append(
            Subject(worker.pod, group, sandbox.id, group + form.format(sandbox.id), started, members)
        )
    return found


def _start_time(status: JSON) -> float:
    text = status.get("startTime")
    return parse_rfc3339(text) if text else 0.0

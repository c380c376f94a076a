"""What all controllers of a process have in common: a client, one informer per resource, a recorder, the world."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bamikube.api.errors import ApiError
from bamikube.client.client import Client
from bamikube.client.events import EventRecorder
from bamikube.client.informer import Informer
from bamikube.client.kinds import Kinds
from bamikube.kit.tasks import Tasks
from bamikube.kit.workqueue import WorkQueue, work
from bamikube.kit.world import World

log = logging.getLogger(__name__)

T = TypeVar("T")


class SharedInformers:
    """One informer per resource, however many controllers read it."""

    def __init__(self, client: Client, world: World) -> None:
        self._client = client
        self._world = world
        self._held: dict[tuple[str, str], Informer] = {}

    def of(self, resource: str, fields: str = "") -> Informer:
        """The informer of a resource, or of the objects that a field selector chooses.

        Its first list is a consistent one: a new leader must not act on a copy that lacks what the old one did last.
        """
        if (resource, fields) not in self._held:
            made = Informer(self._client, resource, self._world, fields=fields, fresh=True)
            self._held[(resource, fields)] = made
        return self._held[(resource, fields)]

    def held(self, resource: str) -> Informer | None:
        """The informer of all of a resource's objects, if anybody has asked for it."""
        return self._held.get((resource, ""))

    def all(self) -> list[Informer]:
        return list(self._held.values())


@dataclass(frozen=True, slots=True)
class Shared:
    client: Client
    world: World
    informers: SharedInformers
    recorder: EventRecorder
    kinds: Kinds


class Controller:
    """A controller: a queue of keys and a ``sync`` that brings one key's world in line.

    A subclass sets ``name`` (and ``reports_as``, where Kubernetes signs its events otherwise), subscribes to informers in ``__init__`` and implements ``sync``, which returns None, or
    the seconds after which it wants to see the key again.
    """

    name = ""
    reports_as = ""  # the component its events name; "": its name
    workers = 4

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.client = shared.client
        self.world = shared.world
        self.queue = WorkQueue(shared.world, name=self.name)

    async def sync(self, key: str) -> float | None:
        raise AssertionError(
            f"{type(self).__name__} lacks sync"
        )  # a mistake of the programmer, not of the input

    def record(self, obj: dict[str, Any], type: str, reason: str, message: str) -> None:
        """Record an event of this controller's."""
        component = self.reports_as or self.name
        self.shared.recorder.event(obj, type, reason, message, component=component)

    async def run(self, tasks: Tasks) -> None:
        """Work until cancelled."""
        try:
            await work(self.queue, self.sync, workers=self.workers, tasks=tasks)
        finally:
            self.queue.close()


def namespace_is_going(error: ApiError) -> bool:
    """Whether a creation failed because the namespace is being deleted: then there is nothing to try again."""
    causes = (error.details or {}).get("causes") or []
    return error.code == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


async def together(calls: Sequence[Callable[[], Any]]) -> list[Exception]:
    """Run independent API calls side by side; returns what failed."""
    results = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, Exception):
            raise result
    return [result for result in results if isinstance(result, Exception)]


def enqueue(controller: Controller) -> Callable[[str, Any, Any], None]:
    """An informer callback that queues the object's own key."""

    def changed(key: str, old: Any, new: Any) -> None:
        controller.queue.add(key)

    return changed

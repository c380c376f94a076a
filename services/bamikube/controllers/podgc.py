"""Pods that nobody else will remove: on nodes that are gone, finished ones beyond a number, never scheduled ones on
their way out. Source: "Garbage collection of Pods" in the Pod Lifecycle documentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.api.predicates import pods as pod_state
from bamikube.api.times import seconds
from bamikube.controllers.shared import Controller, Shared

Object = dict[str, Any]

# How often to look, and how long a node must be missing before its pods are called orphans, in seconds.
PERIOD = 20.0
QUARANTINE = 40.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One pod to remove and why."""

    pod: Object
    reason: str
    message: str


def plan(
    pods: list[Object], nodes: set[str], missing_since: dict[str, float], now: float, threshold: int
) -> list[Verdict]:
    """Which pods to remove. ``missing_since`` says since when (monotonic seconds) each unknown node is missed."""
    result = []
    terminal = []
    for pod in pods:
        node = pod_state.node_name(pod)
        if node and node not in nodes:
            if now - missing_since.get(node, now) >= QUARANTINE:
                result.append(Verdict(pod, "DeletionByPodGC", "PodGC: node no longer exists"))
        elif not node and pod_state.is_terminating(pod):
            result.append(Verdict(pod, "", "was deleted before it was scheduled"))
        elif pod_state.is_terminal(pod) and not pod_state.is_terminating(pod):
            terminal.append(pod)
    if threshold > 0 and len(terminal) > threshold:
        terminal.sort(key=lambda pod: seconds(pod["metadata"].get("creationTimestamp")))
        result += [
            Verdict(pod, "", "too many finished pods") for pod in terminal[: len(terminal) - threshold]
        ]
    return result


class PodGcController(Controller):
    name = "pod-garbage-collector-controller"
    workers = 1

    def __init__(self, shared: Shared, threshold: int) -> None:
        super().__init__(shared)
        self.threshold = threshold
        self.pods = shared.informers.of("pods")
        self.nodes = shared.informers.of("nodes")
        self.missing: dict[str, float] = {}
        self.queue.add("all")

    async def sync(self, key: str) -> float | None:
        await self.pods.synced.wait()
        await self.nodes.synced.wait()
        now = self.world.clock.monotonic()
        known = set(self.nodes.keys())
        pods = self.pods.items()
        used = {pod_state.node_name(pod) for pod in pods} - {""}
        self.missing = {name: self.missing.get(name, now) for name in used - known}
        for verdict in plan(pods, known, self.missing, now, self.threshold):
            await self._remove(verdict)
        return PERIOD

    async def _remove(self, verdict: Verdict) -> None:
        meta = verdict.pod["metadata"]
        try:
            if verdict.reason and not pod_state.is_terminal(verdict.pod):
                # Owners must not count a pod that nobody runs as one that still does.
                status = {"phase": "Failed", "reason": "NodeLost", "message": verdict.message}
                patch = {"metadata": {"uid": meta["uid"]}, "status": status}
                await self.client.patch(
                    "pods", meta["name"], patch, meta["namespace"], kind="strategic", subresource="status"
                )
            await self.client.delete(
                "pods", meta["name"], meta["namespace"], uid=meta["uid"], grace_seconds=0
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise

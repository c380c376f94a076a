"""Pods that nobody else will remove.

Those on nodes that are gone; those on their way out of a node that is declared out of service; those on their way out
that were never scheduled; finished ones beyond a number. Source: "Garbage collection of Pods" in the Pod Lifecycle
documentation, "Non-graceful node shutdown".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.api.predicates import pods as pod_state
from bamikube.api.predicates.conditions import is_true
from bamikube.api.times import seconds, stamp
from bamikube.controllers.shared import Controller, Shared

Object = dict[str, Any]

# How often to look, and how long a node must be missing before its pods are called orphans, in seconds.
PERIOD = 20.0
QUARANTINE = 40.0
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One pod to remove and why. ``disrupted`` is the message of its DisruptionTarget condition, if it gets one."""

    pod: Object
    reason: str
    disrupted: str = ""


def out_of_service(node: Object) -> bool:
    """Not ready, and somebody has said by a taint that nothing runs there any more."""
    taints = (node.get("spec") or {}).get("taints") or []
    return not is_true(node, "Ready") and any(taint.get("key") == OUT_OF_SERVICE for taint in taints)


def plan(
    pods: list[Object], nodes: dict[str, Object], missing_since: dict[str, float], now: float, threshold: int
) -> list[Verdict]:
    """Which pods to remove. ``missing_since`` says since when (monotonic seconds) each unknown node is missed."""
    result = []
    terminal = []
    for pod in pods:
        name = pod_state.node_name(pod)
        node = nodes.get(name)
        if name and node is None:
            if now - missing_since.get(name, now) >= QUARANTINE:
                result.append(Verdict(pod, f"its node {name} is gone", "PodGC: node no longer exists"))
        elif node is not None and pod_state.is_terminating(pod) and out_of_service(node):
            result.append(Verdict(pod, f"its node {name} is out of service"))
        elif not name and pod_state.is_terminating(pod):
            result.append(Verdict(pod, "it was deleted before it was scheduled"))
        elif pod_state.is_terminal(pod) and not pod_state.is_terminating(pod):
            terminal.append(pod)
    if threshold > 0 and len(terminal) > threshold:
        terminal.sort(key=_age_rank)
        result += [
            Verdict(pod, "there are too many finished pods") for pod in terminal[: len(terminal) - threshold]
        ]
    return result


def _age_rank(pod: Object) -> tuple[bool, float, str]:
    """Evicted pods first, then the oldest."""
    meta = pod["metadata"]
    evicted = (pod.get("status") or {}).get("reason") == "Evicted"
    return (not evicted, seconds(meta.get("creationTimestamp")), str(meta["name"]))


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
        nodes = {node["metadata"]["name"]: node for node in self.nodes.items()}
        pods = self.pods.items()
        used = {pod_state.node_name(pod) for pod in pods} - {""}
        self.missing = {name: self.missing.get(name, now) for name in sorted(used - set(nodes))}
        for name, since in self.missing.items():
            # The copy may lack a node that is there: nobody's pods are removed without asking.
            if now - since >= QUARANTINE and await self._exists(name):
                self.missing[name] = now
        for verdict in plan(pods, nodes, self.missing, now, self.threshold):
            await self._remove(verdict)
        return PERIOD

    async def _exists(self, name: str) -> bool:
        try:
            await self.client.get("nodes", name)
        except ApiError as error:
            if error.code != 404:
                raise
            return False
        return True

    async def _remove(self, verdict: Verdict) -> None:
        meta = verdict.pod["metadata"]
        try:
            if not pod_state.is_terminal(verdict.pod) and pod_state.node_name(verdict.pod):
                # Owners must not count a pod that nobody runs as one that still does.
                status: Object = {"phase": "Failed"}
                if verdict.disrupted:
                    condition = {
                        "type": "DisruptionTarget",
                        "observedGeneration": int(meta.get("generation") or 0),
                        "status": "True",
                        "reason": "DeletionByPodGC",
                        "message": verdict.disrupted,
                        "lastTransitionTime": stamp(self.world.clock.now()),
                    }
                    status["conditions"] = [condition]
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

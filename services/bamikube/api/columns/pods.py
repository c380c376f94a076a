"""The row of a pod, whose STATUS is a story told in one word.

It starts from the phase, and the first of these that applies takes over: an init container that is not through yet
(``Init:0/2``, ``Init:CrashLoopBackOff``), else what the *first* container waits for or ended with
(``ContainerCreating``, ``CrashLoopBackOff``, ``Error``, ``Completed``); last, a pod being deleted is ``Terminating``.

RESTARTS counts the app containers once the pod is initialised, before that the init containers, and says when the
last restart was: ``3 (5m ago)``.
"""

from __future__ import annotations

from typing import Any

from bamikube.api.columns import age
from bamikube.api.columns.model import AGE, NAME, NONE, Printer, column, condition, name

COLUMNS = (
    NAME,
    column("Ready", about="The aggregate readiness state of this pod for accepting traffic."),
    column("Status", about="The aggregate status of the containers in this pod."),
    column(
        "Restarts",
        about="The number of times the containers in this pod have been restarted and when the last container in this "
        "pod has restarted.",
    ),
    AGE,
    column("IP", wide=True, about="=core.v1.PodStatus.podIP"),
    column("Node", wide=True, about="=core.v1.PodSpec.nodeName"),
    column("Nominated Node", wide=True, about="=core.v1.PodStatus.nominatedNodeName"),
    column("Readiness Gates", wide=True, about="=core.v1.PodSpec.readinessGates"),
)


def _ended(state: dict[str, Any], prefix: str = "") -> str:
    if state.get("reason"):
        return f"{prefix}{state['reason']}"
    if state.get("signal"):
        return f"{prefix}Signal:{state['signal']}"
    return f"{prefix}ExitCode:{state.get('exitCode', 0)}"


def _last_end(status: dict[str, Any]) -> float:
    ended = (status.get("lastState") or {}).get("terminated") or {}
    return age.seconds_of(ended.get("finishedAt") or "") or 0.0


class _Story:
    """What is known after reading the container statuses: the word, and the counts."""

    def __init__(self, reason: str, total: int) -> None:
        self.reason, self.total = reason, total
        self.ready = self.restarts = 0
        self.restarted_at = 0.0

    def count(self, status: dict[str, Any]) -> None:
        self.restarts += status.get("restartCount", 0)
        self.restarted_at = max(self.restarted_at, _last_end(status))


def _read_init(story: _Story, sidecars: _Story, spec: dict[str, Any], statuses: list[dict[str, Any]]) -> bool:
    """Read the init containers; True while the pod is still initialising."""
    declared = spec.get("initContainers") or []
    restartable = {each.get("name") for each in declared if each.get("restartPolicy") == "Always"}
    story.total += len(restartable)
    for index, status in enumerate(statuses):
        story.count(status)
        sidecar = status.get("name") in restartable
        if sidecar:
            sidecars.count(status)
        state = status.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if ended is not None and ended.get("exitCode", 0) == 0:
            continue
        if sidecar and status.get("started"):
            story.ready += bool(status.get("ready"))
            continue
        if ended is not None:
            story.reason = _ended(ended, "Init:")
        elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
            story.reason = "Init:" + waiting["reason"]
        else:
            story.reason = f"Init:{index}/{len(declared)}"
        return True
    return False


def _read_apps(story: _Story, obj: dict[str, Any], statuses: list[dict[str, Any]]) -> None:
    running = False
    for status in reversed(statuses):
        story.count(status)
        state = status.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            story.reason = waiting["reason"]
        elif ended is not None:
            story.reason = _ended(ended)
        elif status.get("ready") and state.get("running") is not None:
            running = True
            story.ready += 1
    if story.reason == "Completed" and running:
        ready = condition(obj, "Ready")
        story.reason = "Running" if ready and ready.get("status") == "True" else "NotReady"


def _story(obj: dict[str, Any]) -> _Story:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    story = _Story(status.get("reason") or status.get("phase") or "", len(spec.get("containers") or ()))
    scheduled = condition(obj, "PodScheduled")
    if scheduled and scheduled.get("reason") == "SchedulingGated":
        story.reason = "SchedulingGated"
    sidecars = _Story("", 0)
    initialising = _read_init(story, sidecars, spec, status.get("initContainerStatuses") or [])
    initialised = condition(obj, "Initialized")
    if not initialising or (initialised and initialised.get("status") == "True"):
        story.restarts, story.restarted_at = sidecars.restarts, sidecars.restarted_at
        _read_apps(story, obj, status.get("containerStatuses") or [])
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            story.reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            story.reason = "Terminating"
    return story


def _gates(obj: dict[str, Any]) -> str:
    gates = (obj.get("spec") or {}).get("readinessGates") or []
    if not gates:
        return NONE
    passed = 0
    for gate in gates:
        found = condition(obj, gate.get("conditionType") or "")
        passed += bool(found and found.get("status") == "True")
    return f"{passed}/{len(gates)}"


def cells(obj: dict[str, Any], now: float) -> list[Any]:
    """The cells of a pod."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    story = _story(obj)
    restarts = str(story.restarts)
    if story.restarts and story.restarted_at:
        restarts += f" ({age.human(now - story.restarted_at)} ago)"
    addresses = [each.get("ip") for each in status.get("podIPs") or () if each.get("ip")]
    return [
        name(obj),
        f"{story.ready}/{story.total}",
        story.reason,
        restarts,
        age.of(obj, now),
        addresses[0] if addresses else NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(obj),
    ]


PRINTERS = {("", "pods"): Printer(COLUMNS, cells)}

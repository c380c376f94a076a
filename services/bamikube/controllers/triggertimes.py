"""Since when what stands behind a Service is different: ``endpoints.kubernetes.io/last-change-trigger-time``.

Endpoints and EndpointSlices carry it so that whoever programs the network can tell how late he is. It is the earliest
moment among those that are new since the last look: a pod's turning ready or unready, or the Service's making. A Service
seen for the first time (also by a controller that was restarted) says when it was made. A write for another reason, such as a new label,
takes the annotation off: nothing behind the Service has changed.

Source: KEP-20190401 (EndpointsLastChangeTriggerTime) and the API reference of the annotation.
"""

from __future__ import annotations

from typing import Any

from bamikube.api.predicates.conditions import find

Object = dict[str, Any]

ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


class TriggerTimes:
    """What each Service's last look saw. Moments are RFC 3339 in UTC, which sort as texts."""

    def __init__(self) -> None:
        self._services: dict[str, tuple[str, dict[str, str]]] = {}  # key: its making, pods' turns by name

    def changed(self, key: str, service: Object, pods: list[Object]) -> str:
        """The earliest moment that is new since the last call; "" when there is none."""
        known = self._services.get(key)
        made, turns = known or ("", {})
        now = {pod["metadata"]["name"]: turn for pod in pods if (turn := _turn(pod))}
        born = service["metadata"].get("creationTimestamp") or ""
        self._services[key] = (born, now)
        if known is None:
            return born
        fresh = [turn for name, turn in now.items() if turn > turns.get(name, "")]
        return min([*fresh, *([born] if born > made else [])], default="")

    def forget(self, key: str) -> None:
        """The Service is gone."""
        self._services.pop(key, None)


def _turn(pod: Object) -> str:
    """When the pod last turned ready or unready."""
    found = find(pod, "Ready") or {}
    return str(found.get("lastTransitionTime") or "")


def annotated(annotations: dict[str, str], moment: str) -> dict[str, str]:
    """The annotations of an object that is written because of a change at ``moment``, or, without one, for another reason."""
    rest = {name: value for name, value in annotations.items() if name != ANNOTATION}
    return rest | {ANNOTATION: moment} if moment else rest

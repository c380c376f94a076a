"""Events about a pod as a whole: a deadline that has passed, and containers that begin to wait."""

from __future__ import annotations

from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.status import DEADLINE_MESSAGE

_FIELDS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


class Announcer:
    """Says everything once: a wait when it begins, and again for each longer one."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._said: dict[str, str] = {}  # by container name ("" for the pod): what was said last

    def tell(self, pod: JSON, status: JSON, ending: str) -> None:
        """``ending``: why the pod ends, by its plan."""
        if ending == "DeadlineExceeded" and self._said.get("") != ending:
            self._said[""] = ending
            self._shared.api.event(pod, "Normal", ending, DEADLINE_MESSAGE)
        for field in _FIELDS:
            for item in status.get(field) or ():
                self._wait(pod, item)

    def _wait(self, pod: JSON, item: JSON) -> None:
        waiting = (item.get("state") or {}).get("waiting") or {}
        reason, name = waiting.get("reason", ""), item["name"]
        mark = f"{reason}/{item.get('restartCount')}/{waiting.get('message', '')[:24]}"
        if reason not in ("CrashLoopBackOff", "ImagePullBackOff") or self._said.get(name) == mark:
            return
        self._said[name] = mark
        if reason == "CrashLoopBackOff":
            text = f"Back-off restarting failed container {name} in pod {facts.full_name(pod)}"
            self._shared.api.event(pod, "Warning", "BackOff", text, name)
            return
        image = (facts.container(pod, name) or {}).get("image", "")
        self._shared.api.event(pod, "Normal", "BackOff", f'Back-off pulling image "{image}"', name)
        self._shared.api.event(pod, "Warning", "Failed", "Error: ImagePullBackOff", name)

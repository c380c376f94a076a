"""Which container a request means: for a stream one that runs, for a log the one the pod's status points at.

Pure. A log is chosen by the published status, not by what the runtime has: so ``--previous`` of a container that waits
in CrashLoopBackOff is the one that has just ended, as everybody who reads the status expects.
"""

from __future__ import annotations

from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import RuntimeState
from bamikube.nodeagent.runtime.port import Container
from bamikube.nodeagent.server.refusal import Refusal

_STATUSES = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_PULLING = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


def log_owner(pod: JSON, status: JSON, name: str, previous: bool) -> str:
    """The id of the container whose log is meant. Raises Refusal 404 or 400 in the kubelet's words."""
    pod_name = pod["metadata"]["name"]
    if facts.container(pod, name) is None:
        raise Refusal(404, f'container "{name}" not found in pod "{pod_name}"\n')
    who = f'container "{name}" in pod "{pod_name}"'
    for field in _STATUSES:
        for item in status.get(field) or ():
            if item["name"] == name:
                return _chosen(item, who, previous)
    raise Refusal(400, f"{who} is not available")


def _chosen(item: JSON, who: str, previous: bool) -> str:
    state = item.get("state") or {}
    last = str(((item.get("lastState") or {}).get("terminated") or {}).get("containerID") or "")
    ended = state.get("terminated")
    if previous:
        if not last:
            raise Refusal(400, f"previous terminated {who} not found")
        chosen = last
    elif "running" in state:
        chosen = str(item.get("containerID") or "")
    elif ended is not None or (item.get("lastState") or {}).get("terminated"):
        chosen = str((ended or {}).get("containerID") or last)
        if not chosen:
            raise Refusal(400, f"{who} is terminated")
    elif "waiting" in state:
        reason = str(state["waiting"].get("reason", ""))
        raise Refusal(400, f"{who} is waiting to start: {_PULLING.get(reason, reason)}")
    else:
        raise Refusal(400, f"{who} is waiting to start - no logs yet")
    return chosen.partition("://")[2]


def running(state: RuntimeState, name: str, otherwise: str = "") -> Container:
    """The container of that name that runs now. Raises Refusal with ``otherwise`` or the kubelet's usual words."""
    latest = state.latest(name)
    if latest is None or latest.state != "running":
        raise Refusal(500, otherwise or f'container not found ("{name}")')
    return latest

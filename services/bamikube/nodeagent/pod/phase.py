"""A pod's phase, from the states of its containers. Pure.

Succeeded and Failed are for good; Pending until every container has begun once; Running in between, also while
containers wait for their restart.
"""

from __future__ import annotations

from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON


def phase(pod: JSON, init: list[JSON], main: list[JSON], *, final: bool, begun: bool) -> str:
    """``init`` and ``main`` are container statuses in the order of the spec.

    ``final``: nothing runs and nothing will any more, so only exit codes count. ``begun``: a container of ``main`` has
    started in the sandbox at hand, so a sidecar that is being restarted does not make the pod Pending again.
    """
    policy = facts.restart_policy(pod)
    found = _phase(pod, init, main, policy, begun)
    if not final:
        return found
    ended = [m["state"].get("terminated") for m in main]
    if found == "Failed" or not all(end is not None and end["exitCode"] == 0 for end in ended):
        return "Failed"
    return "Succeeded"


def _phase(pod: JSON, init: list[JSON], main: list[JSON], policy: str, begun: bool) -> str:
    pending = 0
    running = waiting = 0
    for spec, item in zip(facts.init_containers(pod), init, strict=True):
        state, ended = item["state"], _ended(item)
        if facts.is_sidecar(spec):
            running += "running" in state
            fresh = "waiting" in state and ended is None
            waiting += fresh
            pending += not begun and (fresh or ("running" in state and not item["started"]))
        elif ended is None:
            pending += 1
        elif ended["exitCode"] != 0 and policy == "Never":
            return "Failed"
    exits: list[int] = []
    for item in main:
        ended = _ended(item)
        if "running" in item["state"]:
            running += 1
        elif ended is not None:
            exits.append(ended["exitCode"])
        else:
            waiting += 1
    if pending or waiting:
        return "Pending"
    if running or not exits:
        return "Running" if running else "Pending"
    if policy == "Always":
        return "Running"
    if not any(exits):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def _ended(item: JSON) -> JSON | None:
    """How the container ended, if it does not run: now, or before what it waits for now."""
    state = item["state"]
    if "terminated" in state:
        return dict(state["terminated"])
    last = (item.get("lastState") or {}).get("terminated")
    return dict(last) if last and "waiting" in state else None

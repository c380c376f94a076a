"""A pod's conditions, from its container statuses. Pure. A condition keeps its time while its status stays."""

from __future__ import annotations

from bamikube.kit.clock import rfc3339
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON

Found = tuple[bool, str, str]  # status, reason, message


def conditions(
    pod: JSON,
    init: list[JSON],
    main: list[JSON],
    phase: str,
    now: float,
    *,
    sandbox_up: bool,
    more: list[tuple[str, str, str, int]],
) -> list[JSON]:
    """The node agent's conditions of a pod. ``more``: type, reason, message and generation of others that are True."""
    old = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or ()}
    generation = pod["metadata"].get("generation")
    found: list[tuple[str, bool, str, str]] = [(kind, True, why, text) for kind, why, text, _ in more]
    generations = {kind: number for kind, _, _, number in more}
    found.append(("PodReadyToStartContainers", sandbox_up, "", ""))
    found.append(("Initialized", *_initialized(pod, init, main, phase)))
    contained = _containers_ready(pod, init, main, phase)
    found.append(("Ready", *_gated(pod, old, contained)))
    found.append(("ContainersReady", *contained))
    found.append(("PodScheduled", True, "", ""))  # it is here, whatever the scheduler said before
    result = []
    for kind, value, reason, message in found:
        text = "True" if value else "False"
        before = old.get(kind)
        changed = before is None or before.get("status") != text
        item: JSON = {"type": kind, "status": text, "lastProbeTime": None}
        item["lastTransitionTime"] = (
            rfc3339(now) if changed or before is None else before.get("lastTransitionTime")
        )
        if generation is not None:
            item["observedGeneration"] = generations.get(kind, generation)
        if reason:
            item["reason"] = reason
        if message:
            item["message"] = message
        result.append(item)
    return result


def _initialized(pod: JSON, init: list[JSON], main: list[JSON], phase: str) -> Found:
    if phase == "Succeeded":
        return True, "PodCompleted", ""
    if any("running" in m["state"] or "terminated" in m["state"] for m in main):
        return True, "", ""  # it was initialised, whatever its sidecars do now
    missing = []
    for spec, item in zip(facts.init_containers(pod), init, strict=True):
        done = item["started"] if facts.is_sidecar(spec) else item["ready"]
        if not done:
            missing.append(item["name"])
    if not missing:
        return True, "", ""
    return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(missing)}]"


def _containers_ready(pod: JSON, init: list[JSON], main: list[JSON], phase: str) -> Found:
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    sidecars = [i for s, i in zip(facts.init_containers(pod), init, strict=True) if facts.is_sidecar(s)]
    unready = [item["name"] for item in [*sidecars, *main] if not item["ready"]]
    if not unready:
        return True, "", ""
    return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"


def _gated(pod: JSON, old: dict[str, JSON], contained: Found) -> Found:
    """Ready: all containers are, and so are the readiness gates others are responsible for."""
    if not contained[0]:
        return contained
    faults = []
    for gate in pod["spec"].get("readinessGates") or ():
        kind = gate["conditionType"]
        value = old[kind]["status"] if kind in old else None
        if value is None:
            faults.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif value != "True":
            faults.append(f'the status of pod readiness gate "{kind}" is not "True", but {value}')
    if faults:
        return False, "ReadinessGatesNotReady", ", ".join(faults)
    return True, "", ""

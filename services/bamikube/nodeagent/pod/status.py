"""A pod's status, computed from what is: phase, conditions, container statuses.

Pure. Sources: the pod lifecycle documentation, KEP-753 (sidecars), KEP-3329 (terminal phases for deleted pods),
KEP-5067 (observed generation). Old values matter in two ways only: a condition keeps its transition time while its
status stays, and a terminal phase is never left again.
"""

from __future__ import annotations

from dataclasses import dataclass

from bamikube.kit.clock import rfc3339
from bamikube.nodeagent.pod import facts, qos
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import Memory, RuntimeState
from bamikube.nodeagent.runtime.port import Container

DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Of the node: its addresses, first the primary one, and the runtime's name for container ids."""

    ips: tuple[str, ...]
    runtime: str = "containerd"


def compute(
    pod: JSON,
    state: RuntimeState,
    memory: Memory,
    now: float,
    host: HostFacts,
    *,
    waiting: dict[str, tuple[str, str]],
    ending: bool,
    failure: tuple[str, str] | None,
) -> JSON:
    """The ``status`` to publish. ``waiting`` holds what the plan found out about containers it cannot start yet."""
    old = pod.get("status") or {}
    writer = _Writer(pod, state, memory, now, host, waiting, ending)
    init = [writer.container(spec, init=True) for spec in facts.init_containers(pod)]
    main = [writer.container(spec, init=False) for spec in facts.containers(pod)]
    final = ending and not state.running() and not memory.starting
    phase = _phase(pod, init, main, final=final and facts.deleted(pod))
    result: JSON = {}
    if failure is not None and not state.running():  # what still runs has not failed yet
        phase, result["reason"], result["message"] = "Failed", failure[0], failure[1]
    if facts.terminal(pod):
        phase = old["phase"]
        for key in ("reason", "message"):
            if key in old:
                result[key] = old[key]
    generation = pod["metadata"].get("generation")
    result["phase"] = phase
    result["qosClass"] = old.get("qosClass") or qos.qos_class(pod)
    result["startTime"] = old.get("startTime") or rfc3339(now)
    if host.ips:
        result["hostIP"] = host.ips[0]
        result["hostIPs"] = [{"ip": ip} for ip in host.ips]
    ips = _pod_ips(pod, state, host) or tuple(item["ip"] for item in old.get("podIPs") or ())
    if ips:
        result["podIP"] = ips[0]
        result["podIPs"] = [{"ip": ip} for ip in ips]
    if init:
        result["initContainerStatuses"] = init
    result["containerStatuses"] = main
    if generation is not None:
        result["observedGeneration"] = generation
    result["conditions"] = _conditions(pod, state, init, main, phase, now, generation)
    return result


def completed(pod: JSON, state: RuntimeState) -> bool:
    """All regular containers have ended for good (or an init container failed for good)."""
    policy = facts.restart_policy(pod)
    sandbox = state.newest_sandbox()
    if sandbox is None:
        return False
    for spec in facts.init_containers(pod):
        latest = state.latest(spec["name"])
        if (
            not facts.is_sidecar(spec)
            and policy == "Never"
            and latest is not None
            and latest.state == "exited"
            and latest.exit_code != 0
        ):
            return True
    if policy == "Always":
        return False
    for spec in facts.containers(pod):
        latest = state.latest(spec["name"])
        if latest is None or latest.state not in ("exited", "unknown"):
            return False
        if policy == "OnFailure" and (latest.exit_code != 0 or latest.state == "unknown"):
            return False
    return True


def _pod_ips(pod: JSON, state: RuntimeState, host: HostFacts) -> tuple[str, ...]:
    sandbox = state.sandbox()
    if sandbox is None:
        return ()
    return host.ips if facts.host_network(pod) else sandbox.ips


@dataclass(slots=True)
class _Writer:
    pod: JSON
    state: RuntimeState
    memory: Memory
    now: float
    host: HostFacts
    waiting: dict[str, tuple[str, str]]
    ending: bool

    def container(self, spec: JSON, *, init: bool) -> JSON:
        """One entry of containerStatuses."""
        name = spec["name"]
        history = self.state.history(name)
        sandbox = self.state.newest_sandbox()
        latest = history[0] if history else None
        stale = (
            latest is not None and sandbox is not None and latest.sandbox_id != sandbox.id and not self.ending
        )
        result: JSON = {"name": name, "state": {}, "lastState": {}, "ready": False, "restartCount": 0}
        result["image"] = spec.get("image", "")
        result["imageID"] = ""
        result["started"] = False
        before = history[1] if len(history) > 1 else None
        if latest is None:
            result["state"] = self._waiting(name, init)
            self._recall(result)
            return result
        result["restartCount"] = latest.attempt
        result["image"] = latest.image or spec.get("image", "")
        result["imageID"] = latest.image_ref
        result["containerID"] = f"{self.host.runtime}://{latest.id}"
        if latest.state == "running" and not stale:
            result["state"] = {"running": {"startedAt": rfc3339(latest.started_at)}}
            result["started"] = self._started(spec, latest)
            result["ready"] = self._ready(spec, latest, init, result["started"])
        elif latest.state == "created" and not stale:
            result["state"] = self._waiting(name, init)
        elif name in self.waiting or stale:
            result["state"] = self._waiting(name, init)
            before = latest
        else:
            result["state"] = {"terminated": self._terminated(latest)}
            result["ready"] = init and not facts.is_sidecar(spec) and latest.exit_code == 0
        if before is not None and before.state in ("exited", "unknown"):
            result["lastState"] = {"terminated": self._terminated(before)}
        return result

    def _recall(self, result: JSON) -> None:
        """Nothing in the runtime: keep what the API remembers of earlier lives."""
        old = self.pod.get("status") or {}
        for item in [*(old.get("containerStatuses") or ()), *(old.get("initContainerStatuses") or ())]:
            if item["name"] != result["name"]:
                continue
            result["restartCount"] = item.get("restartCount", 0)
            ended = (item.get("state") or {}).get("terminated")
            if facts.terminal(self.pod) or (self.ending and ended):
                result.update(
                    {
                        key: item[key]
                        for key in ("state", "lastState", "containerID", "imageID")
                        if key in item
                    }
                )
            elif ended:
                result["lastState"] = {"terminated": ended}
            elif item.get("lastState"):
                result["lastState"] = item["lastState"]

    def _waiting(self, name: str, init: bool) -> JSON:
        reason, message = self.waiting.get(name, ("", ""))
        if not reason and (trouble := self.memory.troubles.get(name)) is not None:
            reason, message = trouble.at(self.now)
        if not reason:
            reason = "PodInitializing" if facts.init_containers(self.pod) else "ContainerCreating"
        return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}

    def _terminated(self, container: Container) -> JSON:
        reason = container.reason or ("Completed" if container.exit_code == 0 else "Error")
        if container.state == "unknown":
            reason = "ContainerStatusUnknown"
        result: JSON = {"exitCode": container.exit_code, "reason": reason}
        message = self.memory.messages.get(container.id) or container.message
        if message:
            result["message"] = message
        result["startedAt"] = rfc3339(container.started_at) if container.started_at else None
        result["finishedAt"] = rfc3339(container.finished_at) if container.finished_at else None
        result["containerID"] = f"{self.host.runtime}://{container.id}"
        return result

    def _started(self, spec: JSON, container: Container) -> bool:
        if container.id in self.memory.hooking:
            return False
        if not spec.get("startupProbe"):
            return True
        verdict = self.memory.probes.get(container.id)
        return verdict is not None and verdict.started is True

    def _ready(self, spec: JSON, container: Container, init: bool, started: bool) -> bool:
        if init and not facts.is_sidecar(spec):
            return False
        if not started:
            return False
        if not spec.get("readinessProbe"):
            return True
        verdict = self.memory.probes.get(container.id)
        return verdict is not None and verdict.ready is True


def _phase(pod: JSON, init: list[JSON], main: list[JSON], *, final: bool) -> str:
    """Succeeded, Failed, Running or Pending. ``final``: deleted and nothing runs, so only exit codes count."""
    policy = "Never" if final else facts.restart_policy(pod)
    sidecar_runs = False
    for spec, item in zip(facts.init_containers(pod), init, strict=True):
        state, last = item["state"], item["lastState"]
        if facts.is_sidecar(spec):
            sidecar_runs = sidecar_runs or "running" in state
            if (
                "running" not in state
                and "terminated" not in state
                and "terminated" not in last
                and not final
            ):
                return "Pending"
            continue
        ended = state.get("terminated")
        if ended is not None and ended["exitCode"] == 0:
            continue
        if ended is not None and policy == "Never":
            return "Failed"
        if any("running" in m["state"] or "terminated" in m["state"] for m in main):
            continue  # initialised before; the init container's record is gone
        return "Failed" if final else "Pending"
    waiting = running = stopped = succeeded = 0
    for item in main:
        if "running" in item["state"]:
            running += 1
        elif "terminated" in item["state"]:
            stopped += 1
            succeeded += item["state"]["terminated"]["exitCode"] == 0
        elif "terminated" in item["lastState"]:
            stopped += 1
        else:
            waiting += 1
    if final and waiting:
        return "Failed"
    if waiting:
        return "Pending"
    if running or sidecar_runs:
        return "Running"
    if policy == "Always":
        return "Running"
    if stopped == succeeded:
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def _conditions(
    pod: JSON,
    state: RuntimeState,
    init: list[JSON],
    main: list[JSON],
    phase: str,
    now: float,
    generation: int | None,
) -> list[JSON]:
    old = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or ()}
    sandbox = state.sandbox()
    ready_to_start = sandbox is not None and bool(sandbox.ips or facts.host_network(pod))
    found: list[tuple[str, bool, str, str]] = [("PodReadyToStartContainers", ready_to_start, "", "")]
    found.append(("Initialized", *_initialized(pod, init, main, phase)))
    contained = _containers_ready(pod, init, main, phase)
    found.append(("Ready", *_gated(pod, old, contained)))
    found.append(("ContainersReady", *contained))
    if "PodScheduled" not in old:
        found.append(("PodScheduled", True, "", ""))
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
            item["observedGeneration"] = generation
        if reason:
            item["reason"] = reason
        if message:
            item["message"] = message
        result.append(item)
    if "PodScheduled" in old:
        result.append(old["PodScheduled"])
    return result


def _initialized(pod: JSON, init: list[JSON], main: list[JSON], phase: str) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return True, "PodCompleted", ""
    if any("running" in m["state"] for m in main):
        return True, "", ""
    missing = []
    for spec, item in zip(facts.init_containers(pod), init, strict=True):
        done = item["started"] if facts.is_sidecar(spec) else item["ready"]
        if not done:
            missing.append(item["name"])
    if not missing:
        return True, "", ""
    return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(missing)}]"


def _containers_ready(pod: JSON, init: list[JSON], main: list[JSON], phase: str) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    sidecars = [i for s, i in zip(facts.init_containers(pod), init, strict=True) if facts.is_sidecar(s)]
    unready = [item["name"] for item in [*sidecars, *main] if not item["ready"]]
    if not unready:
        return True, "", ""
    return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"


def _gated(pod: JSON, old: dict[str, JSON], contained: tuple[bool, str, str]) -> tuple[bool, str, str]:
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

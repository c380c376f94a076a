"""A pod's status, computed from what is: phase, conditions, container statuses.

Pure. Sources: the pod lifecycle documentation, KEP-753 (sidecars), KEP-3329 (terminal phases for deleted pods),
KEP-5067 (observed generation). Old values matter in two ways only: a condition keeps its transition time while its
status stays, and a terminal phase is never left again.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from bamikube.api.qos import qos_class
from bamikube.kit.clock import rfc3339
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.conditions import conditions
from bamikube.nodeagent.pod.container_status import Writer, lost_at_end, remembered
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.phase import phase
from bamikube.nodeagent.pod.state import BACKOFF_CAP, Memory, RuntimeState

DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Of the node: its addresses, first the primary one, and the runtime's name for container ids.

    ``deep``: whether mounts can be made read-only with all that is mounted below them. ``restart_max``: seconds, the longest
    wait before a container is started anew.
    """

    ips: tuple[str, ...]
    runtime: str = "containerd"
    deep: bool = False
    restart_max: float = BACKOFF_CAP


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
    writer = Writer(pod, state, memory, now, host.runtime, host.deep, waiting, ending)
    init = [writer.entry(spec, init=True) for spec in facts.init_containers(pod)]
    main = [writer.entry(spec, init=False) for spec in facts.containers(pod)]
    final = ending and not state.running() and not memory.starting
    debug = [writer.entry(spec, once=True) for spec in facts.ephemeral_containers(pod)]
    if final and (facts.deleted(pod) or state.sandboxes or memory.rejected is None):
        _account(pod, init, main)
    reached = phase(pod, init, main, final=final, begun=_begun(pod, state))
    result: JSON = {}
    if (
        failure is not None and not state.running() and not memory.starting
    ):  # what still runs, or may begin to, has not failed yet
        reached, result["reason"], result["message"] = "Failed", failure[0], failure[1]
    elif reached in ("Succeeded", "Failed") and (
        state.running() or (_starts(pod, state, memory) and not ending)
    ):
        # A sidecar or a debug container still runs, or what has ended was only stopped to start anew.
        reached = old.get("phase") or "Pending"
    if facts.terminal(pod):
        reached, result = old["phase"], {}
    if reached == old.get("phase"):  # reason and message belong to the phase, whoever has told them
        result = {key: old[key] for key in ("reason", "message") if old.get(key)} | result
    generation = pod["metadata"].get("generation")
    refused = memory.rejected is not None or (facts.terminal(pod) and bool(old.get("reason")))
    begun = state.sandboxes or state.containers or old.get("containerStatuses")
    result["phase"] = reached
    result["qosClass"] = old.get("qosClass") or qos_class(pod["spec"])
    result["startTime"] = old.get("startTime") or rfc3339(now)
    if refused and not begun and _never_taken(pod, memory):
        # The kubelet tells no more of it: no address of the node, no container, not even that it was scheduled.
        known = {} if generation is None else {"observedGeneration": generation}
        return result | known | {"conditions": []}
    if host.ips:
        result["hostIP"] = host.ips[0]
        result["hostIPs"] = [{"ip": ip} for ip in host.ips]
    ips = _pod_ips(pod, state, host) or tuple(item["ip"] for item in old.get("podIPs") or ())
    if ips:
        result["podIP"] = ips[0]
        result["podIPs"] = [{"ip": ip} for ip in ips]
    if init and (begun or not refused):
        result["initContainerStatuses"] = init
    if (
        begun or not refused
    ):  # a pod that was refused has no containers to tell of: clients show the reason then
        result["containerStatuses"] = sorted(main, key=lambda item: str(item["name"]))
    if debug and (begun or not refused):
        result["ephemeralContainerStatuses"] = sorted(debug, key=lambda item: str(item["name"]))
    if generation is not None:
        result["observedGeneration"] = generation
    sandbox = state.sandbox()
    up = sandbox is not None and bool(sandbox.ips or facts.host_network(pod))
    more = [] if reached in ("Succeeded", "Failed") else _resize(memory)
    put_out = memory.rejected
    if put_out is not None and put_out.disrupted and reached in ("Succeeded", "Failed"):
        more.append(
            ("DisruptionTarget", "TerminationByKubelet", put_out.why or put_out.message, generation or 0)
        )
    result["conditions"] = conditions(pod, init, main, reached, now, sandbox_up=up, more=more)
    return result


def _never_taken(pod: JSON, memory: Memory) -> bool:
    """The node refused the pod when it came, in this life of the node agent or in an earlier one."""
    if (put_out := memory.rejected) is not None:
        return not put_out.disrupted
    told = {c["type"] for c in (pod.get("status") or {}).get("conditions") or ()}
    return not told & {"Initialized", "Ready", "ContainersReady"}


def _starts(pod: JSON, state: RuntimeState, memory: Memory) -> bool:
    """A container that has ended is about to start anew: for other resources or another image."""
    latest = (state.latest(spec["name"]) for spec in facts.containers(pod))
    return bool(memory.renewed) or any(c is not None and c.state == "created" for c in latest)


def _resize(memory: Memory) -> list[tuple[str, str, str, int]]:
    """Type, reason, message and generation of the conditions of a resize."""
    found = []
    if (waits := memory.resize) is not None:
        found.append(("PodResizePending", waits.reason, waits.message, waits.generation))
    if (works := memory.resizing) is not None:
        found.append(("PodResizeInProgress", "Error" if works.fault else "", works.fault, works.generation))
    return found


def _begun(pod: JSON, state: RuntimeState) -> bool:
    """A regular container has started in the sandbox at hand."""
    sandbox = state.sandbox()
    names = {c["name"] for c in facts.containers(pod)}
    return sandbox is not None and any(
        c.name in names and c.sandbox_id == sandbox.id and c.state in ("running", "exited")
        for c in state.containers
    )


def _account(pod: JSON, init: list[JSON], main: list[JSON]) -> None:
    """At the end every container that may have run has ended: of one nobody can tell how, say so."""
    begun = [i for i, item in enumerate(init) if "waiting" not in item["state"] or item["lastState"]]
    for item in init[: max(begun, default=-1) + 1]:
        if "terminated" not in item["state"]:
            item["state"] = lost_at_end()
    if not _initialized(pod, init, main):
        return
    for item in main:
        if "terminated" not in item["state"]:
            item["state"] = lost_at_end()


def _initialized(pod: JSON, init: list[JSON], main: list[JSON]) -> bool:
    if any("waiting" not in item["state"] or item["lastState"] for item in main) or not init:
        return True
    last, spec = init[-1], facts.init_containers(pod)[-1]
    ends = [last["state"].get("terminated"), last["lastState"].get("terminated")]
    return last["started"] if facts.is_sidecar(spec) else any(e and e["exitCode"] == 0 for e in ends)


def completed(pod: JSON, state: RuntimeState, renewed: Set[str] = frozenset()) -> bool:
    """All regular containers have ended for good (or an init container failed for good)."""
    policy = facts.restart_policy(pod)
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
    codes = [exit_code(pod, state, spec["name"], renewed) for spec in facts.containers(pod)]
    return all(code == 0 or (code is not None and policy == "Never") for code in codes)


def exit_code(pod: JSON, state: RuntimeState, name: str, renewed: Set[str] = frozenset()) -> int | None:
    """How a container ended, also one that the runtime has forgotten; None if it has not ended.

    One that was stopped only to start anew (its id is in ``renewed``) has not.
    """
    latest = state.latest(name)
    if latest is not None:
        if latest.id in renewed:
            return None
        if latest.state == "unknown":
            return 137
        return latest.exit_code if latest.state == "exited" else None
    item = remembered(pod, name) or {}
    was = item.get("state") or {}
    ended = was.get("terminated") or ((item.get("lastState") or {}).get("terminated"))
    if "running" in was:
        return 137
    return int(ended["exitCode"]) if ended else None


def _pod_ips(pod: JSON, state: RuntimeState, host: HostFacts) -> tuple[str, ...]:
    if facts.host_network(pod):
        return host.ips
    sandbox = state.sandbox()
    return () if sandbox is None else sandbox.ips

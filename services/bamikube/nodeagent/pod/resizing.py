"""In-place resize: what a pod was promised, what it wants now, and whether the node has it. Pure.

Three sets of resources are kept apart. *Wanted* is what the spec says. *Promised* is what the node agent has granted:
everything it starts or tells the runtime follows that, and other pods find only the rest. *Given* is what the runtime
was told of one container. A resize goes from wanted to promised if the node has room (else it is Infeasible or
Deferred), and from promised to given container by container. Source: KEP-1287.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from bamikube.api import podresources
from bamikube.api.qos import qos_class
from bamikube.api.quantity import Quantity
from bamikube.nodeagent.pod import facts, qos
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.kernel import Kernel, swap_allowed
from bamikube.nodeagent.pod.state import Memory, Promise, RuntimeState

KERNEL = Kernel()  # one that bounds nothing of its own accord
RESTART = "RestartContainer"
_QOS = {"Guaranteed": 0, "Burstable": 1, "BestEffort": 2}


@dataclass(frozen=True, slots=True)
class Verdict:
    """On what a pod wants: there is nothing to do, it is granted, or why not (now, or ever)."""

    kind: Literal["", "Granted", "Deferred", "Infeasible"]
    message: str = ""
    detail: str = ""  # why it is infeasible, in a word for the metrics


def requested(old: JSON, new: JSON) -> Iterator[tuple[str, str, str]]:
    """What a change of a pod asks for: resource, requirement, and whether it is added, removed, increased or decreased."""
    before, after = wanted(old), wanted(new)
    for name in before.keys() & after.keys():
        has, wants = _exact(before[name]), _exact(after[name])
        for requirement in ("requests", "limits"):
            for resource in ("cpu", "memory"):
                was, is_now = (_number(resource, one[requirement].get(resource)) for one in (has, wants))
                if was != is_now:
                    operation = "add" if not was else "remove" if not is_now else None
                    yield resource, requirement, operation or ("increase" if is_now > was else "decrease")


def resizable(pod: JSON) -> Iterator[JSON]:
    """The containers whose resources may change while they run."""
    yield from (spec for spec in facts.init_containers(pod) if facts.is_sidecar(spec))
    yield from facts.containers(pod)


def wanted(pod: JSON) -> Promise:
    return {spec["name"]: _plain(spec.get("resources") or {}) for spec in resizable(pod)}


def _plain(resources: JSON) -> JSON:
    return {key: dict(resources[key]) for key in ("limits", "requests") if resources.get(key)}


def same(one: JSON, other: JSON) -> bool:
    """Whether two resources mean the same: ``1`` is ``1000m``."""
    return one == other or _exact(one) == _exact(other)


def less(one: str, other: str) -> bool:
    return Quantity.parse(one) < Quantity.parse(other)


def _exact(resources: JSON) -> dict[str, dict[str, Quantity]]:
    return {key: podresources.amounts(resources.get(key)) for key in ("limits", "requests")}


def promised(pod: JSON, promise: Promise) -> JSON:
    """The pod as it was promised: what is to be started and counted. The pod itself where nothing differs."""
    if all(same(resources, promise.get(name, resources)) for name, resources in wanted(pod).items()):
        return pod
    spec = dict(pod["spec"])
    for field in ("containers", "initContainers"):
        if field in spec:
            spec[field] = [_as_promised(item, promise) for item in spec[field]]
    return pod | {"spec": spec}


def _as_promised(spec: JSON, promise: Promise) -> JSON:
    if spec["name"] not in promise:
        return spec
    kept = {k: v for k, v in (spec.get("resources") or {}).items() if k not in ("limits", "requests")}
    return spec | {"resources": kept | promise[spec["name"]]}


def recalled(pod: JSON) -> tuple[Promise, dict[str, JSON]]:
    """Promise and gifts (by container id) as an earlier node agent told them in the status."""
    promise, given = wanted(pod), {}
    status = pod.get("status") or {}
    for field in ("containerStatuses", "initContainerStatuses"):
        for item in status.get(field) or ():
            name, identity = item["name"], str(item.get("containerID") or "").rpartition("//")[2]
            if name not in promise or not identity or item.get("resources") is None:
                continue
            has = _plain(item["resources"])
            if "running" in (item.get("state") or {}):
                given[identity] = has
            granted = {"requests": dict(item.get("allocatedResources") or {})}
            if not same({"requests": promise[name].get("requests")}, granted):
                promise[name] = has | (granted if granted["requests"] else {})
    return promise, given


def judge(
    pod: JSON,
    promise: Promise,
    others: list[JSON],
    allocatable: Mapping[str, str],
    fixed: Mapping[str, str] = MappingProxyType({}),
    kernel: Kernel = KERNEL,
) -> Verdict:
    """Whether a pod can have what it wants. ``others`` are the node's other pods, as they were promised; ``fixed``: resources
    that a guaranteed pod keeps, and the policy that has it so."""
    now = promised(pod, promise)
    if now is pod:
        return Verdict("")
    if facts.static(pod):
        return Verdict("Infeasible", "In-place resize of static-pods is not supported", "static_pod")
    if _swaps(pod, now, kernel):
        text = "In-place resize of containers with swap is not supported."
        return Verdict("Infeasible", text, "swap_limitation")
    if qos_class(pod["spec"]) == "Guaranteed":
        for name, policy in fixed.items():
            if _part(pod, name) != _part(now, name):
                text = f"Resize is infeasible for Guaranteed Pods alongside {policy}"
                return Verdict("Infeasible", text, f"guaranteed_pod_{name}_manager_static_policy")
    wants = podresources.requests(pod["spec"])
    for name in ("memory", "cpu"):
        amount, room = _number(name, wants.get(name)), _number(name, allocatable.get(name))
        if amount > room:
            text = f"Node didn't have enough capacity: {name}, requested: {amount}, capacity: {room}"
            return Verdict("Infeasible", text, "insufficient_node_allocatable")
    used: podresources.Amounts = {}
    for other in others:
        podresources.add(used, podresources.requests(other["spec"]))
    for name in ("cpu", "memory"):
        amount, room = _number(name, wants.get(name)), _number(name, allocatable.get(name))
        taken = _number(name, used.get(name))
        if amount and amount + taken > room:
            numbers = f"requested: {amount}, used: {taken}, capacity: {room}"
            return Verdict("Deferred", f"Node didn't have enough resource: {name}, {numbers}")
    return Verdict("Granted")


def _swaps(pod: JSON, now: JSON, kernel: Kernel) -> bool:
    """Whether a container whose request of memory changes while it runs has swap by it, before or after. ``now``: as promised."""
    for spec in facts.all_containers(pod):
        old = facts.container(now, spec["name"]) or spec
        policy = {item["resourceName"]: item["restartPolicy"] for item in spec.get("resizePolicy") or ()}
        before, after = (_exact(one.get("resources") or {})["requests"].get("memory") for one in (old, spec))
        swaps = swap_allowed(pod, spec, kernel) or swap_allowed(now, old, kernel)
        if before != after and swaps and policy.get("memory") != RESTART:
            return True
    return False


def _part(pod: JSON, name: str) -> list[int]:
    """What each container of a pod requests of one resource."""
    given = [(spec.get("resources") or {}).get("requests") or {} for spec in facts.all_containers(pod)]
    return [_number(name, amounts.get(name)) for amounts in given]


def _number(name: str, amount: Quantity | str | None) -> int:
    """Thousandths of a core, or bytes."""
    quantity = Quantity.parse(amount or "0")
    return quantity.milli_value() if name == "cpu" else quantity.value()


def urgency(pod: JSON, promise: Promise, since: float, qos_class: str) -> tuple[bool, int, int, float]:
    """Whose resize is judged first: who wants no more, then by priority, quality of service and waiting time."""
    wants = podresources.requests(pod["spec"])
    has = podresources.requests(promised(pod, promise)["spec"])
    more = any(_number(n, wants.get(n)) > _number(n, has.get(n)) for n in ("cpu", "memory"))
    return more, -int(pod["spec"].get("priority") or 0), _QOS[qos_class], since or float("inf")


def restarts(spec: JSON, given: JSON) -> bool:
    """Whether the change from ``given`` to the spec's resources needs the container to start anew, by its policy."""
    old, new = _exact(given), _exact(spec.get("resources") or {})
    changed = {
        name
        for key in ("limits", "requests")
        for name in ("cpu", "memory")
        if old[key].get(name) != new[key].get(name)
    }
    policy = {item["resourceName"]: item["restartPolicy"] for item in spec.get("resizePolicy") or ()}
    return any(policy.get(name) == RESTART for name in changed)


def widest(pod: JSON, given: Promise) -> JSON:
    """The pod with each limit as high as its containers have it (``given``, by name) or will: what its cgroup has to allow meanwhile.

    The kernel refuses a quota of cpu above that of the cgroup around it, and one below those of the cgroups inside.
    """
    spec = dict(pod["spec"])
    for field in ("containers", "initContainers"):
        if field in spec:
            spec[field] = [_widest(item, given.get(item["name"])) for item in spec[field]]
    return pod | {"spec": spec}


def _widest(spec: JSON, given: JSON | None) -> JSON:
    if given is None:
        return spec
    resources = dict(spec.get("resources") or {})
    old, new = given.get("limits") or {}, resources.get("limits") or {}
    both = {name: old[name] if less(new[name], old[name]) else new[name] for name in new if name in old}
    return spec | {"resources": resources | {"limits": both}}


def too_small(pod: JSON, given: Promise, used: Callable[[str], int]) -> str:
    """Why memory limits are not lowered now: as much is in use, and the kernel would kill for the rest. Else "".

    ``pod`` is the promised one, ``given`` what its containers have that run and keep running, ``used`` tells the bytes that a
    container uses, or for "" the pod.
    """
    faults = []
    old, new = (qos.pod_cgroup(one).memory_limit for one in (promised(pod, given), pod))
    if 0 < new < old and (use := used("")) >= new:
        faults.append(f"attempting to set pod memory limit ({new}) below current usage ({use})")
    for spec in resizable(pod):
        name = spec["name"]
        old, new = (_memory_limit(one) for one in (given.get(name, {}), spec.get("resources") or {}))
        if 0 < new < old and (use := used(name)) >= new:
            what = f"attempting to set container {json.dumps(name)} memory limit ({new})"
            faults.append(f"{what} below current usage ({use})")
    if not faults:
        return ""
    text = ", ".join(faults)
    return f"cannot decrease memory limits: {text if len(faults) == 1 else f'[{text}]'}"


def _memory_limit(resources: JSON) -> int:
    return _number("memory", (resources.get("limits") or {}).get("memory"))


def unfinished(pod: JSON, state: RuntimeState, memory: Memory) -> bool:
    """Whether a container that runs has not been given what it was promised. ``pod`` is the promised one."""
    for spec in resizable(pod):
        latest = state.latest(spec["name"])
        if latest is None:
            continue
        if latest.id in memory.renewed or latest.state == "created":
            return True
        given = memory.given.get(latest.id)
        if latest.state == "running" and given is not None and not same(given, spec.get("resources") or {}):
            return True
    return False


def told(pod: JSON, generation: int, error: str = "") -> str:
    """What events say of a resize, as JSON."""
    said: JSON = {}
    for field, specs in (
        ("initContainers", [s for s in facts.init_containers(pod) if facts.is_sidecar(s)]),
        ("containers", facts.containers(pod)),
    ):
        items = [{"name": spec["name"], "resources": _sorted(spec.get("resources") or {})} for spec in specs]
        if items:
            said[field] = items
    said["generation"] = generation
    if error:
        said["error"] = error
    return json.dumps(said, separators=(",", ":"))


def _sorted(resources: JSON) -> JSON:
    plain = _plain(resources)
    return {key: dict(sorted(plain[key].items())) for key in ("limits", "requests") if key in plain}

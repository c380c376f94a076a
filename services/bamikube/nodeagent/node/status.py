"""The Node object: what is registered, and what its status says. Pure.

Sources: "Node Status", "Well-Known Labels".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from bamikube.api import node_labels
from bamikube.api.quantity import Quantity
from bamikube.kit.clock import rfc3339
from bamikube.nodeagent.node import reservations
from bamikube.nodeagent.node.facts import VERSION, Machine
from bamikube.nodeagent.node.reservations import Reservation
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import Condition, Handler, Health, Image

PLACES = (  # labels of where a node is: --node-labels may change them later, too
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
)
NAMES_MAX = 5  # of each image
ATTACH = "volumes.kubernetes.io/controller-managed-attach-detach"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the flags say about this node."""

    name: str
    hostname: str
    ips: tuple[str, ...]
    labels: Mapping[str, str]
    taints: tuple[JSON, ...]
    port: int
    max_pods: int
    reserved: Reservation = field(default_factory=lambda: Reservation({}, {}))
    provider_id: str = ""
    lease_seconds: int = 40
    images_max: int = 50  # -1: all of them
    register: bool = True  # False: somebody else makes the Node
    look_seconds: float = 10.0  # between two looks at the machine
    heartbeat_seconds: float = 300.0  # after which a status is written that has not changed
    recursive_read_only: bool = (
        False  # this node makes mounts read-only all the way down, whatever the runtime can
    )
    managed_attach: bool = True  # a controller attaches volumes


def parse_taint(text: str) -> JSON:
    """``key=value:Effect`` or ``key:Effect``. Raises ValueError naming the flag."""
    body, _, effect = text.rpartition(":")
    if not body or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise ValueError(
            f"--register-with-taints: {text!r} is not key=value:Effect with Effect one of NoSchedule, "
            "PreferNoSchedule, NoExecute"
        )
    key, _, value = body.partition("=")
    return {"key": key, "value": value, "effect": effect} if value else {"key": key, "effect": effect}


def check_labels(given: Mapping[str, str]) -> None:
    """Nodes may name themselves only what NodeRestriction lets them. Raises ValueError naming the flag."""
    unknown = sorted(key for key in given if not node_labels.own(key))
    if unknown:
        raise ValueError(
            f"unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{' '.join(unknown)}]\n"
            f"--node-labels in the 'kubernetes.io' namespace must begin with an allowed prefix "
            f"({', '.join(node_labels.DOMAINS)}) or be in the specifically allowed set ({', '.join(node_labels.LABELS)})"
        )


def labels(config: NodeConfig, machine: Machine) -> dict[str, str]:
    return {**defaults(config, machine), **config.labels}


def defaults(config: NodeConfig, machine: Machine) -> dict[str, str]:
    """The labels that every node has."""
    found = {"kubernetes.io/hostname": config.hostname}
    for domain in ("kubernetes.io", "beta.kubernetes.io"):
        found |= {f"{domain}/os": "linux", f"{domain}/arch": machine.architecture}
    return found


def reconciled(found: JSON, wanted: JSON, ours: Collection[str]) -> JSON:
    """What to patch into the metadata of a Node that was there before: labels that every node has (``ours``), where it is, if
    that is said here, and who attaches volumes. All other labels, taints and annotations are left to whoever has set them since. {} for nothing. Pure.

    Worked example: the node was registered with --node-labels=tier=a, then somebody wrote tier=b: it stays b.
    """
    patch: JSON = {}
    keys: Collection[str]
    for kind, keys in (("labels", ours), ("annotations", (ATTACH,))):
        before, after = found["metadata"].get(kind) or {}, wanted["metadata"][kind]
        if kind == "labels":
            keys = (*ours, *(key for key in PLACES if key in after))
        different = {key: after.get(key) for key in keys if before.get(key) != after.get(key)}
        if different:
            patch[kind] = different
    return {"metadata": patch} if patch else {}


def shown(amounts: Mapping[str, Quantity]) -> dict[str, str]:
    return {name: str(amount) for name, amount in amounts.items()}


def registration(config: NodeConfig, machine: Machine) -> JSON:
    """The Node to create; taints are set at registration only."""
    spec: JSON = {"taints": list(config.taints)} if config.taints else {}
    if config.provider_id:
        spec["providerID"] = config.provider_id
    annotations = {ATTACH: "true"} if config.managed_attach else {}
    meta = {"name": config.name, "labels": labels(config, machine), "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": spec}


def status(
    config: NodeConfig,
    machine: Machine,
    short: Collection[str],
    runtime: Sequence[Condition] | None,
    runtime_version: str,
    images: Sequence[Image],
    old: JSON,
    now: float,
    faults: Sequence[str] = (),
    health: Health | None = None,
) -> JSON:
    """The whole status. ``faults``: what else keeps the node from being ready; ``short``: the conditions of pressure; ``runtime`` None means the runtime does not answer."""
    health = health or Health()
    addresses = [{"type": "InternalIP", "address": ip} for ip in dict.fromkeys(config.ips)]
    addresses.append({"type": "Hostname", "address": config.hostname})
    before = {c["type"]: c for c in old.get("conditions") or ()}
    conditions = []
    for kind, value, reason, message in (*_pressures(short), ("Ready", *ready(runtime, faults))):
        text = "True" if value else "False"
        known = before.get(kind)
        same = known is not None and known.get("status") == text
        since = known.get("lastTransitionTime") if known is not None and same else rfc3339(now)
        conditions.append(
            {
                "type": kind,
                "status": text,
                "lastHeartbeatTime": rfc3339(now),
                "lastTransitionTime": since,
                "reason": reason,
                "message": message,
            }
        )
    largest = sorted(images, key=lambda i: (-i.size, i.id))
    if config.images_max >= 0:
        largest = largest[: config.images_max]
    return {
        "addresses": addresses,
        "capacity": shown(reservations.capacity(machine, config.max_pods)),
        "allocatable": shown(reservations.allocatable(machine, config.max_pods, config.reserved)),
        "conditions": conditions,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port}},
        "features": {"supplementalGroupsPolicy": health.strict_groups},
        "images": [
            {"names": [*i.digests, *i.tags][:NAMES_MAX], "sizeBytes": i.size}
            for i in largest
            if i.tags or i.digests
        ],
        "nodeInfo": {
            "architecture": machine.architecture,
            "bootID": machine.boot_id,
            "containerRuntimeVersion": runtime_version,
            "kernelVersion": machine.kernel,
            "kubeProxyVersion": "",  # nobody here knows it; the field is out of use
            "kubeletVersion": VERSION,
            "machineID": machine.machine_id,
            "operatingSystem": "linux",
            "osImage": machine.os_image,
            "systemUUID": machine.system_uuid,
        }
        | ({"swap": {"capacity": machine.swap}} if machine.swap else {}),
        "runtimeHandlers": _handlers(health.handlers, config.recursive_read_only),
    }


def _handlers(told: Sequence[Handler], everywhere: bool) -> list[JSON]:
    """Runtimes before containerd 2.0 tell of none: then there is the one for pods without a RuntimeClass."""
    return [
        {
            "name": handler.name,
            "features": {
                "recursiveReadOnlyMounts": handler.recursive_read_only or everywhere,
                "userNamespaces": handler.user_namespaces,
            },
        }
        for handler in told or (Handler(""),)
    ]


PRESSURES: Mapping[
    str, tuple[str, str, str]
] = {  # by condition: the words of what is short, and of what is not
    "MemoryPressure": ("InsufficientMemory", "SufficientMemory", "memory available"),
    "DiskPressure": ("DiskPressure", "NoDiskPressure", "disk pressure"),
    "PIDPressure": ("InsufficientPID", "SufficientPID", "PID available"),
}


def _pressures(short: Collection[str]) -> list[tuple[str, bool, str, str]]:
    found = []
    for kind, (bad, good, what) in PRESSURES.items():
        word = bad if kind in short else good
        adjective = {"DiskPressure": "", "NoDiskPressure": "no "}.get(
            word, "insufficient " if kind in short else "sufficient "
        )
        found.append((kind, kind in short, f"KubeletHas{word}", f"kubelet has {adjective}{what}"))
    return found


def turns(old: JSON, new: JSON) -> list[str]:
    """The reasons of the events that tell of conditions that have changed. Pure."""
    before = {c["type"]: c.get("status") for c in old.get("conditions") or ()}
    after = {c["type"]: c["status"] for c in new["conditions"]}
    found = [
        f"NodeHas{bad if after[kind] == 'True' else good}"
        for kind, (bad, good, _) in PRESSURES.items()
        if before.get(kind) != after[kind]
    ]
    if "Ready" in before and before["Ready"] != after["Ready"]:
        found.append("NodeReady" if after["Ready"] == "True" else "NodeNotReady")
    return found


def ready(runtime: Sequence[Condition] | None, others: Sequence[str] = ()) -> tuple[bool, str, str]:
    """Ready needs a runtime that answers and a network that is configured. ``others``: what else is in the way."""
    problems = ["container runtime is down"] if runtime is None else []
    for condition in runtime or ():
        if condition.status:
            continue
        prefix = (
            "container runtime network not ready: "
            if condition.type == "NetworkReady"
            else "container runtime not ready: "
        )
        problems.append(
            f"{prefix}{condition.type}=false reason:{condition.reason} message:{condition.message}"
        )
    problems.extend(others)
    if problems:
        text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
        return False, "KubeletNotReady", text
    return True, "KubeletReady", "kubelet is posting ready status"


def meaningful(old: JSON, new: JSON) -> bool:
    """Whether anything but heartbeat times differs: a change is written at once, a heartbeat every five minutes."""

    def stripped(value: JSON) -> JSON:
        conditions = [
            {k: v for k, v in c.items() if k not in ("lastHeartbeatTime", "lastTransitionTime")}
            for c in value.get("conditions") or ()
            if c["type"] in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
        ]
        # What others have added to the node's resources is left to them.
        amounts = {
            key: {name: (value.get(key) or {}).get(name) for name in new[key]}
            for key in ("capacity", "allocatable")
            if key in new
        }
        return (
            {key: value.get(key) for key in new}
            | amounts
            | {"conditions": sorted(conditions, key=lambda c: str(c["type"]))}
        )

    return stripped(old) != stripped(new)

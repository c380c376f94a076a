"""Small questions asked of a pod object, in one place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from bamikube.kit.clock import parse_rfc3339

JSON = dict[str, Any]


def uid(pod: JSON) -> str:
    return str(pod["metadata"].get("uid", ""))


def full_name(pod: JSON) -> str:
    """``web_default(6d1f...)``, as Kubernetes' messages name a pod."""
    return f"{pod['metadata']['name']}_{pod['metadata'].get('namespace', '')}({uid(pod)})"


def init_containers(pod: JSON) -> list[JSON]:
    return list(pod["spec"].get("initContainers") or ())


def containers(pod: JSON) -> list[JSON]:
    return list(pod["spec"].get("containers") or ())


def all_containers(pod: JSON) -> Iterator[JSON]:
    yield from init_containers(pod)
    yield from containers(pod)


def ephemeral_containers(pod: JSON) -> list[JSON]:
    """What ``kubectl debug`` has added: they run beside the others, once, and count for nothing."""
    return list(pod["spec"].get("ephemeralContainers") or ())


def container(pod: JSON, name: str) -> JSON | None:
    """The spec of a container of any kind."""
    every = (*all_containers(pod), *ephemeral_containers(pod))
    return next((item for item in every if item["name"] == name), None)


def kind_of(pod: JSON, name: str) -> str:
    """``container``, ``init_container`` or ``ephemeral_container``, as the metrics say it."""
    for field, kind in (("initContainers", "init_container"), ("ephemeralContainers", "ephemeral_container")):
        if any(item["name"] == name for item in pod["spec"].get(field) or ()):
            return kind
    return "container"


def fingerprint(spec: JSON) -> str:
    """Changes with what a running container cannot take over: its image."""
    return hashlib.sha256(f"{spec['name']}\0{spec.get('image', '')}".encode()).hexdigest()[:8]


def is_sidecar(spec: JSON) -> bool:
    """An init container that keeps running beside the others (KEP-753)."""
    return spec.get("restartPolicy") == "Always"


def restart_policy(pod: JSON) -> str:
    return str(pod["spec"].get("restartPolicy") or "Always")


def restarts(policy: str, code: int | None) -> bool:
    """Whether the policy starts a container again that has ended with this exit code (None: it has not)."""
    return policy == "Always" or (policy == "OnFailure" and bool(code))


def deleted(pod: JSON) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def grace(pod: JSON) -> float:
    """Seconds the pod's containers are given to end by themselves."""
    chosen = pod["metadata"].get("deletionGracePeriodSeconds")
    if chosen is None:
        chosen = pod["spec"].get("terminationGracePeriodSeconds", 30)
    return float(chosen)


def start_time(pod: JSON) -> float | None:
    text = (pod.get("status") or {}).get("startTime")
    return parse_rfc3339(text) if text else None


def terminal(pod: JSON) -> bool:
    """The API already says that this pod has ended; nothing of it runs again."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def static(pod: JSON) -> bool:
    """Whether it is the mirror of a pod that a file on the node describes."""
    source = (pod["metadata"].get("annotations") or {}).get("kubernetes.io/config.source")
    return source not in (None, "api")


CRITICAL = 2_000_000_000  # the priority from which on a pod is not to be missed


MIRROR = "kubernetes.io/config.mirror"
CONFIG_HASH = "kubernetes.io/config.hash"  # of a static pod: its uid


def mirror(pod: JSON) -> bool:
    """Whether the object only shows a pod that a manifest on the node describes."""
    return MIRROR in (pod["metadata"].get("annotations") or {})


def critical(pod: JSON) -> bool:
    """What a node never ends to get along itself: static pods, and those of the highest priorities."""
    return static(pod) or mirror(pod) or int(pod["spec"].get("priority") or 0) >= CRITICAL


def local_volumes(pod: JSON) -> list[str]:
    """The volumes that lie on the node's disk and go with the pod: emptyDirs that are not in memory, and config maps."""
    return [
        volume["name"]
        for volume in pod["spec"].get("volumes") or ()
        if ("emptyDir" in volume and not (volume["emptyDir"] or {}).get("medium")) or "configMap" in volume
    ]


def evicted(pod: JSON) -> bool:
    """The API says that this pod had to leave the node."""
    return terminal(pod) and (pod.get("status") or {}).get("reason") == "Evicted"


def host_network(pod: JSON) -> bool:
    return bool(pod["spec"].get("hostNetwork"))

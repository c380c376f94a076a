"""Pods that take more of the node's disk than they were given, whatever the node has left. Pure.

An emptyDir with a ``sizeLimit``; a container with a limit of ``ephemeral-storage`` (its logs and, where images have no disk of
their own, its written layer); and the pod as a whole, with its volumes, against the sum of its containers' limits.
"""

from __future__ import annotations

from bamikube.api.podresources import limits
from bamikube.api.quantity import BINARY, Quantity, QuantityError
from bamikube.nodeagent.eviction import words
from bamikube.nodeagent.eviction.usage import EVERYTHING, PodUse
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON

VOLUME, POD, CONTAINER = "emptydirfs.limit", "ephemeralpodfs.limit", "ephemeralcontainerfs.limit"
STORAGE = "ephemeral-storage"


def above_limit(pod: JSON, use: PodUse, dedicated: bool) -> tuple[str, str] | None:
    """The limit that is exceeded (as the metric calls it) and what to say; None for none. Volumes, pod, containers."""
    return _volumes(pod, use) or _whole(pod, use) or _containers(pod, use, dedicated)


def bounded(pod: JSON) -> bool:
    """Whether anything of a pod's disk use is limited at all."""
    return any(
        _limit((v.get("emptyDir") or {}).get("sizeLimit")) for v in pod["spec"].get("volumes") or ()
    ) or any(
        STORAGE in ((c.get("resources") or {}).get("limits") or {})
        for c in (*facts.all_containers(pod), pod["spec"])
    )


def _limit(text: object) -> Quantity | None:
    """A limit above zero."""
    try:
        found = Quantity.parse(text) if isinstance(text, str | int | float) else None
    except QuantityError:
        return None
    return found if found is not None and found.sign() > 0 else None


def _volumes(pod: JSON, use: PodUse) -> tuple[str, str] | None:
    for volume in pod["spec"].get("volumes") or ():
        limit = _limit((volume.get("emptyDir") or {}).get("sizeLimit"))
        taken = use.volumes.get(volume["name"])
        if limit is not None and taken is not None and Quantity.of(taken.bytes, BINARY) > limit:
            return VOLUME, words.full_volume(volume["name"], limit)
    return None


def _whole(pod: JSON, use: PodUse) -> tuple[str, str] | None:
    try:
        limit = limits(pod["spec"]).get(STORAGE)
    except QuantityError:
        return None
    total = use.taken(EVERYTHING)
    if limit is not None and Quantity.of(total.bytes, BINARY) > limit:
        return POD, words.full_pod(limit)
    return None


def _containers(pod: JSON, use: PodUse, dedicated: bool) -> tuple[str, str] | None:
    for spec in facts.containers(pod):
        limit = _limit(((spec.get("resources") or {}).get("limits") or {}).get(STORAGE))
        container = use.containers.get(spec["name"])
        if limit is None or container is None:
            continue
        taken = container.logs.bytes + (0 if dedicated else container.layer.bytes)
        if Quantity.of(taken, BINARY) > limit:
            return CONTAINER, words.full_container(spec["name"], limit)
    return None

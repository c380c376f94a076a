"""Whose turn it is when a node is short of something. Pure.

First come pods that use more than they have requested, among those the ones of lower priority, among those the ones that are
furthest above their request. Nobody can be asked to keep to a number of processes, so there only priority and use count. The
class of service is not asked for: it shows in the requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bamikube.api.podresources import requests
from bamikube.api.quantity import Quantity, QuantityError
from bamikube.nodeagent.eviction.usage import EVERYTHING, Counted, PodUse
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON


def counted(signal: str, dedicated: bool) -> Counted:
    """What of a pod's files a signal is about. ``dedicated``: images and what containers write lie on a file system of their own."""
    if not dedicated:
        return EVERYTHING
    on_node = signal.startswith("nodefs.")
    return Counted(layers=not on_node, logs=on_node, volumes=on_node)


def requested(pod: JSON, resource: str) -> int:
    """What a pod requests of a resource in all, in bytes or pieces."""
    try:
        return requests(pod["spec"]).get(resource, Quantity(0)).value()
    except QuantityError:
        return 0


def priority(pod: JSON) -> int:
    return int(pod["spec"].get("priority") or 0)


def used(pod_use: PodUse, signal: str, resource: str, dedicated: bool) -> int:
    """What a pod uses of what the signal is about."""
    if resource == "memory":
        return pod_use.memory
    if resource == "pids":
        return pod_use.processes
    taken = pod_use.taken(counted(signal, dedicated))
    return taken.inodes if resource == "inodes" else taken.bytes


def ranked(
    pods: Iterable[JSON], uses: Mapping[str, PodUse], signal: str, resource: str, dedicated: bool
) -> list[JSON]:
    """The pods in the order they have to go; one of which nobody knows what it uses goes before all others."""

    def place(pod: JSON) -> tuple[bool, bool, int, int, str]:
        use = uses.get(facts.uid(pod))
        if resource == "pids":
            return False, False, priority(pod), -(use.processes if use is not None else 0), facts.uid(pod)
        if use is None:
            return False, False, priority(pod), 0, facts.uid(pod)
        above = used(use, signal, resource, dedicated) - requested(pod, resource)
        return True, above <= 0, priority(pod), -above, facts.uid(pod)

    return sorted(pods, key=place)

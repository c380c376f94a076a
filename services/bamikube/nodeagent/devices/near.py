"""Of which NUMA nodes a container could have its devices: hints for the topology manager, and devices in the order of nearness. Pure.

Devices whose plugin says nothing of where they are may come from anywhere.
"""

from __future__ import annotations

from dataclasses import replace

from bamikube.nodeagent.devices.book import Book, Choice, Device
from bamikube.nodeagent.numa.hints import Hint, Hints, Nodes, sets
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON


def hints(book: Book, pod: JSON, spec: JSON | None, nodes: Nodes) -> Hints:
    """For a container, or for the pod as a whole; ``nodes`` are all that there are."""
    if spec is not None:
        return {
            resource: _of(book, resource, count, nodes, _has(book, pod, spec, resource), book.reusable(pod, spec["name"], resource))
            for resource, count in book.wants(spec).items()
        }  # fmt: skip
    found: dict[str, list[Hint] | None] = {}
    for resource, count in _together(book, pod).items():
        mine = tuple(
            one for each in facts.all_containers(pod) for one in _has(book, pod, each, resource) or ()
        )
        found[resource] = _of(book, resource, count, nodes, tuple(dict.fromkeys(mine)) or None, ())
    return found


def _together(book: Book, pod: JSON) -> dict[str, int]:
    """What a pod needs of each resource at one time."""
    sidecars: dict[str, int] = {}
    most: dict[str, int] = {}
    for spec in facts.init_containers(pod):
        for name, count in book.wants(spec).items():
            if facts.is_sidecar(spec):
                sidecars[name] = sidecars.get(name, 0) + count
            else:
                most[name] = max(most.get(name, 0), sidecars.get(name, 0) + count)
    found = dict(sidecars)
    for spec in facts.containers(pod):
        for name, count in book.wants(spec).items():
            found[name] = found.get(name, 0) + count
    return {name: max(found.get(name, 0), most.get(name, 0)) for name in (*found, *most)}


def _has(book: Book, pod: JSON, spec: JSON, resource: str) -> tuple[str, ...] | None:
    given = book.given.get((facts.uid(pod), spec["name"], resource))
    return given.ids if given is not None else None


def _of(
    book: Book,
    resource: str,
    count: int,
    nodes: Nodes,
    has: tuple[str, ...] | None,
    again: tuple[str, ...],
) -> list[Hint] | None:
    known = book.devices.get(resource, {})
    if not any(device.nodes for device in known.values()):
        return None
    if has is not None and len(has) != count:
        return []
    healthy = {one: device for one, device in known.items() if device.healthy}
    free = set(has) if has is not None else healthy.keys() - book.taken(resource) | set(again)
    if len(free) < count:
        return []
    fewest, found = len(nodes), list[Nodes]()
    for some in sets(nodes):
        if _near(healthy, some) >= count:
            fewest = min(fewest, len(some))
        if any(known[one].nodes and not some & set(known[one].nodes) for one in again if one in known):
            continue
        if _near({one: known[one] for one in free if one in known}, some) >= count:
            found.append(some)
    return [Hint(some, len(some) == fewest) for some in found]


def _near(devices: dict[str, Device], some: Nodes) -> int:
    return sum(bool(some & set(device.nodes)) for device in devices.values())


def nearest(book: Book, resource: str, choice: Choice, near: Nodes | None) -> Choice:
    """Of those to be chosen among, the ones near to the nodes first; the others only if these are too few."""
    known = book.devices.get(resource, {})
    if near is None or not any(device.nodes for device in known.values()):
        return choice
    aligned = tuple(one for one in choice.free if near & set(known[one].nodes))
    if choice.wanted <= len(aligned):
        return replace(choice, free=aligned)
    rest = [one for one in choice.free if one not in aligned]
    rest.sort(key=lambda one: not known[one].nodes)  # those that are nowhere last
    return Choice((*choice.must, *aligned), tuple(rest), choice.wanted - len(aligned))

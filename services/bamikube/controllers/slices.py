"""Packing endpoints into EndpointSlices: at most a hundred in each, and as few writes as possible.

Endpoints come in groups that can share a slice (same address type, same ports). :func:`pack` keeps every endpoint in
the slice it is in, fills what has room, reuses slices whose group is gone for groups that need one, and makes or drops
slices for the rest, so that one pod's change rewrites one slice. Source: KEP-752 and the EndpointSlice documentation.

Worked example: slices ``x`` (a, b) and ``y`` (c); wanted are a, c and d. ``x`` becomes (a, d), ``y`` is not written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bamikube.controllers.triggertimes import annotated

Object = dict[str, Any]
PortKey = tuple[tuple[str, str, int, str], ...]
GroupKey = tuple[str, PortKey]  # address type and ports

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
SERVICE_NAME = "kubernetes.io/service-name"
HEADLESS = "service.kubernetes.io/headless"
MAX_ENDPOINTS = 100


@dataclass(slots=True)
class Group:
    """Endpoints that can share a slice, by their identity (a pod's uid, an address)."""

    address_type: str
    ports: list[Object]
    endpoints: dict[str, Object] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """Slices to write. ``create`` bodies have a generateName."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def ports_key(ports: list[Object]) -> PortKey:
    """What makes two lists of ports the same."""
    return tuple(
        sorted(
            (p.get("name") or "", p.get("protocol", "TCP"), p.get("port") or 0, p.get("appProtocol") or "")
            for p in ports
        )
    )


def pack(
    groups: list[Group],
    held: list[Object],
    labels: dict[str, str],
    annotations: dict[str, str] | None,
    frame: Object,
    identity: Callable[[Object], str],
    moment: str | None = None,
) -> Plan:
    """What to write so that the slices ``held`` hold ``groups``.

    ``annotations`` None leaves them to others, but for the one that says since when things are different: what is
    written says ``moment`` (None leaves that one, too). ``frame`` is the metadata of a new slice; ``identity`` names an
    endpoint that stands in a slice as ``groups`` do.
    """
    result = Plan()
    wanted = {(group.address_type, ports_key(group.ports)): group for group in groups}
    usable: dict[GroupKey, list[Object]] = {}
    spare: list[Object] = []
    for one in held:
        key = (str(one.get("addressType")), ports_key(one.get("ports") or []))
        if key in wanted:
            usable.setdefault(key, []).append(one)
        else:
            spare.append(one)

    def put(one: Object, group: Group, endpoints: list[Object]) -> None:
        meta = one["metadata"]
        has = meta.get("annotations") or {}
        if (
            endpoints == (one.get("endpoints") or [])
            and (meta.get("labels") or {}) == labels
            and annotations in (None, has)
            and ports_key(one.get("ports") or []) == ports_key(group.ports)
        ):
            return
        meta = {**meta, "labels": labels}
        if annotations is not None:
            meta["annotations"] = annotations
        elif moment is not None:
            meta["annotations"] = annotated(has, moment)
        result.update.append({**one, "metadata": meta, "endpoints": endpoints, "ports": group.ports})

    for key, group in wanted.items():
        left = dict(group.endpoints)
        kept: list[tuple[Object, list[Object]]] = []
        for one in usable.get(key, []):
            mine = []
            for old in one.get("endpoints") or []:
                new = left.pop(identity(old), None)
                if new is not None:
                    mine.append(new)
            kept.append((one, mine))
        rest = list(left.values())
        for _, mine in sorted(kept, key=lambda entry: -len(entry[1])):
            room = MAX_ENDPOINTS - len(mine)
            mine.extend(rest[:room])
            rest = rest[room:]
        # A group without endpoints stands for an empty service: one empty slice tells its readers so.
        placed = bool(group.endpoints)
        for one, mine in kept:
            if mine or not placed:
                placed = True
                put(one, group, mine)
            else:
                spare.append(one)
        while rest or not placed:
            placed = True
            chunk, rest = rest[:MAX_ENDPOINTS], rest[MAX_ENDPOINTS:]
            again = next((one for one in spare if one.get("addressType") == group.address_type), None)
            if again is not None:
                spare.remove(again)
                put(again, group, chunk)
            else:
                said = annotated(annotations or {}, moment) if moment else annotations or {}
                result.create.append(_new(frame, labels, said, group, chunk))
    result.delete = spare
    return result


def _new(
    frame: Object, labels: dict[str, str], annotations: dict[str, str], group: Group, endpoints: list[Object]
) -> Object:
    meta = {**frame, "labels": labels}
    if annotations:
        meta["annotations"] = annotations
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta,
        "addressType": group.address_type,
        "endpoints": endpoints,
        "ports": group.ports,
    }

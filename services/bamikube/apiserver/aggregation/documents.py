"""Discovery and OpenAPI of several API servers as one.

What the others offer is asked of them when their availability is checked, and joined to our own documents here. Pure.

Groups are listed by priority: that of a group is the highest ``groupPriorityMinimum`` of its APIServices, and within
a group the versions follow ``versionPriority``. A group version whose server does not answer stays listed, and is
called Stale in aggregated discovery, so that clients know that something is missing.

Source: KEP-3352 (aggregated discovery), ``k8s.io/kube-aggregator`` (behaviour).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from bamikube.apiserver.aggregation.registration import (
    CUSTOM_GROUP,
    GROUPS,
    OWN_GROUP,
    version_priority,
    version_rank,
)

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offer:
    """What another server offers of one group version.

    ``resources`` as in its APIResourceList; ``v3`` is the path of its OpenAPI v3 document ("" when it has none),
    ``v2`` its part of the OpenAPI v2 document. ``digest`` stands for these three.
    """

    group: str
    version: str
    group_priority: int
    version_priority: int
    digest: str = ""
    fresh: bool = False
    resources: tuple[Object, ...] = field(default=(), compare=False)
    v3: str = field(default="", compare=False)
    v2: Object | None = field(default=None, compare=False)

    @classmethod
    def of(cls, group: str, version: str, resources: Sequence[Object], v3: str, v2: Object | None) -> Offer:
        """What a server that answers offers; its priorities are the APIService's."""
        digest = hashlib.sha256(orjson.dumps([resources, v3, v2])).hexdigest()
        return cls(group, version, 0, 0, digest, True, tuple(resources), v3, v2)

    @property
    def group_version(self) -> str:
        return f"{self.group}/{self.version}"


def with_groups(listed: Object, offers: Sequence[Offer]) -> Object:
    """An ``APIGroupList`` with the groups of the others."""
    groups = {one["name"]: one for one in listed["groups"]}
    for group in {offer.group for offer in offers}:
        mine = groups.get(group, {}).get("versions") or []
        groups[group] = group_of(group, [one["version"] for one in mine], offers)
    order = sorted(groups, key=lambda name: rank(name, offers))
    return {**listed, "groups": [groups[name] for name in order]}


def group_of(group: str, own: Iterable[str], offers: Sequence[Offer]) -> Object:
    """One entry of an ``APIGroupList``; ``own`` are the versions served here."""
    names = versions(group, own, offers)
    entries = [{"groupVersion": f"{group}/{name}", "version": name} for name in names]
    return {"name": group, "versions": entries, "preferredVersion": entries[0]}


def versions(group: str, own: Iterable[str], offers: Sequence[Offer]) -> list[str]:
    """All versions of a group, best first."""
    found = {version: version_priority(group, version) if group in GROUPS else 100 for version in own}
    found |= {offer.version: offer.version_priority for offer in offers if offer.group == group}
    return sorted(found, key=lambda version: (-found[version], version_rank(version)))


def rank(group: str, offers: Sequence[Offer]) -> tuple[int, str]:
    """Where a group stands: the highest priority first, then by name; the aggregator's own group before all."""
    if group == OWN_GROUP:
        return (-(10**6), "")
    priorities = [offer.group_priority for offer in offers if offer.group == group]
    own = GROUPS.get(group, CUSTOM_GROUP)
    return (-max([*priorities, own] if group in GROUPS or not priorities else priorities), group)


def with_discovery(document: Object, offers: Sequence[Offer]) -> Object:
    """An ``APIGroupDiscoveryList`` with what the others offer."""
    items = {one["metadata"].get("name") or "": one for one in document["items"]}
    for offer in offers:
        item = items.setdefault(offer.group, {"metadata": {"name": offer.group}, "versions": []})
        entry = {
            "version": offer.version,
            "resources": discovered(offer),
            "freshness": "Current" if offer.fresh else "Stale",
        }
        kept = [one for one in item["versions"] if one["version"] != offer.version]
        items[offer.group] = {**item, "versions": [*kept, entry]}
    for group in {offer.group for offer in offers}:
        item = items[group]
        own = [one["version"] for one in item["versions"]]
        order = versions(group, own, offers)
        item["versions"].sort(key=lambda one: order.index(one["version"]))
    return {**document, "items": [items[name] for name in sorted(items, key=lambda name: rank(name, offers))]}


def discovered(offer: Offer) -> list[Object]:
    """An APIResourceList's resources as aggregated discovery shows them."""
    found: dict[str, Object] = {}
    for one in offer.resources:
        plural, _, subresource = str(one.get("name") or "").partition("/")
        kind = {
            "group": one.get("group") or offer.group,
            "version": one.get("version") or offer.version,
            "kind": one.get("kind") or "",
        }
        if subresource:
            parent = found.setdefault(plural, {"resource": plural})
            parent.setdefault("subresources", []).append(
                {"subresource": subresource, "responseKind": kind, "verbs": list(one.get("verbs") or ())}
            )
            continue
        entry: Object = {
            "resource": plural,
            "responseKind": kind,
            "scope": "Namespaced" if one.get("namespaced") else "Cluster",
            "singularResource": one.get("singularName") or "",
            "verbs": list(one.get("verbs") or ()),
        }
        for ours, theirs in (("shortNames", "shortNames"), ("categories", "categories")):
            if one.get(theirs):
                entry[ours] = list(one[theirs])
        found[plural] = entry | {
            key: value for key, value in found.get(plural, {}).items() if key == "subresources"
        }
    return list(found.values())


def part_of(document: Mapping[str, Any], group: str, version: str) -> Object:
    """The paths of one group version in another server's OpenAPI v2 document, with all its definitions."""
    prefix = f"/apis/{group}/{version}/"
    return {
        "paths": {
            path: value
            for path, value in (document.get("paths") or {}).items()
            if f"{path}/".startswith(prefix)
        },
        "definitions": dict(document.get("definitions") or {}),
    }


def with_openapi_v2(document: Object, offers: Sequence[Offer]) -> Object:
    """The OpenAPI v2 document with the parts of the others.

    Where a definition of the same name says something else, the other server's gets a name of its own.
    """
    paths, definitions = dict(document["paths"]), dict(document["definitions"])
    for offer in offers:
        if offer.v2 is None:
            continue
        part = offer.v2
        renamed = {
            name: _free(name, definitions)
            for name, definition in part["definitions"].items()
            if name in definitions and definitions[name] != definition and not _shared(name)
        }
        if renamed:
            text = orjson.dumps(part)
            for old, new in renamed.items():
                text = text.replace(f'"#/definitions/{old}"'.encode(), f'"#/definitions/{new}"'.encode())
            part = orjson.loads(text)
        for name, definition in part["definitions"].items():
            definitions.setdefault(renamed.get(name, name), definition)
        paths |= part["paths"]
    return {**document, "paths": dict(sorted(paths.items())), "definitions": definitions}


def _shared(name: str) -> bool:
    """Meta types are the same everywhere, whatever a server's older copy of their descriptions says."""
    return name.startswith("io.k8s.apimachinery.")


def _free(name: str, taken: Mapping[str, Any]) -> str:
    number = 2
    while f"{name}_v{number}" in taken:
        number += 1
    return f"{name}_v{number}"

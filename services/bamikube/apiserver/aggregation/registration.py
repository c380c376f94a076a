"""The APIServices of what is served here: one for each group version, made and kept by the server.

Built-in group versions are registered when a server starts (``automanaged: onstart``); those of custom resources as
long as they are served (``automanaged: true``), then their APIService goes. An APIService without that label is
somebody's own and is left alone.

Pure: :func:`desired` says what there should be, :func:`plan` what has to happen.

Source: ``k8s.io/kube-aggregator/pkg/controllers/autoregister`` (behaviour); priorities are those of kube-apiserver.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bamikube.api.numbers import whole
from bamikube.api.resources import Resource

Object = dict[str, Any]

LABEL = "kube-aggregator.kubernetes.io/automanaged"
ON_START, ALWAYS = "onstart", "true"
OWN_GROUP = "apiregistration.k8s.io"  # the aggregator's own group needs no APIService

# groupPriorityMinimum: in which order clients look for a kind.
GROUPS = {
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
    "resource.k8s.io": 15900,
}
CUSTOM_GROUP, CUSTOM_VERSION = 1000, 100
_STABLE = re.compile(r"v(\d+)")


def version_priority(group: str, version: str) -> int:
    """Newer stable versions first, then beta, then alpha."""
    if not group:
        return 1
    if stable := _STABLE.fullmatch(version):
        return 15 * int(stable[1])
    return 12 if "beta" in version else 9


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Kubernetes' order of versions: v2, v1, v2beta1, v1beta2, v1alpha1, then anything else by name."""
    text = version.removeprefix("v")
    for stage, word in ((1, "beta"), (2, "alpha")):
        major, found, minor = text.partition(word)
        first, second = whole(major), whole(minor)
        if found and first is not None and second is not None:
            return (stage, -first, -second, "")
    number = whole(text)
    if version.startswith("v") and number is not None:
        return (0, -number, 0, "")
    return (3, 0, 0, version)


def desired(rows: Iterable[Resource]) -> list[Object]:
    """The APIServices of all group versions among ``rows``, in the order of the rows."""
    found: dict[str, Object] = {}
    for row in rows:
        name = f"{row.version}.{row.group}"
        if row.group == OWN_GROUP or name in found:
            continue
        builtin = row.group in GROUPS
        found[name] = {
            "apiVersion": f"{OWN_GROUP}/v1",
            "kind": "APIService",
            "metadata": {"name": name, "labels": {LABEL: ON_START if builtin else ALWAYS}},
            "spec": {
                "group": row.group,
                "version": row.version,
                "groupPriorityMinimum": GROUPS.get(row.group, CUSTOM_GROUP),
                "versionPriority": version_priority(row.group, row.version) if builtin else CUSTOM_VERSION,
            },
        }
        if not row.group:
            del found[name]["spec"]["group"]
    return list(found.values())


@dataclass(slots=True)
class Plan:
    """What has to be written."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)


def plan(wanted: Iterable[Object], stored: Mapping[str, Object], *, starting: bool) -> Plan:
    """``starting``: built-in ones are put right, too; later, what somebody did to them stays."""
    found = Plan()
    names = set()
    for obj in wanted:
        name = obj["metadata"]["name"]
        names.add(name)
        there = stored.get(name)
        if there is None:
            found.create.append(obj)
            continue
        label = (there["metadata"].get("labels") or {}).get(LABEL)
        if label not in (ON_START, ALWAYS) or (label == ON_START and not starting):
            continue
        if there.get("spec") != obj["spec"] or label != obj["metadata"]["labels"][LABEL]:
            labels = {**(there["metadata"].get("labels") or {}), **obj["metadata"]["labels"]}
            metadata = {**there["metadata"], "labels": labels}
            found.update.append({**there, "metadata": metadata, "spec": obj["spec"]})
    for name, there in stored.items():
        label = (there["metadata"].get("labels") or {}).get(LABEL)
        if name not in names and (label == ALWAYS or (label == ON_START and starting)):
            found.delete.append(name)
    return found

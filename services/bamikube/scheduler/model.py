"""Pods and nodes as the scheduler sees them: only what decides, parsed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from bamikube.api import owners
from bamikube.api.predicates import fits, pods, ports
from bamikube.api.selectors import LabelSelector, SelectorError, from_object, requirement
from bamikube.api.times import seconds

Object = dict[str, Any]
HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True)
class Term:
    """A pod affinity term: pods that ``selector`` chooses in these namespaces, seen by domains of ``topology``."""

    topology: str
    selector: LabelSelector
    namespaces: frozenset[str]
    namespace_selector: LabelSelector | None

    def matches(self, pod: PodInfo, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
        if pod.namespace not in self.namespaces:
            chosen = self.namespace_selector
            if chosen is None or chosen.none or not chosen.matches(namespaces.get(pod.namespace, {})):
                return False
        return self.selector.matches(pod.labels)


@dataclass(frozen=True, slots=True)
class Spread:
    """A topology spread constraint."""

    topology: str
    max_skew: int
    selector: LabelSelector
    min_domains: int
    honor_affinity: bool
    honor_taints: bool


@dataclass(frozen=True, slots=True)
class PodInfo:
    """One pod, parsed."""

    key: str
    uid: str
    resource_version: str
    generation: int
    namespace: str
    name: str
    labels: dict[str, str]
    kind: tuple[
        str, frozenset[tuple[str, str]], bool
    ]  # namespace, labels, terminating: equal pods count alike
    node: str
    scheduler: str
    priority: int
    never_preempts: bool
    created: float
    started: float
    terminating: bool
    gates: tuple[str, ...]
    nominated: str
    owner: str
    requests: dict[str, int]
    nonzero: tuple[int, int]
    ports: tuple[ports.HostPort, ...]
    images: tuple[str, ...]
    signature: bytes  # of what the static plugins read: equal ones share verdicts
    spec: Object  # nodeSelector, affinity.nodeAffinity, tolerations, nodeName
    affinity: tuple[Term, ...]
    anti_affinity: tuple[Term, ...]
    preferred: tuple[tuple[int, Term], ...]  # negative weight: would rather stay away
    hard_spread: tuple[Spread, ...]
    soft_spread: tuple[Spread, ...]

    def on(self, node: str) -> PodInfo:
        return replace(self, node=node)

    @property
    def reference(self) -> dict[str, str]:
        """An ObjectReference for events."""
        return {
            "kind": "Pod",
            "apiVersion": "v1",
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
            "resourceVersion": self.resource_version,
        }


def _selector(
    raw: Mapping[str, Any] | None, labels: Mapping[str, str], same: Any, different: Any = ()
) -> LabelSelector:
    try:
        chosen = from_object(raw)
        more = [requirement(key, "In", [labels[key]]) for key in same or [] if key in labels]
        more += [requirement(key, "NotIn", [labels[key]]) for key in different or [] if key in labels]
        return LabelSelector.of([*chosen.requirements, *more]) if more and not chosen.none else chosen
    except SelectorError:
        return from_object(None)


def _term(raw: Object, namespace: str, labels: Mapping[str, str]) -> Term:
    names = raw.get("namespaces") or []
    by_label = raw.get("namespaceSelector")
    return Term(
        raw.get("topologyKey") or "",
        _selector(raw.get("labelSelector"), labels, raw.get("matchLabelKeys"), raw.get("mismatchLabelKeys")),
        frozenset(names) if names or by_label is not None else frozenset((namespace,)),
        _selector(by_label, {}, ()) if by_label is not None else None,
    )


def _terms(affinity: Object, kind: str, namespace: str, labels: Mapping[str, str]) -> tuple[Term, ...]:
    held = (affinity.get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or []
    return tuple(_term(raw, namespace, labels) for raw in held)


def _preferred(affinity: Object, namespace: str, labels: Mapping[str, str]) -> tuple[tuple[int, Term], ...]:
    return tuple(
        (sign * int(item.get("weight") or 0), _term(item.get("podAffinityTerm") or {}, namespace, labels))
        for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1))
        for item in (affinity.get(kind) or {}).get("preferredDuringSchedulingIgnoredDuringExecution") or []
    )


def _spread(raw: Object, labels: Mapping[str, str]) -> Spread:
    return Spread(
        raw.get("topologyKey") or "",
        int(raw.get("maxSkew") or 1),
        _selector(raw.get("labelSelector"), labels, raw.get("matchLabelKeys")),
        int(raw.get("minDomains") or 1),
        raw.get("nodeAffinityPolicy", "Honor") == "Honor",
        raw.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )


def pod_info(pod: Object) -> PodInfo | None:
    """The pod parsed, or None when it has ended and weighs on nothing any more."""
    if pods.is_terminal(pod):
        return None
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    namespace, labels = meta.get("namespace", ""), meta.get("labels") or {}
    affinity = spec.get("affinity") or {}
    node_affinity = affinity.get("nodeAffinity")
    static = {
        "nodeSelector": spec.get("nodeSelector"),
        "affinity": {"nodeAffinity": node_affinity} if node_affinity else None,
        "tolerations": spec.get("tolerations"),
        "nodeName": spec.get("nodeName"),
    }
    spreads = spec.get("topologySpreadConstraints") or []
    owner = owners.controller_of(pod)
    return PodInfo(
        key=f"{namespace}/{meta['name']}",
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        generation=int(meta.get("generation") or 0),
        namespace=namespace,
        name=meta["name"],
        labels=labels,
        kind=(namespace, frozenset(labels.items()), pods.is_terminating(pod)),
        node=spec.get("nodeName") or "",
        scheduler=spec.get("schedulerName") or "default-scheduler",
        priority=int(spec.get("priority") or 0),
        never_preempts=spec.get("preemptionPolicy") == "Never",
        created=seconds(meta.get("creationTimestamp")),
        started=seconds(status.get("startTime")),
        terminating=pods.is_terminating(pod),
        gates=tuple(gate.get("name", "") for gate in spec.get("schedulingGates") or []),
        nominated=status.get("nominatedNodeName") or "",
        owner=owner.get("uid", "") if owner else "",
        requests=fits.requests(pod),
        nonzero=fits.nonzero_requests(pod),
        ports=ports.host_ports(pod),
        images=tuple(c.get("image", "") for c in spec.get("containers") or []),
        signature=orjson.dumps(static, option=orjson.OPT_SORT_KEYS),
        spec=static,
        affinity=_terms(affinity, "podAffinity", namespace, labels),
        anti_affinity=_terms(affinity, "podAntiAffinity", namespace, labels),
        preferred=_preferred(affinity, namespace, labels),
        hard_spread=tuple(
            _spread(s, labels) for s in spreads if s.get("whenUnsatisfiable") != "ScheduleAnyway"
        ),
        soft_spread=tuple(
            _spread(s, labels) for s in spreads if s.get("whenUnsatisfiable") == "ScheduleAnyway"
        ),
    )


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node, parsed. Equal values mean that nothing the scheduler reads has changed."""

    name: str
    labels: dict[str, str]
    taints: list[Object]
    unschedulable: bool
    allocatable: dict[str, int]
    images: dict[str, int]  # bytes by image name


def node_info(node: Object) -> NodeInfo:
    spec, status = node.get("spec") or {}, node.get("status") or {}
    images = {
        name: int(image.get("sizeBytes") or 0)
        for image in status.get("images") or []
        for name in image.get("names") or []
    }
    return NodeInfo(
        node["metadata"]["name"],
        node["metadata"].get("labels") or {},
        spec.get("taints") or [],
        bool(spec.get("unschedulable")),
        fits.amounts(status.get("allocatable") or status.get("capacity")),
        images,
    )

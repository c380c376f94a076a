"""The flow schemas and priority levels that every cluster has: the mandatory ones and those Kubernetes suggests.

Until they can be read from the store (and should somebody delete a mandatory one) the server goes by these.

Source: Kubernetes' "API Priority and Fairness", default configuration.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

VERSION = "flowcontrol.apiserver.k8s.io/v1"
AUTOUPDATE = "apf.kubernetes.io/autoupdate-spec"

_EVERYTHING: Object = {
    "resourceRules": [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
    ],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
}


def _level(name: str, spec: Object) -> Object:
    metadata = {"name": name, "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": VERSION, "kind": "PriorityLevelConfiguration", "metadata": metadata, "spec": spec}


def _limited(name: str, shares: int, lendable: int, queues: int = 0, hand: int = 0) -> Object:
    response: Object = {"type": "Reject"}
    if queues:
        queuing = {"queues": queues, "handSize": hand, "queueLengthLimit": 50}
        response = {"type": "Queue", "queuing": queuing}
    limited = {
        "nominalConcurrencyShares": shares,
        "lendablePercent": lendable,
        "limitResponse": response,
    }
    return _level(name, {"type": "Limited", "limited": limited})


LEVELS: tuple[Object, ...] = (
    _level("exempt", {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
    _limited("catch-all", 5, 0),
    _limited("system", 30, 33, 64, 6),
    _limited("node-high", 40, 25, 64, 6),
    _limited("leader-election", 10, 0, 16, 4),
    _limited("workload-high", 40, 50, 128, 6),
    _limited("workload-low", 100, 90, 128, 6),
    _limited("global-default", 20, 50, 128, 6),
)


def _schema(
    name: str, level: str, precedence: int, distinguisher: str, subjects: list[Object], targets: Object
) -> Object:
    spec: Object = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [{"subjects": subjects, **targets}],
    }
    if distinguisher:
        spec["distinguisherMethod"] = {"type": distinguisher}
    metadata = {"name": name, "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": VERSION, "kind": "FlowSchema", "metadata": metadata, "spec": spec}


def _groups(*names: str) -> list[Object]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[Object]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


def _accounts(*names: str) -> list[Object]:
    return [
        {"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": "kube-system"}}
        for name in names
    ]


def _resources(verbs: str, group: str, resources: str, *, cluster: bool = False) -> Object:
    rule: Object = {
        "verbs": verbs.split(),
        "apiGroups": [group],
        "resources": resources.split(),
        "namespaces": ["*"],
    }
    return rule | {"clusterScope": True} if cluster else rule


_LEASES = _resources("get create update", "coordination.k8s.io", "leases")
_NODES = [
    _resources("*", "", "nodes nodes/status", cluster=True),
    _resources("*", "coordination.k8s.io", "leases"),
]
_PROBES = {"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}
_EVERYBODY = _groups("system:unauthenticated", "system:authenticated")
_MANAGER, _SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"

SCHEMAS: tuple[Object, ...] = (
    _schema("exempt", "exempt", 1, "", _groups("system:masters"), _EVERYTHING),
    _schema("probes", "exempt", 2, "", _EVERYBODY, _PROBES),
    _schema(
        "system-leader-election",
        "leader-election",
        100,
        "ByUser",
        [*_users(_MANAGER, _SCHEDULER), *_accounts("*")],
        {"resourceRules": [_LEASES]},
    ),
    _schema(
        "endpoint-controller",
        "workload-high",
        150,
        "ByUser",
        [*_users(_MANAGER), *_accounts("endpoint-controller", "endpointslicemirroring-controller")],
        {"resourceRules": [_resources("get create update", "", "endpoints")]},
    ),
    _schema(
        "workload-leader-election",
        "leader-election",
        200,
        "ByUser",
        _accounts("*"),
        {"resourceRules": [_LEASES]},
    ),
    _schema(
        "system-node-high", "node-high", 400, "ByUser", _groups("system:nodes"), {"resourceRules": _NODES}
    ),
    _schema("system-nodes", "system", 500, "ByUser", _groups("system:nodes"), _EVERYTHING),
    _schema("kube-controller-manager", "workload-high", 800, "ByNamespace", _users(_MANAGER), _EVERYTHING),
    _schema("kube-scheduler", "workload-high", 800, "ByNamespace", _users(_SCHEDULER), _EVERYTHING),
    _schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", _accounts("*"), _EVERYTHING),
    _schema(
        "service-accounts", "workload-low", 9000, "ByUser", _groups("system:serviceaccounts"), _EVERYTHING
    ),
    _schema("global-default", "global-default", 9900, "ByUser", _EVERYBODY, _EVERYTHING),
    _schema("catch-all", "catch-all", 10000, "ByUser", _EVERYBODY, _EVERYTHING),
)

MANDATORY = frozenset({"exempt", "catch-all"})


def mandatory(objects: tuple[Object, ...]) -> list[Object]:
    return [obj for obj in objects if obj["metadata"]["name"] in MANDATORY]


def desired() -> list[Object]:
    """All of them: levels before the schemas that refer to them."""
    return [*LEVELS, *SCHEMAS]


def reconciled(wanted: Object, stored: Object) -> Object | None:
    """``stored`` with the spec it should have; None when it has it, or is the cluster's own by its annotation.

    Mandatory objects always have theirs; the exempt level's seats may be set by the cluster.
    """
    metadata = stored["metadata"]
    own = (metadata.get("annotations") or {}).get(AUTOUPDATE) == "false"
    name = metadata["name"]
    if stored.get("spec") == wanted["spec"] or (own and name not in MANDATORY):
        return None
    if wanted["kind"] == "PriorityLevelConfiguration" and name == "exempt":
        return None
    return {**stored, "spec": wanted["spec"]}

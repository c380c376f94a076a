"""All bootstrap objects, and what has to change in a cluster that has some of them already.

Pure: :func:`desired` says what there should be, :func:`reconciled` compares one object with what is stored. Roles and
bindings only ever gain: rules and subjects that somebody added stay, what is missing comes back, unless the object
is annotated ``rbac.authorization.kubernetes.io/autoupdate: "false"``.

Source: Kubernetes' "Using RBAC Authorization", auto-reconciliation.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

from bamikube.api.resources import Resource
from bamikube.apiserver import optional_rules
from bamikube.apiserver.authz.rules import uncovered
from bamikube.apiserver.bootstrap import component_roles, user_roles
from bamikube.apiserver.flow import objects as flows

Object = dict[str, Any]

AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
BOOTSTRAPPING = {"kubernetes.io/bootstrapping": "rbac-defaults"}
RBAC_GROUP = "rbac.authorization.k8s.io"
RBAC_VERSION = f"{RBAC_GROUP}/v1"

NAMESPACES = ("kube-system", "kube-public", "kube-node-lease", "default")


def namespaces() -> list[Object]:
    """The namespaces every cluster has."""
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES]


def desired(optional: Collection[Resource] = ()) -> list[Object]:
    """Everything, in the order in which it is to be created. ``optional`` are the rows served beside the usual ones."""
    found = [*namespaces(), *_priority_classes(), *flows.desired()]
    for role in user_roles.roles():
        found.append(_rbac("ClusterRole", role))
    roles = component_roles.ROLES | optional_rules.roles(optional)
    roles["system:node"] = [*roles["system:node"], *optional_rules.node(optional)]
    for name, rules in roles.items():
        found.append(_rbac("ClusterRole", {"metadata": {"name": name}, "rules": rules}))
    bindings = user_roles.BINDINGS | component_roles.BINDINGS | optional_rules.bindings(optional)
    for name, (target, subjects) in bindings.items():
        found.append(_binding("ClusterRoleBinding", {"name": name}, "ClusterRole", target, subjects))
    for (namespace, name), (rules, subjects) in component_roles.NAMESPACED.items():
        metadata = {"name": name, "namespace": namespace}
        found.append(_rbac("Role", {"metadata": dict(metadata), "rules": rules}))
        # As Kubernetes does it, roles of other names are bound under one that says whose binding it is.
        metadata["name"] = name if name.startswith("system:") else f"system::{name}"
        found.append(_binding("RoleBinding", dict(metadata), "Role", name, subjects))
    return [copy.deepcopy(one) for one in found]


def _priority_classes() -> list[Object]:
    classes = (
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    )
    return [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        }
        for name, value, description in classes
    ]


def _rbac(kind: str, obj: Object) -> Object:
    metadata = dict(obj["metadata"])
    metadata["labels"] = {**BOOTSTRAPPING, **(metadata.get("labels") or {})}
    metadata["annotations"] = {AUTOUPDATE: "true"}
    return {"apiVersion": RBAC_VERSION, "kind": kind, **obj, "metadata": metadata}


def _binding(
    kind: str, metadata: Object, role_kind: str, role: str, subjects: list[tuple[str, str]]
) -> Object:
    ref = {"apiGroup": RBAC_GROUP, "kind": role_kind, "name": role}
    obj: Object = {"metadata": metadata, "roleRef": ref}
    if subjects:
        obj["subjects"] = [_subject(subject_kind, name) for subject_kind, name in subjects]
    return _rbac(kind, obj)


def _subject(kind: str, name: str) -> Object:
    if kind == "ServiceAccount":
        namespace, _, account = name.partition("/")
        return {"kind": kind, "name": account, "namespace": namespace}
    return {"apiGroup": RBAC_GROUP, "kind": kind, "name": name}


def reconciled(wanted: Object, stored: Object) -> Object | None:
    """``stored`` with what it lacks of ``wanted``, or None when it lacks nothing (or wants to be left alone)."""
    if wanted["apiVersion"] == flows.VERSION:
        return flows.reconciled(wanted, stored)
    if wanted["apiVersion"] != RBAC_VERSION:
        return None
    annotations = stored["metadata"].get("annotations") or {}
    if annotations.get(AUTOUPDATE) == "false":
        return None
    result = copy.deepcopy(stored)
    changed = False
    for field in ("labels", "annotations"):
        held = result["metadata"].setdefault(field, {})
        for key, value in (wanted["metadata"].get(field) or {}).items():
            if key not in held:
                held[key] = value
                changed = True
    if "rules" in wanted:
        missing = uncovered(stored.get("rules") or [], wanted["rules"])
        if missing:
            result["rules"] = [*(stored.get("rules") or []), *_whole(wanted["rules"], missing)]
            changed = True
    if wanted.get("aggregationRule"):
        selectors = (stored.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
        lacking = [one for one in wanted["aggregationRule"]["clusterRoleSelectors"] if one not in selectors]
        if lacking:
            result["aggregationRule"] = {"clusterRoleSelectors": [*selectors, *lacking]}
            changed = True
    lacking = [one for one in wanted.get("subjects") or [] if one not in (stored.get("subjects") or [])]
    if lacking:
        result["subjects"] = [*(stored.get("subjects") or []), *lacking]
        changed = True
    return result if changed else None


def _whole(rules: list[Object], missing: list[dict[str, list[str]]]) -> list[Object]:
    """Those of ``rules`` that ``missing`` atoms come from: whole rules read better than atoms."""
    return [one for one in rules if any(not uncovered([one], [atom]) for atom in missing)]

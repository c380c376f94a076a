"""What a node may do: its own node, its own pods, and what those pods refer to.

A node agent is ``system:node:<name>`` in the group ``system:nodes``. Taking over one node must not mean reading every
secret of the cluster, so what belongs to pods is open to a node only while a path leads from it to the node
(:mod:`bamikube.apiserver.authz.node_graph`). Everything else a node agent needs (services, events, reviews ...) is
the fixed list :data:`NODE_RULES`.

Admission (:mod:`bamikube.apiserver.admission.node_restriction`) looks at the objects that a node writes; this module
only at what is asked for. Refusals are worded as Kubernetes words them: they end up in the 403.

Source: Kubernetes' "Using Node Authorization" and KEP-4601 (selectors for nodes).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from bamikube.api.selectors import SelectorError, parse_fields
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authz.node_graph import NodeGraph
from bamikube.apiserver.authz.rules import Rule, RuleSet
from bamikube.apiserver.authz.verdict import NO_OPINION, Verdict
from bamikube.apiserver.identity import User
from bamikube.apiserver.registry.reader import Reader

PREFIX = "system:node:"
NODES_GROUP = "system:nodes"
LEASE_NAMESPACE = "kube-node-lease"

_READ = ["get", "list", "watch"]
_OWN = ("get", "create", "update", "patch", "delete")
_SLICE_VERBS = ("get", "watch", "list", "create", "update", "patch", "delete", "deletecollection")
_ALLOWED = Verdict(True)  # Kubernetes gives no reason for what a node may do


def _rule(verbs: list[str], group: str, *resources: str) -> Rule:
    return {"verbs": verbs, "apiGroups": [group], "resources": list(resources)}


# The role system:node, too, which nobody is bound to.
NODE_RULES: list[Rule] = [
    _rule(["create"], "authentication.k8s.io", "tokenreviews"),
    _rule(["create"], "authorization.k8s.io", "subjectaccessreviews", "localsubjectaccessreviews"),
    _rule(_READ, "", "services"),
    _rule(["create", *_READ], "", "nodes"),
    _rule(["update", "patch"], "", "nodes/status"),
    _rule(["update", "patch"], "", "nodes"),
    _rule(["create", "update", "patch"], "", "events"),
    _rule(["create", "update", "patch"], "events.k8s.io", "events"),
    _rule(_READ, "", "pods"),
    _rule(["create", "delete"], "", "pods"),
    _rule(["update", "patch"], "", "pods/status"),
    _rule(["create"], "", "pods/eviction"),
    _rule(_READ, "", "secrets", "configmaps"),
    _rule(["get"], "", "persistentvolumeclaims", "persistentvolumes"),
    _rule(["get"], "", "endpoints"),
    _rule(["create", *_READ], "certificates.k8s.io", "certificatesigningrequests"),
    _rule(list(_OWN), "coordination.k8s.io", "leases"),
    _rule(["get"], "storage.k8s.io", "volumeattachments"),
    _rule(["create"], "", "serviceaccounts/token"),
    _rule(["get", "update", "patch"], "", "persistentvolumeclaims/status"),
    _rule(_READ, "storage.k8s.io", "csidrivers"),
    _rule(list(_OWN), "storage.k8s.io", "csinodes"),
    _rule(_READ, "node.k8s.io", "runtimeclasses"),
    _rule(["get"], "resource.k8s.io", "resourceclaims"),
    _rule(list(_SLICE_VERBS), "resource.k8s.io", "resourceslices"),
    _rule(["get"], "", "serviceaccounts"),
]


def node_name(user: User) -> str | None:
    """The node a user is; "" for a node without a name, None for who is no node."""
    if user.name.startswith(PREFIX) and NODES_GROUP in user.groups:
        return user.name[len(PREFIX) :]
    return None


class NodeAuthorizer:
    """Decides for nodes only; has no opinion about anybody else."""

    def __init__(self, reader: Reader, more: Sequence[Rule] = ()) -> None:
        self._graph = NodeGraph(reader)
        self._rules = RuleSet()
        self._rules.add([*NODE_RULES, *more], "")
        self._divided = {
            ("", "secrets"): self._read,
            ("", "configmaps"): self._read,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): self._get,
            ("resource.k8s.io", "resourceclaims"): self._get,
            ("storage.k8s.io", "volumeattachments"): self._get,
            ("", "serviceaccounts"): self._account,
            ("coordination.k8s.io", "leases"): self._lease,
            ("storage.k8s.io", "csinodes"): self._csi_node,
            ("resource.k8s.io", "resourceslices"): self._slice,
            ("", "nodes"): self._node,
            ("", "pods"): self._pod,
        }

    def authorize(self, asked: Attributes) -> Verdict:
        node = node_name(asked.user)
        if node is None:
            return NO_OPINION
        if not node:
            name = json.dumps(asked.user.name, ensure_ascii=False)
            return Verdict(False, f"unknown node for user {name}")
        if not asked.is_resource:
            return NO_OPINION
        divided = self._divided.get((asked.group, asked.resource))
        if divided is not None:
            return divided(node, asked)
        origin = self._rules.resource_origin(
            asked.verb, asked.group, asked.resource, asked.subresource, asked.name
        )
        return NO_OPINION if origin is None else _ALLOWED

    def _related(self, node: str, asked: Attributes) -> Verdict:
        if not asked.name:
            return Verdict(False, "No Object name found")
        if self._graph.leads(node, asked.resource, asked.namespace, asked.name):
            return _ALLOWED
        return Verdict(False, f"no relationship found between node '{node}' and this object")

    def _get(self, node: str, asked: Attributes) -> Verdict:
        if asked.verb != "get":
            return Verdict(False, "can only get individual resources of this type")
        if asked.subresource:
            return Verdict(False, "cannot get subresource")
        return self._related(node, asked)

    def _read(self, node: str, asked: Attributes) -> Verdict:
        if asked.verb not in _READ:
            return Verdict(False, "can only read resources of this type")
        if asked.subresource:
            return Verdict(False, "cannot read subresource")
        if not asked.namespace:
            return Verdict(False, "can only read namespaced object of this type")
        return self._related(node, asked)

    def _claim(self, node: str, asked: Attributes) -> Verdict:
        if asked.subresource != "status":
            return self._get(node, asked)
        if asked.verb not in ("update", "patch"):
            return Verdict(False, "can only get/update/patch this type")
        return self._related(node, asked)

    def _account(self, node: str, asked: Attributes) -> Verdict:
        if asked.verb == "get" and not asked.subresource:
            return self._read(node, asked)
        if asked.verb != "create" or not asked.name:
            return Verdict(False, "can only create tokens for individual service accounts")
        if asked.subresource != "token":
            return Verdict(False, "can only create token subresource of serviceaccount")
        return self._related(node, asked)

    # The name of what is created is not known yet: admission compares it.

    def _lease(self, node: str, asked: Attributes) -> Verdict:
        if asked.verb not in _OWN:
            return Verdict(False, "can only get, create, update, patch, or delete a node lease")
        if asked.namespace != LEASE_NAMESPACE:
            return Verdict(False, f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
        if asked.verb != "create" and asked.name != node:
            return Verdict(False, "can only access node lease with the same name as the requesting node")
        return _ALLOWED

    def _csi_node(self, node: str, asked: Attributes) -> Verdict:
        if asked.verb not in _OWN:
            return Verdict(False, "can only get, create, update, patch, or delete a CSINode")
        if asked.subresource:
            return Verdict(False, "cannot authorize CSINode subresources")
        if asked.verb != "create" and asked.name != node:
            return Verdict(False, "can only access CSINode with the same name as the requesting node")
        return _ALLOWED

    def _slice(self, node: str, asked: Attributes) -> Verdict:
        if asked.subresource:
            return Verdict(False, "cannot authorize ResourceSlice subresources")
        match asked.verb:
            case "create":
                return _ALLOWED
            case "get" | "update" | "patch" | "delete":
                return self._related(node, asked)
            case "watch" | "list" | "deletecollection":
                if _selects(asked, node):
                    return _ALLOWED
                what = "can only list/watch/deletecollection resourceslices with nodeName field selector"
                return Verdict(False, what)
        return Verdict(
            False, f"only the following verbs are allowed for a ResourceSlice: {', '.join(_SLICE_VERBS)}"
        )

    def _node(self, node: str, asked: Attributes) -> Verdict:
        match asked.subresource, asked.verb:
            case ("", "create" | "update" | "patch") | ("status", "update" | "patch"):
                return _ALLOWED
            case "", "get" | "list" | "watch":
                # By name: a node asks for itself before it exists.
                if asked.name == node:
                    return _ALLOWED
                what = f"'{asked.name}'" if asked.name else "all nodes"
                return Verdict(False, f"node '{node}' cannot read {what}, only its own Node object")
        return NO_OPINION

    def _pod(self, node: str, asked: Attributes) -> Verdict:
        match asked.subresource, asked.verb:
            case "", "get":
                return self._get(node, asked)
            case "", "list" | "watch":
                if _selects(asked, node):
                    return _ALLOWED
                if asked.name:
                    return self._related(node, asked)
                return Verdict(False, "can only list/watch pods with spec.nodeName field selector")
            case (
                ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create")
            ):  # of its own pods, as admission sees to
                return _ALLOWED
        return NO_OPINION


def _selects(asked: Attributes, node: str) -> bool:
    """Whether only what is on the node is asked for."""
    try:
        selected = parse_fields(asked.field_selector).requirements
    except SelectorError:
        return False
    return any((one.field, one.operator, one.value) == ("spec.nodeName", "=", node) for one in selected)

"""What a node may do: its own node, its own pods, and what those pods refer to.

A node agent is ``system:node:<name>`` in the group ``system:nodes``. Taking over one node must not mean reading every
secret of the cluster, so secrets, config maps, claims and service-account tokens are open to a node only while a
pod bound to it refers to them. The index of references follows the pods as they change.

Everything else a node agent needs (services, events, reviews ...) is the fixed list :data:`NODE_RULES`.
Admission (:mod:`bamikube.apiserver.admission.node_restriction`) looks at the objects that a node writes; this module
only at what is asked for.

Source: Kubernetes' "Using Node Authorization" and KEP-4601 (selectors for nodes).
"""

from __future__ import annotations

import re
from typing import Any

from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authz.rules import Rule, RuleSet
from bamikube.apiserver.authz.verdict import NO_OPINION, Verdict
from bamikube.apiserver.identity import User
from bamikube.apiserver.registry.reader import Reader

PODS = ("", "pods")
PREFIX = "system:node:"
NODES_GROUP = "system:nodes"
LEASE_NAMESPACE = "kube-node-lease"

_READ = ["get", "list", "watch"]

NODE_RULES: list[Rule] = [
    {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"]},
    {
        "verbs": ["create"],
        "apiGroups": ["authorization.k8s.io"],
        "resources": ["subjectaccessreviews", "localsubjectaccessreviews"],
    },
    {"verbs": _READ, "apiGroups": [""], "resources": ["services", "namespaces"]},
    {"verbs": ["create", "get", "list", "watch"], "apiGroups": [""], "resources": ["nodes"]},
    {"verbs": ["update", "patch"], "apiGroups": [""], "resources": ["nodes", "nodes/status"]},
    {"verbs": ["create", "update", "patch"], "apiGroups": ["", "events.k8s.io"], "resources": ["events"]},
    {"verbs": [*_READ, "create", "delete"], "apiGroups": [""], "resources": ["pods"]},
    {"verbs": ["update", "patch"], "apiGroups": [""], "resources": ["pods/status"]},
    {"verbs": ["create"], "apiGroups": [""], "resources": ["pods/eviction"]},
    {"verbs": ["get"], "apiGroups": [""], "resources": ["endpoints"]},
    {"verbs": _READ, "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"]},
    {
        "verbs": ["create", "get", "list", "watch"],
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["certificatesigningrequests"],
    },
    {"verbs": _READ, "apiGroups": ["storage.k8s.io"], "resources": ["csidrivers", "volumeattachments"]},
    {"verbs": _READ, "apiGroups": ["node.k8s.io"], "resources": ["runtimeclasses"]},
    {"verbs": ["get", "update", "patch"], "apiGroups": [""], "resources": ["persistentvolumeclaims/status"]},
]

# What a node may have only through one of its pods.
_BY_REFERENCE = {
    ("", "secrets"): "secrets",
    ("", "configmaps"): "configmaps",
    ("", "persistentvolumeclaims"): "persistentvolumeclaims",
    ("", "serviceaccounts"): "serviceaccounts",
}

_ONE_NAME = re.compile(r"metadata\.name==?([^,!=]+)")

Reference = tuple[str, str, str]  # plural, namespace, name


def node_name(user: User) -> str:
    """The node a user is, "" when it is none."""
    if user.name.startswith(PREFIX) and NODES_GROUP in user.groups:
        return user.name[len(PREFIX) :]
    return ""


class NodeAuthorizer:
    """Decides for nodes only; has no opinion about anybody else."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._pods: dict[tuple[str, str], tuple[str, frozenset[Reference]]] = {}
        self._references: dict[str, dict[Reference, int]] = {}  # node -> reference -> how many of its pods
        self._rules = RuleSet()
        self._rules.add(NODE_RULES, "node: allowed by the node rules")
        reader.subscribe(PODS, self._pod_changed)

    def authorize(self, attributes: Attributes) -> Verdict:
        node = node_name(attributes.user)
        if not node or not attributes.is_resource:
            return NO_OPINION
        key = (attributes.group, attributes.resource)
        if key == ("", "serviceaccounts") and attributes.subresource == "token":
            return self._token(node, attributes)
        if key in _BY_REFERENCE and not attributes.subresource:
            return self._referenced(node, attributes)
        if key == ("coordination.k8s.io", "leases"):
            return self._own(node, attributes, LEASE_NAMESPACE)
        if key == ("storage.k8s.io", "csinodes"):
            return self._own(node, attributes, "")
        if key == ("", "persistentvolumes") and attributes.verb == "get":
            return self._volume(node, attributes)
        if attributes.subresource == "" and key == PODS and (refusal := self._pod_refusal(node, attributes)):
            return Verdict(False, refusal)
        if key == ("", "nodes") and attributes.verb in ("update", "patch") and attributes.name != node:
            return Verdict(False, f"node '{node}' may not modify node '{attributes.name}'")
        origin = self._rules.resource_origin(
            attributes.verb, attributes.group, attributes.resource, attributes.subresource, attributes.name
        )
        return NO_OPINION if origin is None else Verdict(True, origin)

    def rules_for(self, user: User) -> list[Rule]:
        """The fixed rules of a node; what it gets by reference cannot be listed."""
        return list(NODE_RULES) if node_name(user) else []

    def _referenced(self, node: str, attributes: Attributes) -> Verdict:
        if attributes.verb not in ("get", "list", "watch"):
            return Verdict(False, "can only read resources of this type")
        name = attributes.name
        if not name and (match := _ONE_NAME.fullmatch(attributes.field_selector)):
            name = match.group(1)
        if not name:
            return Verdict(False, "can only read a named resource of this type")
        return self._related(node, (attributes.resource, attributes.namespace, name))

    def _token(self, node: str, attributes: Attributes) -> Verdict:
        if attributes.verb != "create" or not attributes.name:
            return Verdict(False, "can only create tokens for individual service accounts")
        return self._related(node, ("serviceaccounts", attributes.namespace, attributes.name))

    def _volume(self, node: str, attributes: Attributes) -> Verdict:
        volume = self._reader.get(("", "persistentvolumes"), "", attributes.name)
        claim = ((volume or {}).get("spec") or {}).get("claimRef") or {}
        return self._related(
            node, ("persistentvolumeclaims", claim.get("namespace", ""), claim.get("name", ""))
        )

    def _related(self, node: str, reference: Reference) -> Verdict:
        if reference in self._references.get(node, ()):
            return Verdict(True, f"node: a pod on '{node}' refers to it")
        return Verdict(False, f"no relationship found between node '{node}' and this object")

    def _own(self, node: str, attributes: Attributes, namespace: str) -> Verdict:
        """An object that carries the node's name, in the one namespace where such objects live."""
        if attributes.verb not in ("get", "create", "update", "patch", "delete"):
            return Verdict(
                False, "can only get, create, update, patch, or delete a node's own object of this type"
            )
        if attributes.namespace != namespace:
            return Verdict(False, f'can only access it in the "{namespace}" system namespace')
        if attributes.name != node and not (attributes.verb == "create" and not attributes.name):
            return Verdict(False, f"can only access node '{node}''s own object of this type")
        return Verdict(True, "node: its own object")

    def _pod_refusal(self, node: str, attributes: Attributes) -> str:
        if attributes.verb == "get":
            known = self._pods.get((attributes.namespace, attributes.name))
            exists = (
                known is not None or self._reader.get(PODS, attributes.namespace, attributes.name) is not None
            )
            if exists and (known is None or known[0] != node):
                return f"no relationship found between node '{node}' and this object"
        if attributes.verb in ("list", "watch"):
            selected = attributes.field_selector.replace("==", "=").split(",")
            if f"spec.nodeName={node}" not in selected:
                known = self._pods.get((attributes.namespace, _name_of(attributes.field_selector)))
                if known is None or known[0] != node:
                    return "can only list/watch pods with spec.nodeName field selector"
        return ""

    def _pod_changed(self, _type: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        known = new or old
        if known is None:
            return
        key = (known["metadata"].get("namespace", ""), known["metadata"]["name"])
        node = ((new or {}).get("spec") or {}).get("nodeName", "")
        before = self._pods.get(key)
        # Mirror pods are made by a node itself: they must not open anything to it.
        mirror = "kubernetes.io/config.mirror" in ((known["metadata"].get("annotations")) or {})
        after = (node, frozenset() if mirror or new is None else references(new)) if node else None
        if before == after:
            return
        if before is not None:
            counts = self._references.get(before[0], {})
            for reference in before[1]:
                counts[reference] -= 1
                if not counts[reference]:
                    del counts[reference]
            del self._pods[key]
        if after is not None:
            self._pods[key] = after
            counts = self._references.setdefault(node, {})
            for reference in after[1]:
                counts[reference] = counts.get(reference, 0) + 1


def _name_of(field_selector: str) -> str:
    match = _ONE_NAME.search(field_selector)
    return match.group(1) if match else ""


def references(pod: dict[str, Any]) -> frozenset[Reference]:
    """Every secret, config map, claim and service account that a pod's specification names."""
    namespace = pod["metadata"].get("namespace", "")
    spec = pod.get("spec") or {}
    found: set[Reference] = set()

    def note(plural: str, name: str | None) -> None:
        if name:
            found.add((plural, namespace, name))

    note("serviceaccounts", spec.get("serviceAccountName"))
    for secret in spec.get("imagePullSecrets") or []:
        note("secrets", secret.get("name"))
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or []:
            for source in container.get("envFrom") or []:
                note("configmaps", (source.get("configMapRef") or {}).get("name"))
                note("secrets", (source.get("secretRef") or {}).get("name"))
            for variable in container.get("env") or []:
                source = variable.get("valueFrom") or {}
                note("configmaps", (source.get("configMapKeyRef") or {}).get("name"))
                note("secrets", (source.get("secretKeyRef") or {}).get("name"))
    for volume in spec.get("volumes") or []:
        note("configmaps", (volume.get("configMap") or {}).get("name"))
        note("secrets", (volume.get("secret") or {}).get("secretName"))
        note("persistentvolumeclaims", (volume.get("persistentVolumeClaim") or {}).get("claimName"))
        if "ephemeral" in volume:
            note("persistentvolumeclaims", f"{pod['metadata']['name']}-{volume.get('name')}")
        for source in (volume.get("projected") or {}).get("sources") or []:
            note("configmaps", (source.get("configMap") or {}).get("name"))
            note("secrets", (source.get("secret") or {}).get("name"))
        for driver in ("csi", "cephfs", "flexVolume", "rbd", "scaleIO", "storageos", "iscsi"):
            held = volume.get(driver) or {}
            note("secrets", (held.get("secretRef") or held.get("nodePublishSecretRef") or {}).get("name"))
    return frozenset(found)

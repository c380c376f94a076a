"""NodeRestriction: what a node agent may write, seen from the objects it writes.

The node authorizer decides by names; this plugin looks inside. A node changes only itself and the status of its own
pods, cannot lift its own taints or give itself labels that steer confidential work to it, creates only mirror pods
of its own, and gets tokens only for pods that run on it.

Source: Kubernetes' admission controller reference, NodeRestriction.
"""

from __future__ import annotations

from typing import Any

from bamikube.api import errors
from bamikube.api.errors import ApiError
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.authz.node import LEASE_NAMESPACE, PODS, node_name, references
from bamikube.apiserver.registry.reader import Reader

MIRROR = "kubernetes.io/config.mirror"
RESTRICTED_PREFIX = "node-restriction.kubernetes.io/"

# Labels under kubernetes.io and k8s.io that a node may set on itself.
OWN_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
    }
)
OWN_LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")

_ACTS = {"eviction": "evict", "status": "update pod status for"}
# What a mirror pod must not refer to, in the words of the refusal.
_REFERENCES = {
    "serviceaccounts": "a service account",
    "secrets": "secrets",
    "configmaps": "configmaps",
    "persistentvolumeclaims": "persistentvolumeclaims",
}
_BOOKKEEPING = frozenset({"managedFields", "resourceVersion"})
_CLAIM_STATUS = frozenset({"allocatedResourceStatuses", "allocatedResources", "capacity", "conditions"})


class NodeRestriction(Plugin):
    name = "NodeRestriction"
    kinds = frozenset(
        {
            PODS,
            ("", "nodes"),
            ("", "persistentvolumeclaims"),
            ("", "serviceaccounts"),
            ("coordination.k8s.io", "leases"),
            ("storage.k8s.io", "csinodes"),
        }
    )

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def validate(self, ctx: AdmissionContext) -> None:
        node = node_name(ctx.user)
        if not node:
            return
        match ctx.resource.key:
            case ("", "pods"):
                self._pods(ctx, node)
            case ("", "nodes"):
                self._nodes(ctx, node)
            case ("", "serviceaccounts") if ctx.subresource == "token":
                self._token(ctx, node)
            case ("", "persistentvolumeclaims"):
                _claim(ctx, node)
            case ("coordination.k8s.io", "leases"):
                if ctx.namespace != LEASE_NAMESPACE:
                    raise _refused(ctx, f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
                _own_name(ctx, node, "node lease")
            case ("storage.k8s.io", "csinodes"):
                _own_name(ctx, node, "CSINode")

    def _pods(self, ctx: AdmissionContext, node: str) -> None:
        act = "delete" if ctx.operation == "DELETE" else _ACTS.get(ctx.subresource)
        if act is not None:
            pod = ctx.old or self._reader.get(PODS, ctx.namespace, ctx.name)
            if pod is not None and _bound(pod) != node:
                raise _refused(ctx, f'node "{node}" can only {act} pods with spec.nodeName set to itself')
            if ctx.subresource == "status" and ctx.object is not None and pod is not None:
                _status(ctx, node, ctx.object, pod)
            return
        if ctx.operation == "CREATE" and not ctx.subresource and ctx.object is not None:
            self._mirror(ctx, node, ctx.object)

    def _mirror(self, ctx: AdmissionContext, node: str, pod: dict[str, Any]) -> None:
        """A pod that only shows what the node runs by itself."""
        if MIRROR not in (pod["metadata"].get("annotations") or {}):
            raise _refused(
                ctx, f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods'
            )
        if _bound(pod) != node:
            raise _refused(ctx, f'node "{node}" can only create pods with spec.nodeName set to itself')
        owners = pod["metadata"].get("ownerReferences") or []
        if len(owners) > 1:
            raise _refused(
                ctx, f'node "{node}" can only create pods with a single owner reference set to itself'
            )
        owner = owners[0] if owners else {}
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            raise _refused(ctx, f'node "{node}" can only create pods with an owner reference set to itself')
        if not owner.get("controller"):
            why = f'node "{node}" can only create pods with a controller owner reference set to itself'
            raise _refused(ctx, why)
        if owner.get("blockOwnerDeletion"):
            raise _refused(ctx, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
        uid = ((self._reader.get(("", "nodes"), "", node) or {}).get("metadata") or {}).get("uid", "")
        if owner.get("uid") != uid:
            raise _refused(ctx, f"node {node} UID mismatch: expected {owner.get('uid', '')} got {uid}")
        for kind, name in _REFERENCES.items():
            if any(reference[0] == kind for reference in references(pod)):
                raise _refused(ctx, f'node "{node}" can not create pods that reference {name}')

    def _nodes(self, ctx: AdmissionContext, node: str) -> None:
        name = ctx.name or _name(ctx.object)
        if name != node:
            raise _refused(ctx, f'node "{node}" is not allowed to modify node "{name}"')
        if ctx.object is None or ctx.operation not in ("CREATE", "UPDATE"):
            return
        old = ctx.old or {}
        wrong = ", ".join(sorted(one for one in _changed_labels(ctx.object, old) if not own_label(one)))
        if ctx.operation == "CREATE":
            if wrong:
                raise _refused(ctx, f'node "{node}" is not allowed to set the following labels: {wrong}')
            return
        if _taints(ctx.object) != _taints(old):
            raise _refused(ctx, f'node "{node}" is not allowed to modify taints')
        owners = (old.get("metadata") or {}).get("ownerReferences")
        if ctx.object["metadata"].get("ownerReferences") != owners:
            raise _refused(ctx, f'node "{node}" is not allowed to modify ownerReferences')
        if wrong:
            raise _refused(ctx, f"is not allowed to modify labels: {wrong}")

    def _token(self, ctx: AdmissionContext, node: str) -> None:
        spec = (ctx.object or {}).get("spec") or {}
        bound = spec.get("boundObjectRef") or {}
        if bound.get("kind") != "Pod" or bound.get("apiVersion") != "v1" or not bound.get("name"):
            raise _refused(ctx, "node requested token not bound to a pod")
        if not bound.get("uid"):
            raise _refused(ctx, "node requested token with a pod binding without a uid")
        pod = self._reader.get(PODS, ctx.namespace, bound["name"])
        if pod is None:
            raise errors.not_found("pods", bound["name"])
        if pod["metadata"].get("uid") != bound["uid"]:
            raise _refused(
                ctx,
                f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated",
            )
        if _bound(pod) != node:
            raise _refused(ctx, "node requested token bound to a pod scheduled on a different node")


def _own_name(ctx: AdmissionContext, node: str, what: str) -> None:
    if (ctx.name or _name(ctx.object)) != node:
        raise _refused(ctx, f"can only access {what} with the same name as the requesting node")


def _status(ctx: AdmissionContext, node: str, new: dict[str, Any], old: dict[str, Any]) -> None:
    if (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        raise _refused(ctx, f'node "{node}" cannot update labels through pod status')
    claims = [(pod.get("status") or {}).get("resourceClaimStatuses") or [] for pod in (new, old)]
    if claims[0] != claims[1]:
        raise _refused(ctx, f'node "{node}" cannot update resource claim statues')


def _claim(ctx: AdmissionContext, node: str) -> None:
    """Of a claim a node tells how large it has become, and nothing else."""
    if ctx.subresource != "status" or ctx.object is None or ctx.old is None:
        return
    kept = []
    for claim in (ctx.object, ctx.old):
        metadata = {name: value for name, value in claim["metadata"].items() if name not in _BOOKKEEPING}
        status = {
            name: value for name, value in (claim.get("status") or {}).items() if name not in _CLAIM_STATUS
        }
        kept.append((metadata, claim.get("spec"), status))
    if kept[0] != kept[1]:
        why = (
            f'node "{node}" is not allowed to update fields other than status.capacity and status.conditions'
        )
        raise _refused(ctx, why)


def _taints(node: dict[str, Any]) -> list[Any]:
    return (node.get("spec") or {}).get("taints") or []


def own_label(label: str) -> bool:
    """Whether a node may set this label on itself."""
    prefix, slash, _ = label.partition("/")
    if not slash:
        return True
    if label.startswith(RESTRICTED_PREFIX) or prefix.endswith(".node-restriction.kubernetes.io"):
        return False
    if not any(prefix == domain or prefix.endswith(f".{domain}") for domain in ("kubernetes.io", "k8s.io")):
        return True
    return label in OWN_LABELS or any(
        prefix == domain or prefix.endswith(f".{domain}") for domain in OWN_LABEL_DOMAINS
    )


def _changed_labels(new: dict[str, Any], old: dict[str, Any]) -> set[str]:
    after = new["metadata"].get("labels") or {}
    before = (old.get("metadata") or {}).get("labels") or {}
    return {label for label in {*after, *before} if after.get(label) != before.get(label)}


def _bound(pod: dict[str, Any]) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def _name(obj: dict[str, Any] | None) -> str:
    return str(((obj or {}).get("metadata") or {}).get("name") or "")


def _refused(ctx: AdmissionContext, why: str) -> ApiError:
    return errors.forbidden(ctx.resource.plural, ctx.name or _name(ctx.object), why, ctx.resource.group)

"""NodeRestriction: what a node agent may write, seen from the objects it writes.

The node authorizer decides by names; this plugin looks inside. A node changes only itself and the status of its own
pods, cannot lift its own taints or give itself labels that steer confidential work to it, creates only mirror pods
of its own, asks for certificates only in its own name, and gets tokens only for pods that run on it (for which
audiences: :mod:`.node_audiences`).

It judges before webhooks and policies have changed the object: what they add is not the node's doing.

Source: Kubernetes' admission controller reference, NodeRestriction.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from bamikube.api import errors, node_labels
from bamikube.api.errors import ApiError
from bamikube.api.predicates.references import references
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.node_audiences import NodeAudiences
from bamikube.apiserver.authz.authorizer import Authorizer
from bamikube.apiserver.authz.node import LEASE_NAMESPACE, PREFIX, node_name
from bamikube.apiserver.authz.node_graph import MIRROR, PODS
from bamikube.apiserver.registry.reader import Reader

Object = dict[str, Any]

NODES = ("", "nodes")

# What a mirror pod must not refer to, in the order and the words of the refusal.
_REFERENCES = {
    "serviceaccounts": "a service account",
    "secrets": "secrets",
    "configmaps": "configmaps",
    "clustertrustbundles": "clustertrustbundles",
    "persistentvolumeclaims": "persistentvolumeclaims",
    "resourceclaims": "resourceclaims",
}
_KUBELET_SIGNERS = ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet")
_BOOKKEEPING = frozenset({"managedFields", "resourceVersion"})
_CLAIM_STATUS = frozenset({"allocatedResourceStatuses", "allocatedResources", "capacity", "conditions"})


class NodeRestriction(Plugin):
    name = "NodeRestriction"
    operations = frozenset({"CREATE", "UPDATE", "DELETE"})
    kinds = frozenset(
        {
            PODS,
            NODES,
            ("", "persistentvolumeclaims"),
            ("", "serviceaccounts"),
            ("certificates.k8s.io", "certificatesigningrequests"),
            ("coordination.k8s.io", "leases"),
            ("resource.k8s.io", "resourceslices"),
            ("storage.k8s.io", "csinodes"),
        }
    )

    def __init__(self, reader: Reader, authorizer: Authorizer) -> None:
        self._reader = reader
        self._audiences = NodeAudiences(reader, authorizer)

    async def mutate(self, ctx: AdmissionContext) -> None:
        """Changes nothing."""
        node = node_name(ctx.user)
        if node is None:
            return
        if not node:
            raise _refused(ctx, f"could not determine node from user {_quoted(ctx.user.name)}")
        match ctx.resource.key:
            case ("", "pods"):
                await self._pods(ctx, node)
            case ("", "nodes"):
                _node(ctx, node)
            case ("", "serviceaccounts"):
                if ctx.subresource == "token" and ctx.operation == "CREATE":
                    await self._token(ctx, node)
            case ("", "persistentvolumeclaims"):
                _claim(ctx, node)
            case ("certificates.k8s.io", _):
                _request(ctx, node)
            case ("coordination.k8s.io", _):
                if ctx.namespace != LEASE_NAMESPACE:
                    raise _refused(ctx, f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
                _own_name(ctx, node, "node lease")
            case ("storage.k8s.io", _):
                _own_name(ctx, node, "CSINode")
            case ("resource.k8s.io", _):
                _slice(ctx, node)

    async def _pods(self, ctx: AdmissionContext, node: str) -> None:
        match ctx.subresource, ctx.operation:
            case "", "CREATE":
                await self._mirror(ctx, node, ctx.object or {})
            case "", "DELETE":
                if _bound(await self._found(ctx, PODS, ctx.namespace, ctx.name)) != node:
                    raise _refused(
                        ctx, f'node "{node}" can only delete pods with spec.nodeName set to itself'
                    )
            case "", operation:
                why = f'unexpected operation "{operation}", node "{node}" can only create and delete mirror pods'
                raise _refused(ctx, why)
            case "status", "UPDATE":
                _status(ctx, node, ctx.object or {}, ctx.old or {})
            case "eviction", "CREATE":
                if _bound(await self._found(ctx, PODS, ctx.namespace, ctx.name)) != node:
                    raise _refused(ctx, f"node {node} can only evict pods with spec.nodeName set to itself")
            case (("status" | "eviction"), operation):
                raise _refused(ctx, f'unexpected operation "{operation}"')
            case subresource, _:
                why = (
                    f"unexpected pod subresource \"{subresource}\", only 'status' and 'eviction' are allowed"
                )
                raise _refused(ctx, why)

    async def _found(self, ctx: AdmissionContext, key: tuple[str, str], namespace: str, name: str) -> Object:
        """The object, which another API server may have just written. Raises 404."""
        found = self._reader.get(key, namespace, name)
        if found is None and await self._reader.consistent():
            found = self._reader.get(key, namespace, name)
        if found is None:
            raise errors.not_found(key[1], name)
        return found

    async def _mirror(self, ctx: AdmissionContext, node: str, pod: Object) -> None:
        """A pod that only shows what the node runs by itself."""
        metadata = pod.get("metadata") or {}
        if MIRROR not in (metadata.get("annotations") or {}):
            raise _refused(
                ctx, f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods'
            )
        can_only = f'node "{node}" can only create pods with'
        if _bound(pod) != node:
            raise _refused(ctx, f"{can_only} spec.nodeName set to itself")
        owners = metadata.get("ownerReferences") or []
        if len(owners) > 1:
            raise _refused(ctx, f"{can_only} a single owner reference set to itself")
        owner = owners[0] if owners else {}
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            raise _refused(ctx, f"{can_only} an owner reference set to itself")
        if not owner.get("controller"):
            raise _refused(ctx, f"{can_only} a controller owner reference set to itself")
        if owner.get("blockOwnerDeletion"):
            raise _refused(ctx, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
        uid = (await self._found(ctx, NODES, "", node))["metadata"].get("uid", "")
        if owner.get("uid") != uid:
            raise _refused(ctx, f"node {node} UID mismatch: expected {owner.get('uid', '')} got {uid}")
        referred = {reference[0] for reference in references(pod)} | _further(pod)
        for kind, name in _REFERENCES.items():
            if kind in referred:
                raise _refused(ctx, f'node "{node}" can not create pods that reference {name}')

    async def _token(self, ctx: AdmissionContext, node: str) -> None:
        spec = (ctx.object or {}).get("spec") or {}
        bound = spec.get("boundObjectRef") or {}
        if bound.get("kind") != "Pod" or bound.get("apiVersion") != "v1" or not bound.get("name"):
            raise _refused(ctx, "node requested token not bound to a pod")
        if not bound.get("uid"):
            raise _refused(ctx, "node requested token with a pod binding without a uid")
        pod = await self._found(ctx, PODS, ctx.namespace, bound["name"])
        if pod["metadata"].get("uid") != bound["uid"]:
            raise _refused(
                ctx,
                f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated",
            )
        if _bound(pod) != node:
            raise _refused(ctx, "node requested token bound to a pod scheduled on a different node")
        if problem := self._audiences.problem(ctx, pod, spec.get("audiences") or []):
            raise _refused(ctx, problem)


def _node(ctx: AdmissionContext, node: str) -> None:
    name = ctx.name or _name(ctx.object)
    if name != node:
        raise _refused(ctx, f'node "{node}" is not allowed to modify node "{name}"')
    if ctx.object is None or ctx.operation not in ("CREATE", "UPDATE"):
        return
    old = ctx.old or {}
    source = (ctx.object.get("spec") or {}).get("configSource")
    wrong = ", ".join(sorted(one for one in _changed_labels(ctx.object, old) if not node_labels.own(one)))
    if ctx.operation == "CREATE":
        if source is not None:
            raise _refused(ctx, f'node "{node}" is not allowed to create pods with a non-nil configSource')
        if wrong:
            raise _refused(ctx, f'node "{node}" is not allowed to set the following labels: {wrong}')
        return
    if source is not None and source != (old.get("spec") or {}).get("configSource"):
        why = f'node "{node}" is not allowed to update configSource to a new non-nil configSource'
        raise _refused(ctx, why)
    if _taints(ctx.object) != _taints(old):
        raise _refused(ctx, f'node "{node}" is not allowed to modify taints')
    if _owners(ctx.object) != _owners(old):
        raise _refused(ctx, f'node "{node}" is not allowed to modify ownerReferences')
    if wrong:
        raise _refused(ctx, f"is not allowed to modify labels: {wrong}")


def _own_name(ctx: AdmissionContext, node: str, what: str) -> None:
    name = _name(ctx.object) if ctx.operation == "CREATE" else ctx.name
    if name != node:
        raise _refused(ctx, f"can only access {what} with the same name as the requesting node")


def _slice(ctx: AdmissionContext, node: str) -> None:
    """Changes of slices, and the deletion of a selection of them, are the node authorizer's to judge."""
    if ctx.operation == "UPDATE" or (ctx.operation == "DELETE" and ctx.old is None):
        return
    of = ctx.object if ctx.operation == "CREATE" else ctx.old
    if ((of or {}).get("spec") or {}).get("nodeName") != node:
        act = ctx.operation.lower()
        raise _refused(ctx, f"can only {act} ResourceSlice with the same NodeName as the requesting node")


def _request(ctx: AdmissionContext, node: str) -> None:
    """A node asks for certificates in its own name."""
    spec = (ctx.object or {}).get("spec") or {}
    if ctx.operation != "CREATE" or spec.get("signerName") not in _KUBELET_SIGNERS:
        return
    try:
        subject = x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or "")).subject
    except ValueError as problem:
        raise _refused(ctx, f"unable to parse csr: {problem}") from problem
    names = [str(one.value) for one in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names[-1:] != [f"{PREFIX}{node}"]:
        raise _refused(ctx, f"can only create a node CSR with CN={PREFIX}{node}")


def _status(ctx: AdmissionContext, node: str, new: Object, old: Object) -> None:
    if _bound(old) != node:
        why = f'node "{node}" can only update pod status for pods with spec.nodeName set to itself'
        raise _refused(ctx, why)
    if (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        raise _refused(ctx, f'node "{node}" cannot update labels through pod status')
    claims = [(pod.get("status") or {}).get("resourceClaimStatuses") or [] for pod in (new, old)]
    if claims[0] != claims[1]:
        raise _refused(ctx, f'node "{node}" cannot update resource claim statues')


def _claim(ctx: AdmissionContext, node: str) -> None:
    """Of a claim a node tells how large it has become, and nothing else."""
    if ctx.subresource != "status":
        raise _refused(ctx, "may only update PVC status")
    if ctx.operation != "UPDATE":
        raise _refused(ctx, f'unexpected operation "{ctx.operation}"')
    kept = []
    for claim in (ctx.object or {}, ctx.old or {}):
        metadata = {
            name: value for name, value in (claim.get("metadata") or {}).items() if name not in _BOOKKEEPING
        }
        status = {
            name: value for name, value in (claim.get("status") or {}).items() if name not in _CLAIM_STATUS
        }
        kept.append((metadata, claim.get("spec"), status))
    if kept[0] != kept[1]:
        why = (
            f'node "{node}" is not allowed to update fields other than status.capacity and status.conditions'
        )
        raise _refused(ctx, why)


def _further(pod: Object) -> set[str]:
    """Kinds that a pod refers to and that open nothing to a node."""
    spec = pod.get("spec") or {}
    found = {"resourceclaims"} if spec.get("resourceClaims") else set()
    for volume in spec.get("volumes") or []:
        for source in (volume.get("projected") or {}).get("sources") or []:
            if "clusterTrustBundle" in source:
                found.add("clustertrustbundles")
    return found


def _taints(node: Object) -> list[Any]:
    return (node.get("spec") or {}).get("taints") or []


def _owners(node: Object) -> list[Any]:
    return (node.get("metadata") or {}).get("ownerReferences") or []


def _changed_labels(new: Object, old: Object) -> set[str]:
    after = new["metadata"].get("labels") or {}
    before = (old.get("metadata") or {}).get("labels") or {}
    return {label for label in {*after, *before} if after.get(label) != before.get(label)}


def _bound(pod: Object) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def _name(obj: Object | None) -> str:
    return str(((obj or {}).get("metadata") or {}).get("name") or "")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _refused(ctx: AdmissionContext, why: str) -> ApiError:
    return errors.forbidden(ctx.resource.plural, ctx.name or _name(ctx.object), why, ctx.resource.group)

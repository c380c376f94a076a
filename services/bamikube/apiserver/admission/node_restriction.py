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


class NodeRestriction(Plugin):
    name = "NodeRestriction"
    kinds = frozenset(
        {
            PODS,
            ("", "nodes"),
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
            case ("coordination.k8s.io", "leases"):
                name = ctx.name or _name(ctx.object)
                if ctx.namespace != LEASE_NAMESPACE or name != node:
                    raise _refused(
                        ctx, f"can only access node lease with the same name as the requesting node '{node}'"
                    )
            case ("storage.k8s.io", "csinodes"):
                if (ctx.name or _name(ctx.object)) != node:
                    raise _refused(
                        ctx, f"can only access CSINode with the same name as the requesting node '{node}'"
                    )

    def _pods(self, ctx: AdmissionContext, node: str) -> None:
        if ctx.operation == "DELETE" or ctx.subresource in ("eviction", "status"):
            pod = ctx.old or self._reader.get(PODS, ctx.namespace, ctx.name)
            if pod is not None and _bound(pod) != node:
                raise _refused(ctx, f"node '{node}' can only act on pods with spec.nodeName set to itself")
            if ctx.subresource == "status" and ctx.object is not None and pod is not None:
                before = pod["metadata"].get("labels") or {}
                if (ctx.object["metadata"].get("labels") or {}) != before:
                    raise _refused(ctx, f"node '{node}' cannot update labels through pod status")
            return
        if ctx.operation != "CREATE" or ctx.subresource or ctx.object is None:
            return
        if MIRROR not in (ctx.object["metadata"].get("annotations") or {}):
            raise _refused(
                ctx, f"pod does not have \"{MIRROR}\" annotation, node '{node}' can only create mirror pods"
            )
        if _bound(ctx.object) != node:
            raise _refused(ctx, f"node '{node}' can only create pods with spec.nodeName set to itself")
        owners = ctx.object["metadata"].get("ownerReferences") or []
        if owners and (len(owners) > 1 or owners[0].get("kind") != "Node" or owners[0].get("name") != node):
            raise _refused(ctx, f"node '{node}' can only create pods owned by itself")
        if references(ctx.object):
            kinds = sorted({reference[0] for reference in references(ctx.object)})
            raise _refused(ctx, f"node '{node}' can not create pods that reference {', '.join(kinds)}")

    def _nodes(self, ctx: AdmissionContext, node: str) -> None:
        name = ctx.name or _name(ctx.object)
        if name != node:
            raise _refused(ctx, f"node '{node}' is not allowed to modify node '{name}'")
        if ctx.object is None or ctx.operation not in ("CREATE", "UPDATE"):
            return
        old = ctx.old or {}
        if ctx.operation == "UPDATE":
            if ((ctx.object.get("spec") or {}).get("taints") or []) != (
                (old.get("spec") or {}).get("taints") or []
            ):
                raise _refused(ctx, f"node '{node}' is not allowed to modify taints")
            if ctx.object["metadata"].get("ownerReferences") != (old.get("metadata") or {}).get(
                "ownerReferences"
            ):
                raise _refused(ctx, f"node '{node}' is not allowed to modify ownerReferences")
        changed = _changed_labels(ctx.object, old)
        if wrong := sorted(label for label in changed if not own_label(label)):
            raise _refused(ctx, f"is not allowed to modify labels: {', '.join(wrong)}")

    def _token(self, ctx: AdmissionContext, node: str) -> None:
        spec = (ctx.object or {}).get("spec") or {}
        bound = spec.get("boundObjectRef") or {}
        if bound.get("kind") != "Pod" or bound.get("apiVersion") not in ("v1", None, ""):
            raise _refused(ctx, f"node requested token not bound to a pod: node '{node}'")
        if not bound.get("uid"):
            raise _refused(ctx, "node requested token with a pod binding without a uid")
        pod = self._reader.get(PODS, ctx.namespace, bound.get("name", ""))
        if pod is None or pod["metadata"].get("uid") != bound["uid"]:
            raise _refused(ctx, f"the pod {bound.get('name')} with uid {bound['uid']} does not exist")
        if _bound(pod) != node:
            raise _refused(ctx, "node requested token bound to a pod scheduled on a different node")


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

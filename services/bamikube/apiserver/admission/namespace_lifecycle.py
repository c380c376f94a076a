"""NamespaceLifecycle: nothing is created in a namespace that does not exist or is on its way out.

Also, the namespaces a cluster cannot live without cannot be deleted.

Source: Kubernetes' admission controller reference, NamespaceLifecycle.
"""

from __future__ import annotations

from bamikube.api import errors
from bamikube.api.errors import ApiError
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.registry.reader import Reader

NAMESPACES = ("", "namespaces")
IMMORTAL = frozenset({"default", "kube-system", "kube-public"})

# Access reviews ask about a namespace; they put nothing into it.
_HARMLESS = frozenset({("authorization.k8s.io", "localsubjectaccessreviews")})


class NamespaceLifecycle(Plugin):
    name = "NamespaceLifecycle"
    operations = frozenset({"CREATE", "DELETE"})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def mutate(self, ctx: AdmissionContext) -> None:
        """In the first step, so that the missing namespace is what the client hears of, not what follows from it."""
        if ctx.operation == "DELETE" and ctx.resource.key == NAMESPACES and ctx.name in IMMORTAL:
            raise errors.forbidden("namespaces", ctx.name, "this namespace may not be deleted")
        # What is created by a subresource (a binding, an eviction, a token) counts as content, as in Kubernetes: kubectl
        # drain knows by this refusal that the pod is going anyway.
        if not ctx.namespace or ctx.operation != "CREATE" or ctx.resource.key in _HARMLESS:
            return
        namespace = self._reader.get(NAMESPACES, "", ctx.namespace)
        if namespace is None:
            # Perhaps another API server has just made it and our cache is about to hear.
            await self._reader.consistent()
            namespace = self._reader.get(NAMESPACES, "", ctx.namespace)
        if namespace is None:
            raise errors.not_found("namespaces", ctx.namespace)
        phase = (namespace.get("status") or {}).get("phase")
        if phase == "Terminating" or namespace["metadata"].get("deletionTimestamp"):
            raise _terminating(ctx)


def _terminating(ctx: AdmissionContext) -> ApiError:
    error = errors.forbidden(
        ctx.resource.plural,
        ctx.name,
        f"unable to create new content in namespace {ctx.namespace} because it is being terminated",
        ctx.resource.group,
    )
    causes = [
        {
            "reason": "NamespaceTerminating",
            "message": f"namespace {ctx.namespace} is being terminated",
            "field": "metadata.namespace",
        }
    ]
    error.details = (error.details or {}) | {"causes": causes}
    return error

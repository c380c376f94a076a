"""For which audiences a node may ask for a pod's tokens (ServiceAccountNodeAudienceRestriction).

A token for another audience is good elsewhere: at a cloud, at a vault. A node that was taken over must not get any
that its pods do not ask for themselves. Those are the audiences of

- the pod's projected volumes,
- the CSI drivers behind its volumes, as they are named in ``tokenRequests`` of the CSIDriver,
- and what RBAC allows: the verb ``request-serviceaccounts-token-audience`` on a "resource" that is the audience, with
  the name of the service account.

Source: KEP-4412 (service account tokens for the kubelet's credential providers), the CSIDriver API.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bamikube.api.predicates.references import claim_of
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authz.authorizer import Authorizer
from bamikube.apiserver.registry.reader import Reader

Object = dict[str, Any]

VERB = "request-serviceaccounts-token-audience"
CLAIMS = ("", "persistentvolumeclaims")
VOLUMES = ("", "persistentvolumes")
DRIVERS = ("storage.k8s.io", "csidrivers")


class _Missing(LookupError):
    """Something on the way to a driver is not there."""


class NodeAudiences:
    def __init__(self, reader: Reader, authorizer: Authorizer) -> None:
        self._reader = reader
        self._authorizer = authorizer

    def problem(self, ctx: AdmissionContext, pod: Object, audiences: Sequence[str]) -> str:
        """Why the node that asks gets no token of ``pod`` for ``audiences``; "" when it does."""
        if len(audiences) > 1:
            return "node may only request 0 or 1 audiences"
        audience = audiences[0] if audiences else ""
        missing: list[str] = []
        if audience in self._of_pod(pod, missing):
            return ""
        asked = Attributes(
            ctx.user, VERB, version="v1", resource=audience, namespace=ctx.namespace, name=ctx.name
        )
        if self._authorizer.authorize(asked).allowed:
            return ""
        if missing:
            said = missing[0] if len(missing) == 1 else f"[{', '.join(missing)}]"
            return f'error validating audience "{audience}": {said}'
        return (
            f'audience "{audience}" not found in pod spec volume, '
            f"{ctx.user.name} is not authorized to request tokens for this audience"
        )

    def _of_pod(self, pod: Object, missing: list[str]) -> Iterable[str]:
        """The audiences that a pod's volumes name. What stands in the way of further ones goes to ``missing``."""
        for volume in (pod.get("spec") or {}).get("volumes") or []:
            for source in (volume.get("projected") or {}).get("sources") or []:
                if "serviceAccountToken" in source:
                    yield (source["serviceAccountToken"] or {}).get("audience") or ""
            try:
                driver = self._driver(pod, volume)
                if driver:
                    found = self._object(DRIVERS, "", driver, "csidriver.storage.k8s.io")
                    for request in (found.get("spec") or {}).get("tokenRequests") or []:
                        yield request.get("audience") or ""
            except _Missing as problem:
                missing.append(str(problem))

    def _driver(self, pod: Object, volume: Object) -> str:
        """The CSI driver behind a volume, "" when there is none."""
        claim = claim_of(pod, volume)
        if not claim:
            return str((volume.get("csi") or {}).get("driver") or "")
        held = self._object(CLAIMS, pod["metadata"]["namespace"], claim, "persistentvolumeclaim")
        name = (held.get("spec") or {}).get("volumeName")
        if not name:
            return ""
        bound = self._object(VOLUMES, "", name, "persistentvolume")
        return str(((bound.get("spec") or {}).get("csi") or {}).get("driver") or "")

    def _object(self, key: tuple[str, str], namespace: str, name: str, kind: str) -> Object:
        found = self._reader.get(key, namespace, name)
        if found is None:
            raise _Missing(f'{kind} "{name}" not found')
        return found

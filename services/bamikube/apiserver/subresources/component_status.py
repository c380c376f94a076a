"""ComponentStatus: a kind from Kubernetes' first days, still asked for by ``kubectl get cs``.

What the API server can say for itself is that the store answers; the controllers and the scheduler have leases that
say whether they live.
"""

from __future__ import annotations

import orjson

from bamikube.api import errors
from bamikube.apiserver.call import Call
from bamikube.apiserver.negotiation import Shape
from bamikube.apiserver.subresources.rewriting import Object
from bamikube.kit.clock import parse_rfc3339
from bamikube.kit.http import Answer
from bamikube.store.port import StoreError

LEASES = ("coordination.k8s.io", "leases")
_BY_LEASE = {"controller-manager": "kube-controller-manager", "scheduler": "kube-scheduler"}


async def component_status(call: Call) -> Answer:
    """GET of one or of all."""
    shape = Shape.of(call.request, call.resource, call.world.clock.now)
    found = [await _store(call), *(_leader(call, name, lease) for name, lease in _BY_LEASE.items())]
    if call.verb == "list":
        return shape.list([orjson.dumps(one) for one in found], {})
    for one in found:
        if one["metadata"]["name"] == call.name:
            return shape.object(orjson.dumps(one))
    raise errors.not_found("componentstatuses", call.name)


async def _store(call: Call) -> Object:
    try:
        await call.registry.store.revision()
    except StoreError as problem:
        return _status("etcd-0", False, str(problem))
    return _status("etcd-0", True, "ok")


def _leader(call: Call, name: str, lease: str) -> Object:
    found = call.services.reader.get(LEASES, "kube-system", lease)
    spec = (found or {}).get("spec") or {}
    renewed, seconds = spec.get("renewTime"), int(spec.get("leaseDurationSeconds") or 15)
    if not renewed:
        return _status(name, False, "no leader")
    healthy = call.world.clock.now() < parse_rfc3339(renewed) + seconds
    return _status(
        name, healthy, "ok" if healthy else f"{spec.get('holderIdentity', '')} stopped renewing at {renewed}"
    )


def _status(name: str, healthy: bool, message: str) -> Object:
    condition = {"type": "Healthy", "status": "True" if healthy else "False", "message": message}
    return {
        "kind": "ComponentStatus",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "conditions": [condition],
    }

"""What a Deployment's ReplicaSets say of themselves: which revision and size they have, which one carries the template
now, and how a new one is made.

Shared by the plan (:mod:`bamikube.controllers.deployment`) and the status
(:mod:`bamikube.controllers.deployment_status`). Annotation names are Kubernetes' own, since ``kubectl rollout`` reads
them.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

Object = dict[str, Any]

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Object, collisions: int) -> str:
    """A short name for a pod template, stable over time; ``collisions`` makes another one."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":")) + (
        f"#{collisions}" if collisions else ""
    )
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    letters = []
    for _ in range(10):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


def bare_template(template: Object) -> Object:
    """The template without the hash label: what two revisions are compared by."""
    meta = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH_LABEL}
    meta.pop("creationTimestamp", None)
    if labels:
        meta["labels"] = labels
    else:
        meta.pop("labels", None)
    return {"metadata": meta, "spec": template.get("spec") or {}}


def share(value: Any, total: int, *, up: bool) -> int:
    """An int-or-percent of ``total``."""
    if isinstance(value, str) and value.endswith("%"):
        part = total * int(value[:-1]) / 100
        return math.ceil(part - 1e-9) if up else math.floor(part + 1e-9)
    return int(value)


def limits(deployment: Object) -> tuple[int, int]:
    """``(maxSurge, maxUnavailable)`` in pods. Both zero would never move: then one may be unavailable.

    Recreate has neither: while it replaces its pods, the Deployment is not available, and says so.
    """
    spec = deployment["spec"]
    if recreates(deployment):
        return 0, 0
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    total = int(spec.get("replicas", 1))
    surge = share(rolling.get("maxSurge", "25%"), total, up=True)
    unavailable = share(rolling.get("maxUnavailable", "25%"), total, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, total)


def recreates(deployment: Object) -> bool:
    return (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"


def revision_of(obj: Object) -> int:
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def size(rs: Object) -> int:
    return int(rs["spec"].get("replicas", 1))


def counted(rs: Object, name: str) -> int:
    return int((rs.get("status") or {}).get(name) or 0)


def find_new(deployment: Object, sets: list[Object]) -> Object | None:
    """The ReplicaSet that has the Deployment's template now; the oldest if several do."""
    wanted = bare_template(deployment["spec"]["template"])
    matching = [rs for rs in sets if bare_template(rs["spec"]["template"]) == wanted]
    return min(
        matching,
        key=lambda rs: (rs["metadata"].get("creationTimestamp", ""), rs["metadata"]["name"]),
        default=None,
    )


def new_replica_set(deployment: Object, hash_: str, replicas: int, annotations: dict[str, str]) -> Object:
    """The ReplicaSet for the Deployment's template."""
    spec = deployment["spec"]
    template = json.loads(json.dumps(spec["template"]))
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    labels[HASH_LABEL] = hash_
    selector = json.loads(json.dumps(spec["selector"]))
    selector.setdefault("matchLabels", {})[HASH_LABEL] = hash_
    meta = deployment["metadata"]
    body: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{hash_}",
            "namespace": meta["namespace"],
            "labels": dict(labels),
            "annotations": annotations,
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {"replicas": replicas, "selector": selector, "template": template},
    }
    if spec.get("minReadySeconds"):
        body["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    return body

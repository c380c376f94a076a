"""Binding: giving a pod its node, once and for all.

``POST .../pods/<name>/binding`` and ``POST .../bindings`` (the scheduler uses the first). A pod has one node for its
whole life, so a second binding is a conflict, whoever sends it.

Source: the API reference, Binding v1.
"""

from __future__ import annotations

from dataclasses import replace

from bamikube.api import errors, table
from bamikube.api.errors import Cause
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.call import Call
from bamikube.apiserver.registry.preconditions import another_object
from bamikube.apiserver.subresources.rewriting import Object, dry, rewrite, success
from bamikube.kit.clock import rfc3339
from bamikube.kit.http import Answer


async def bind(call: Call) -> Answer:
    """Both forms of the endpoint. Answers 201 with a Status."""
    if call.verb != "create":
        raise errors.method_not_allowed()
    body = await call.decode()
    name = call.name or str((body.get("metadata") or {}).get("name") or "")
    if call.services.admission is not None:
        ctx = AdmissionContext(
            "CREATE",
            call.resource,
            call.namespace,
            name,
            call.user,
            body,
            None,
            call.subresource,
            dry(call),
        )
        await call.services.admission.mutate(ctx)
        await call.services.admission.validate(ctx)
        call.warnings[:] = ctx.warnings
    metadata = body.get("metadata") or {}
    if metadata.get("name") and metadata["name"] != name:
        raise errors.bad_request(
            f"name in URL ({name}) does not match name in Binding object ({metadata['name']})"
        )
    if metadata.get("namespace") and metadata["namespace"] != call.namespace:
        raise errors.bad_request("namespace in Binding must match the namespace of the request")
    target = body.get("target") or {}
    node = str(target.get("name") or "")
    causes = []
    if not name:
        causes.append(
            Cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")
        )
    if target.get("kind") not in ("", "Node", None):
        causes.append(
            Cause(
                "FieldValueNotSupported",
                f'Unsupported value: "{target.get("kind")}": supported values: "Node", "<empty>"',
                "target.kind",
            )
        )
    if not node:
        causes.append(Cause("FieldValueRequired", "Required value", "target.name"))
    if causes:
        raise errors.invalid("Binding", name, causes)
    annotations = dict(metadata.get("annotations") or {})
    now = rfc3339(call.world.clock.now())

    def change(pod: Object) -> None:
        assign(pod, node, uid=str(metadata.get("uid") or ""), annotations=annotations, now=now)

    pods = replace(call, resource=table.by_name("pods"), name=name, subresource="binding")
    await rewrite(pods, change, admit=False, dry_run=dry(call))  # it is the binding that was admitted
    return call.answer(success(call), 201)


def assign(pod: Object, node: str, *, uid: str, annotations: dict[str, str], now: str) -> None:
    """Put ``node`` and the condition PodScheduled into ``pod``. Raises ApiError 409 when it may not be."""
    metadata, spec = pod["metadata"], pod.setdefault("spec", {})
    name = metadata["name"]
    if uid and uid != metadata.get("uid"):
        raise another_object(table.by_name("pods"), metadata["namespace"], name, uid, metadata.get("uid", ""))
    if metadata.get("deletionTimestamp"):
        raise errors.conflict(
            "pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host"
        )
    if spec.get("nodeName"):
        raise errors.conflict(
            "pods/binding", name, f'pod {name} is already assigned to node "{spec["nodeName"]}"'
        )
    if spec.get("schedulingGates"):
        raise errors.conflict("pods/binding", name, f"pod {name} has non-empty .spec.schedulingGates")
    spec["nodeName"] = node
    if annotations:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **annotations}
    set_condition(pod, {"type": "PodScheduled", "status": "True"}, now)


def set_condition(obj: Object, condition: Object, now: str) -> None:
    """Set a status condition; its transition time moves only when its status does."""
    conditions = obj.setdefault("status", {}).setdefault("conditions", [])
    for index, known in enumerate(conditions):
        if known.get("type") == condition["type"]:
            moved = known.get("status") != condition["status"]
            since = now if moved else known.get("lastTransitionTime", now)
            conditions[index] = {**condition, "lastTransitionTime": since}
            return
    conditions.append({**condition, "lastTransitionTime": now})

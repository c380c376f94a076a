"""Eviction: a delete that asks the disruption budgets first.

``kubectl drain`` and the autoscalers take pods away through ``POST .../pods/<name>/eviction``. A pod that a
PodDisruptionBudget covers goes only while the budget allows a disruption; taking one out of the budget and deleting the
pod are two writes, in that order, so that two evictions at once never both use the last one.

Worked example: a budget with ``disruptionsAllowed: 1`` covers pods a and b. Evictions of both arrive together. One
writes ``disruptionsAllowed: 0, disruptedPods: {a: now}``; the other's write fails its guard, reads 0, and answers
429, to be tried again later.

Source: Kubernetes' "API-initiated Eviction", KEP-3017 (unhealthyPodEvictionPolicy).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bamikube.api import errors, selectors, table
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.call import Call
from bamikube.apiserver.registry.preconditions import before_deletion
from bamikube.apiserver.subresources.binding import set_condition
from bamikube.apiserver.subresources.rewriting import Object, current, dry, rewrite, success
from bamikube.kit.clock import rfc3339
from bamikube.kit.http import Answer

BUDGETS = ("policy", "poddisruptionbudgets")
_MOST_DISRUPTED = 2000
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."


async def evict(call: Call) -> Answer:
    """Answers 201 with a Status, 429 when a budget stands in the way."""
    if call.verb != "create":
        raise errors.method_not_allowed()
    body = await call.decode()
    metadata = body.get("metadata") or {}
    if metadata.get("name") and metadata["name"] != call.name:
        raise errors.bad_request("name in URL does not match name in Eviction object")
    options = body.get("deleteOptions") or {}
    preconditions = options.get("preconditions") or {}
    dry_run = dry(call) or bool(options.get("dryRun"))
    pod = await current(call)
    before_deletion(
        call.resource,
        pod["metadata"],
        preconditions.get("uid") or "",
        preconditions.get("resourceVersion") or "",
    )
    ctx = AdmissionContext(
        "CREATE", call.resource, call.namespace, call.name, call.user, body, None, "eviction", dry_run
    )
    if call.services.admission is not None:
        await call.services.admission.mutate(ctx)
        await call.services.admission.validate(ctx)
        call.warnings[:] = ctx.warnings
    budget = _budget(call, pod)
    if budget is not None and not _ignores(budget, pod):
        await _spend(call, budget, dry_run)
    if not dry_run:
        await _mark(call)
        grace = options.get("gracePeriodSeconds")
        await call.registry.delete(
            call.resource, call.namespace, call.name, user=call.user, grace=grace, uid=pod["metadata"]["uid"]
        )
    return call.answer(success(call), 201)


def _budget(call: Call, pod: Object) -> Object | None:
    if _needs_no_budget(pod):
        return None
    labels = pod["metadata"].get("labels") or {}
    covering = [
        budget
        for budget in call.services.reader.list(BUDGETS, call.namespace)
        if (selector := (budget.get("spec") or {}).get("selector")) is not None
        and selectors.from_object(selector).matches(labels)
    ]
    if len(covering) > 1:
        raise errors.internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
    return covering[0] if covering else None


def _needs_no_budget(pod: Object) -> bool:
    """Pods that do no work any more, or none yet, disturb nobody when they go."""
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Succeeded", "Failed", "Pending") or bool(pod["metadata"].get("deletionTimestamp"))


def _ready(pod: Object) -> bool:
    return any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in (pod.get("status") or {}).get("conditions") or []
    )


def _ignores(budget: Object, pod: Object) -> bool:
    """Whether the pod is unhealthy in a way that the budget does not count."""
    if _ready(pod):
        return False
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    healthy, desired = int(status.get("currentHealthy") or 0), int(status.get("desiredHealthy") or 0)
    return desired > 0 and healthy >= desired


async def _spend(call: Call, budget: Object, dry_run: bool) -> None:
    now = rfc3339(call.world.clock.now())

    def change(stored: Object) -> None:
        spend(stored, call.name, now)

    target = replace(
        call,
        resource=table.by_name("poddisruptionbudgets.policy"),
        name=budget["metadata"]["name"],
        subresource="status",
    )
    await rewrite(target, change, admit=False, dry_run=dry_run)


def spend(budget: Object, pod: str, now: str) -> None:
    """Take one disruption out of ``budget`` for ``pod``. Raises ApiError 429 or 403 when there is none."""
    name = budget["metadata"]["name"]
    status = budget.setdefault("status", {})
    if int(status.get("observedGeneration") or 0) < int(budget["metadata"].get("generation") or 0):
        raise _too_many(f"The disruption budget {name} is still being processed by the server.", 10)
    allowed = int(status.get("disruptionsAllowed") or 0)
    if allowed < 0:
        raise errors.forbidden(
            "poddisruptionbudgets", name, "pdb disruptions allowed is negative", BUDGETS[0]
        )
    disrupted: dict[str, str] = status.get("disruptedPods") or {}
    if len(disrupted) > _MOST_DISRUPTED:
        raise errors.forbidden(
            "poddisruptionbudgets",
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
            BUDGETS[0],
        )
    if allowed == 0:
        wanted, healthy = int(status.get("desiredHealthy") or 0), int(status.get("currentHealthy") or 0)
        raise _too_many(
            f"The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"
        )
    status["disruptionsAllowed"] = allowed - 1
    status["disruptedPods"] = {**disrupted, pod: now}
    if allowed == 1:
        condition = {
            "type": "DisruptionAllowed",
            "status": "False",
            "reason": "InsufficientPods",
            "message": "",
            "observedGeneration": status.get("observedGeneration", 0),
        }
        set_condition(budget, condition, now)


def _too_many(why: str, retry_after: int = 0) -> errors.ApiError:
    """429. Without ``retry_after`` the client decides when to ask again: the answer is no for now, not "wait"."""
    details: dict[str, Any] = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    if retry_after:
        details["retryAfterSeconds"] = retry_after
    headers = {"Retry-After": str(retry_after)} if retry_after else None
    return errors.ApiError(429, "TooManyRequests", _REFUSED, details, headers)


async def _mark(call: Call) -> None:
    """Leave word in the pod why it went."""
    now = rfc3339(call.world.clock.now())
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }

    def mark(pod: Object) -> None:
        set_condition(
            pod, condition | {"observedGeneration": int(pod["metadata"].get("generation") or 0)}, now
        )

    await rewrite(call, mark, admit=False, subresource="status")

"""Whether a write fits into a quota, and what the quota's status is afterwards.

Worked example: a quota has ``hard: {pods: 10, requests.cpu: 4}`` and ``used: {pods: 9, requests.cpu: 3500m}``. A pod that
requests 1 cpu is refused: ``exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=3500m, limited:
requests.cpu=4``. One that requests 500m is let in and leaves ``used: {pods: 10, requests.cpu: 4}``; one that says nothing
about its cpu is refused because it ``must specify requests.cpu for: c``.

What a quota counts is what its ``status.hard`` says, as in Kubernetes; a quota is *settled* when that equals its
``spec.hard`` and everything in it has been counted.

Source: Kubernetes' "Resource Quotas".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bamikube.api.podresources import Amounts, amounts
from bamikube.api.quantity import ZERO, Quantity
from bamikube.api.quota.scopes import matches
from bamikube.api.quota.usage import CLAIMS, PODS, SERVICES, Key, compute, kind_of, tracks, usage

Object = dict[str, Any]

# A quota on these makes every container say how much of them it wants.
_DEMANDED = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})


@dataclass(frozen=True, slots=True)
class Charge:
    """What a write does to a quota: the new ``status.used``, or why it is refused. Nothing of both: it is no
    concern of this quota."""

    used: dict[str, str] = field(default_factory=dict)
    refused: str = ""


NO_CONCERN = Charge()


def charge(quota: Object, key: Key, old: Object | None, new: Object | None) -> Charge:
    """Judge the write that makes ``new`` of ``old`` (None: not there). Raises QuantityError."""
    name = quota["metadata"]["name"]
    status = quota.get("status") or {}
    tracked = tracks(status.get("hard") or {}, key)
    if not tracked:
        return NO_CONCERN
    before, after = _seen(quota, key, old, tracked), _seen(quota, key, new, tracked)
    judged = new is not None and after is not None and _is_judged(key, old, new)
    if judged and key == PODS and (missing := _unsaid(new or {}, tracked)):
        return Charge(refused=f"failed quota: {name}: must specify {missing}")
    delta = {one: (after or {}).get(one, ZERO).sub((before or {}).get(one, ZERO)) for one in tracked}
    delta = {one: amount for one, amount in delta.items() if amount}
    if not delta:
        return NO_CONCERN
    used, hard = amounts(status.get("used")), amounts(status.get("hard"))
    total = {one: _sum(used.get(one, ZERO), amount) for one, amount in delta.items()}
    if judged:
        exceeded = sorted(one for one in delta if delta[one].sign() > 0 and total[one] > hard[one])
        if exceeded:
            parts = [pretty({one: part.get(one, ZERO) for one in exceeded}) for part in (delta, used, hard)]
            return Charge(
                refused=f"exceeded quota: {name}, requested: {parts[0]}, used: {parts[1]}, limited: {parts[2]}"
            )
    return Charge({**(status.get("used") or {}), **{one: str(amount) for one, amount in total.items()}})


def _sum(used: Quantity, more: Quantity) -> Quantity:
    total = used.add(more)
    return total if total.sign() >= 0 else Quantity(0, total.format)


def _seen(quota: Object, key: Key, obj: Object | None, tracked: Iterable[str]) -> Amounts | None:
    """What the quota counts of an object; None when it does not look at it."""
    if obj is None or not matches(quota.get("spec") or {}, key, obj):
        return None
    used = usage(key, obj)
    return {name: used[name] for name in tracked if name in used}


def _is_judged(key: Key, old: Object | None, new: Object) -> bool:
    """Whether the write can be refused: creations, and what may grow later. Others are counted as they come."""
    if old is None or key in (SERVICES, CLAIMS):
        return True
    return key == PODS and _resources(old) != _resources(new)


def _resources(pod: Object) -> list[Any]:
    spec = pod.get("spec") or {}
    parts = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ()), spec]
    return [part.get("resources") for part in parts]


def _unsaid(pod: Object, tracked: Iterable[str]) -> str:
    """``requests.cpu for: a,b; limits.memory for: a``: what containers have to say and do not."""
    demanded = sorted(name for name in tracked if name in _DEMANDED)
    if not demanded:
        return ""
    spec = pod.get("spec") or {}
    whole = spec.get("resources") or {}
    said_for_all = set(compute(amounts(whole.get("requests")), amounts(whole.get("limits"))))
    missing: dict[str, list[str]] = {}
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        resources = container.get("resources") or {}
        said = compute(amounts(resources.get("requests")), amounts(resources.get("limits")))
        for name in demanded:
            if name not in said and name not in said_for_all:
                missing.setdefault(name, []).append(str(container.get("name", "")))
    return "; ".join(f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing))


def pretty(listed: Mapping[str, Quantity]) -> str:
    """``cpu=1,memory=1Gi``."""
    return ",".join(f"{name}={listed[name]}" for name in sorted(listed))


# --- counting from scratch ------------------------------------------------------------------------------------------


def is_settled(quota: Object) -> bool:
    """Whether the status says what the spec limits, and all of it has been counted."""
    status = quota.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    return amounts((quota.get("spec") or {}).get("hard")) == amounts(hard) and hard.keys() == used.keys()


def counted_kinds(quota: Object) -> list[Key]:
    """The kinds of which the spec limits anything."""
    kinds = {kind_of(name) for name in (quota.get("spec") or {}).get("hard") or {}}
    return sorted(kind for kind in kinds if kind is not None)


def recount(quota: Object, objects: Callable[[Key], Iterable[Object]]) -> dict[str, str]:
    """``status.used`` of a quota, given all objects of the kinds it counts in its namespace. Raises QuantityError."""
    hard = (quota.get("spec") or {}).get("hard") or {}
    namespace = quota["metadata"].get("namespace")
    total: Amounts = dict.fromkeys(hard, ZERO)
    for kind in counted_kinds(quota):
        tracked = tracks(hard, kind)
        for obj in objects(kind):
            if obj["metadata"].get("namespace") != namespace:
                continue  # a kind without namespaces
            for name, amount in (_seen(quota, kind, obj, tracked) or {}).items():
                total[name] = total[name].add(amount)
    return {name: str(amount) for name, amount in total.items()}


def settled(quota: Object, used: Mapping[str, str]) -> Object:
    """The quota with a status of its spec's limits and ``used``."""
    hard = dict((quota.get("spec") or {}).get("hard") or {})
    return {**quota, "status": {"hard": hard, "used": dict(used)}}

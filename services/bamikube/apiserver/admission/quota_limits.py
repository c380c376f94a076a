"""What nobody may use without a quota for it (``limitedResources`` of the ResourceQuota plugin).

A quota limits only who has one. What is dear is limited the other way round: without a quota that covers it, a
namespace gets nothing of it. The file of ``--admission-control-config-file`` names such things::

    apiVersion: apiserver.config.k8s.io/v1
    kind: ResourceQuotaConfiguration
    limitedResources:
    - resource: pods
      matchContains: [nvidia.com/gpu]          # pods that use something with this in its name
    - resource: pods
      matchScopes:                             # pods of this priority class
      - {scopeName: PriorityClass, operator: In, values: [cluster-services]}

Source: Kubernetes' "Resource Quotas", limit consumption by default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bamikube.api import quota
from bamikube.api.quota.scopes import requirements_of, scope_matches
from bamikube.api.quota.usage import Key
from bamikube.apiserver.admission.configuration_file import complaint, items, only, within

Object = dict[str, Any]

_FIELDS = ("apiVersion", "kind", "limitedResources")
_LIMIT = ("apiGroup", "resource", "matchContains", "matchScopes")


@dataclass(frozen=True, slots=True)
class Limited:
    """Objects of ``kind`` that use something with one of ``contains`` in its name, or are of one of ``scopes``."""

    kind: Key
    contains: tuple[str, ...] = ()
    scopes: tuple[Mapping[str, Any], ...] = ()


def limited_of(section: dict[str, Any], where: str) -> tuple[Limited, ...]:
    """The limits of a ResourceQuotaConfiguration. Raises ValueError."""
    only(section, _FIELDS, where)
    found = []
    for index, limit in enumerate(items(section, "limitedResources", where)):
        at = within(where, f"limitedResources[{index}]")
        only(limit, _LIMIT, at)
        if not limit.get("resource"):
            raise complaint(f"{at}.resource", "Required value")
        scopes = items(limit, "matchScopes", at)
        for number, scope in enumerate(scopes):
            only(scope, ("scopeName", "operator", "values"), f"{at}.matchScopes[{number}]")
            if not scope.get("scopeName") or not scope.get("operator"):
                raise complaint(f"{at}.matchScopes[{number}]", "scopeName and operator must be given")
        contains = tuple(map(str, items(limit, "matchContains", at)))
        kind = (str(limit.get("apiGroup") or ""), str(limit["resource"]))
        found.append(Limited(kind, contains, tuple(scopes)))
    return tuple(found)


def uncovered(limits: Sequence[Limited], key: Key, obj: Object, quotas: Iterable[Object]) -> str:
    """Why the object may not be there without a quota for it; "" when it may. Raises QuantityError."""
    mine = [limit for limit in limits if limit.kind == key]
    if not mine:
        return ""
    quotas = list(quotas)
    used = quota.usage(key, obj)
    wanted = {
        name
        for limit in mine
        for name, amount in used.items()
        if amount.sign() > 0 and any(part in name for part in limit.contains)
    }
    for one in quotas:
        if wanted and quota.matches(one.get("spec") or {}, key, obj):
            wanted -= set((one.get("status") or {}).get("hard") or {})
    if wanted:
        return f"insufficient quota to consume: {','.join(sorted(wanted))}"
    scopes = [scope for limit in mine for scope in limit.scopes if scope_matches(scope, key, obj)]
    covered = {
        scope["scopeName"]
        for one in quotas
        for scope in requirements_of(one.get("spec") or {})
        if scope_matches(scope, key, obj)
    }
    missing = [scope for scope in scopes if scope["scopeName"] not in covered]
    if missing:
        return f"insufficient quota to match these scopes: [{' '.join(map(_shown, missing))}]"
    return ""


def _shown(scope: Mapping[str, Any]) -> str:
    return f"{{{scope['scopeName']} {scope['operator']} [{' '.join(scope.get('values') or ())}]}}"

"""Rules of flow schemas and priority levels. Source: the API reference (flowcontrol.apiserver.k8s.io/v1), KEP-1040."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1123_label, is_dns1123_subdomain
from bamikube.api.validation.rules import (
    forbidden,
    invalid,
    named,
    not_negative,
    not_supported,
    required,
)

MOST_PRECEDENCE = 10_000
MOST_QUEUES = 10_000_000
ENTROPY_BITS = 60  # of a hand of queues
ANY = "*"
VERBS = (
    "*",
    "approve",
    "bind",
    "create",
    "delete",
    "deletecollection",
    "escalate",
    "get",
    "impersonate",
    "list",
    "patch",
    "proxy",
    "sign",
    "update",
    "use",
    "watch",
)
_SUBJECTS = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}


def _subject(path: str, subject: dict[str, Any]) -> list[Cause]:
    kind = subject.get("kind") or ""
    if kind not in _SUBJECTS:
        return [not_supported(f"{path}.kind", kind, _SUBJECTS)]
    own = _SUBJECTS[kind]
    causes = [
        forbidden(f"{path}.{name}", f"{name} is forbidden when subject kind is not '{other}'")
        for other, name in _SUBJECTS.items()
        if name != own and subject.get(name) is not None
    ]
    given = subject.get(own)
    if given is None:
        return [*causes, required(f"{path}.{own}", f"{own} is required when subject kind is '{kind}'")]
    name = given.get("name") or ""
    if not name:
        causes.append(required(f"{path}.{own}.name"))
    if kind == "ServiceAccount":
        if name not in ("", ANY):
            causes += [invalid(f"{path}.{own}.name", name, text) for text in is_dns1123_subdomain(name)]
        causes += named(f"{path}.{own}.namespace", given.get("namespace"), is_dns1123_label)
    return causes


def _verbs(path: str, verbs: list[str], *, urls: bool) -> list[Cause]:
    if not verbs:
        return [required(f"{path}.verbs", "verbs must contain at least one value")]
    if ANY in verbs and len(verbs) > 1:
        return [invalid(f"{path}.verbs", verbs, "if '*' is present, must not specify other verbs")]
    known = (*VERBS, "head", "options", "post", "put") if urls else VERBS
    unknown = [verb for verb in verbs if verb not in known]
    return [not_supported(f"{path}.verbs", unknown, known)] if unknown else []


def _alone(path: str, values: list[str], what: str) -> list[Cause]:
    if not values:
        return [required(path, f"resource rules must supply at least one {what}")]
    if ANY in values and len(values) > 1:
        return [invalid(path, values, "if '*' is present, must not specify other " + what.split()[-1] + "s")]
    return []


def _resource_rule(path: str, rule: dict[str, Any]) -> list[Cause]:
    causes = _verbs(path, rule.get("verbs") or [], urls=False)
    causes += _alone(f"{path}.apiGroups", rule.get("apiGroups") or [], "api group")
    causes += _alone(f"{path}.resources", rule.get("resources") or [], "resource")
    namespaces = rule.get("namespaces") or []
    if not namespaces and not rule.get("clusterScope"):
        detail = "resource rules that are not cluster scoped must supply at least one namespace"
        causes.append(required(f"{path}.namespaces", detail))
    elif ANY in namespaces:
        if len(namespaces) > 1:
            detail = "if '*' is present, must not specify other namespaces"
            causes.append(invalid(f"{path}.namespaces", namespaces, detail))
    else:
        for index, name in enumerate(namespaces):
            field = f"{path}.namespaces[{index}]"
            causes += [
                invalid(field, namespaces, f"{message} ({name})") for message in is_dns1123_label(name)
            ]
    return causes


def _url_rule(path: str, rule: dict[str, Any]) -> list[Cause]:
    causes = _verbs(path, rule.get("verbs") or [], urls=True)
    urls = rule.get("nonResourceURLs") or []
    if not urls:
        detail = "nonResourceURLs must contain at least one value"
        return [*causes, required(f"{path}.nonResourceURLs", detail)]
    if ANY in urls:
        if len(urls) > 1:
            detail = "if '*' is present, must not specify other non-resource URLs"
            causes.append(invalid(f"{path}.nonResourceURLs", urls, detail))
        return causes
    for index, url in enumerate(urls):
        field = f"{path}.nonResourceURLs[{index}]"
        if not url.startswith("/"):
            causes.append(invalid(field, url, "must start with slash"))
        elif ANY in url[:-1] or (url.endswith(ANY) and not url.endswith("/*")):
            causes.append(invalid(field, url, "wildcard can only do suffix matching"))
    return causes


def _flow_schema(obj: dict[str, Any]) -> list[Cause]:
    spec, name = obj.get("spec") or {}, (obj.get("metadata") or {}).get("name")
    precedence, level = spec.get("matchingPrecedence", 0), spec.get("priorityLevelConfiguration") or {}
    causes: list[Cause] = []
    if precedence <= 0:
        causes.append(invalid("spec.matchingPrecedence", precedence, "must be a positive value"))
    elif precedence > MOST_PRECEDENCE:
        detail = f"must not be greater than {MOST_PRECEDENCE}"
        causes.append(invalid("spec.matchingPrecedence", precedence, detail))
    elif precedence == 1 and name != "exempt":
        detail = "only the schema named 'exempt' may have matchingPrecedence 1"
        causes.append(invalid("spec.matchingPrecedence", precedence, detail))
    method = (spec.get("distinguisherMethod") or {}).get("type")
    if spec.get("distinguisherMethod") is not None and method not in ("ByNamespace", "ByUser"):
        known = ("ByNamespace", "ByUser")
        causes.append(not_supported("spec.distinguisherMethod", spec["distinguisherMethod"], known))
    field = "spec.priorityLevelConfiguration.name"
    causes += named(field, level.get("name"), is_dns1123_subdomain)
    for index, rule in enumerate(spec.get("rules") or ()):
        path = f"spec.rules[{index}]"
        if not rule.get("subjects"):
            causes.append(required(f"{path}.subjects", "subjects must contain at least one value"))
        for place, subject in enumerate(rule.get("subjects") or ()):
            causes += _subject(f"{path}.subjects[{place}]", subject)
        if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
            detail = "at least one of resourceRules and nonResourceRules has to be non-empty"
            causes.append(required(path, detail))
        for place, each in enumerate(rule.get("resourceRules") or ()):
            causes += _resource_rule(f"{path}.resourceRules[{place}]", each)
        for place, each in enumerate(rule.get("nonResourceRules") or ()):
            causes += _url_rule(f"{path}.nonResourceRules[{place}]", each)
    return causes


def _hand_bits(queues: int, hand: int) -> int:
    """Bits of chance it takes to deal a hand of queues."""
    return math.ceil(math.log2(max(1, math.prod(range(queues - hand + 1, queues + 1)))))


def _queuing(path: str, queuing: dict[str, Any]) -> list[Cause]:
    queues, hand = queuing.get("queues", 0), queuing.get("handSize", 0)
    causes: list[Cause] = []
    if queuing.get("queueLengthLimit", 0) <= 0:
        causes.append(
            invalid(f"{path}.queueLengthLimit", queuing.get("queueLengthLimit", 0), "must be positive")
        )
    if queues <= 0:
        causes.append(invalid(f"{path}.queues", queues, "must be positive"))
    elif queues > MOST_QUEUES:
        detail = f"must not be greater than {MOST_QUEUES}"
        causes.append(invalid(f"{path}.queues", queues, detail))
    if hand <= 0:
        causes.append(invalid(f"{path}.handSize", hand, "must be positive"))
    elif hand > queues:
        detail = f"should not be greater than queues ({queues})"
        causes.append(invalid(f"{path}.handSize", hand, detail))
    elif not causes and (bits := _hand_bits(queues, min(hand, 100))) > ENTROPY_BITS:
        detail = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {bits}"
        causes.append(invalid(f"{path}.handSize", hand, detail))
    return causes


def _share(field: str, value: int | None) -> list[Cause]:
    if value is None or 0 <= value <= 100:
        return []
    return [invalid(field, value, "must be between 0 and 100, inclusive")]


def _limited(path: str, limited: dict[str, Any]) -> list[Cause]:
    causes = not_negative(f"{path}.nominalConcurrencyShares", limited.get("nominalConcurrencyShares"))
    causes += _share(f"{path}.lendablePercent", limited.get("lendablePercent"))
    borrowed = limited.get("borrowingLimitPercent")
    causes += not_negative(f"{path}.borrowingLimitPercent", borrowed)
    response, field = limited.get("limitResponse") or {}, f"{path}.limitResponse"
    kind, queuing = response.get("type") or "", response.get("queuing")
    if kind == "Reject":
        if queuing is not None:
            detail = "must be nil if limited.limitResponse.type is not Limited"
            causes.append(forbidden(f"{field}.queuing", detail))
    elif kind == "Queue":
        if queuing is None:
            causes.append(required(f"{field}.queuing", "must not be empty if limitResponse.type is Limited"))
        else:
            causes += _queuing(f"{field}.queuing", queuing)
    else:
        causes.append(not_supported(f"{field}.type", kind, ("Queue", "Reject")))
    return causes


def _priority_level(obj: dict[str, Any]) -> list[Cause]:
    spec, name = obj.get("spec") or {}, (obj.get("metadata") or {}).get("name")
    kind, limited, exempt = spec.get("type") or "", spec.get("limited"), spec.get("exempt")
    causes: list[Cause] = []
    if (name == "exempt") != (kind == "Exempt") and kind in ("Exempt", "Limited"):
        detail = "must be 'Limited' if `name` is not 'exempt'"
        if name == "exempt":
            detail = "must be 'Exempt' if `name` is 'exempt'"
        causes.append(invalid("spec.type", kind, detail))
    if kind == "Exempt":
        if limited is not None:
            causes.append(forbidden("spec.limited", "must be nil if the type is not Limited"))
        shares = (exempt or {}).get("nominalConcurrencyShares")
        causes += not_negative("spec.exempt.nominalConcurrencyShares", shares)
        causes += _share("spec.exempt.lendablePercent", (exempt or {}).get("lendablePercent"))
    elif kind == "Limited":
        if exempt is not None:
            causes.append(forbidden("spec.exempt", "must be nil if the type is Limited"))
        if limited is None:
            causes.append(required("spec.limited", "must not be empty when type is Limited"))
        else:
            causes += _limited("spec.limited", limited)
    else:
        causes.append(not_supported("spec.type", kind, ("Exempt", "Limited")))
    return causes


_GROUP = "flowcontrol.apiserver.k8s.io"
CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    (_GROUP, "flowschemas"): _flow_schema,
    (_GROUP, "prioritylevelconfigurations"): _priority_level,
}

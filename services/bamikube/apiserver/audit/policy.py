"""The audit policy: how much of a request is recorded.

The first rule that matches decides; a request that no rule matches is not recorded::

    rules:
    - level: None                      # health checks: nothing
      nonResourceURLs: ["/healthz*", "/readyz*"]
    - level: Metadata                  # secrets: who and when, never what
      resources: [{group: "", resources: ["secrets", "configmaps"]}]
    - level: RequestResponse
      verbs: ["create", "update", "patch"]

Pure. Source: the API reference (audit.k8s.io/v1 Policy), ``k8s.io/apiserver/pkg/audit/policy`` (behaviour).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from bamikube.apiserver.attributes import Attributes

API_VERSION = "audit.k8s.io/v1"
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
_FIELDS = frozenset(
    {
        "level",
        "users",
        "userGroups",
        "verbs",
        "resources",
        "namespaces",
        "nonResourceURLs",
        "omitStages",
        "omitManagedFields",
    }
)


class Level(IntEnum):
    """How much is recorded; each includes what those before it have."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    REQUEST_RESPONSE = 3


LEVELS = {
    "None": Level.NONE,
    "Metadata": Level.METADATA,
    "Request": Level.REQUEST,
    "RequestResponse": Level.REQUEST_RESPONSE,
}
NAMES = {level: name for name, level in LEVELS.items()}


@dataclass(frozen=True, slots=True)
class Decision:
    """What is recorded of a request: the level, stages that are left out, and whether managedFields are."""

    level: Level
    omit_stages: frozenset[str] = frozenset()
    omit_managed_fields: bool = False


NOTHING = Decision(Level.NONE)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Empty conditions match everything."""

    decision: Decision
    users: frozenset[str]
    groups: frozenset[str]
    verbs: frozenset[str]
    namespaces: frozenset[str]
    resources: tuple[Mapping[str, Any], ...]
    paths: tuple[str, ...]

    def matches(self, asked: Attributes) -> bool:
        if self.users and asked.user.name not in self.users:
            return False
        if self.groups and self.groups.isdisjoint(asked.user.groups):
            return False
        if self.verbs and asked.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return asked.is_resource and self._about(asked)
        if self.paths:
            return not asked.is_resource and any(_path(path, asked.path) for path in self.paths)
        return True

    def _about(self, asked: Attributes) -> bool:
        if self.namespaces and asked.namespace not in self.namespaces:
            return False
        if not self.resources:
            return True
        return any(_resource(one, asked) for one in self.resources)


def _path(pattern: str, path: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return path == pattern


def _resource(described: Mapping[str, Any], asked: Attributes) -> bool:
    if (described.get("group") or "") != asked.group:
        return False
    wanted = described.get("resources") or ()
    if not wanted:
        return True
    names = described.get("resourceNames") or ()
    if names and asked.name not in names:
        return False
    whole = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    for one in wanted:
        if one in ("*", whole):
            return True
        if asked.subresource and one == f"*/{asked.subresource}":
            return True
        if one.endswith("/*") and one[:-2] == asked.resource:
            return True
    return False


@dataclass(frozen=True, slots=True)
class Policy:
    rules: tuple[Rule, ...]

    def decide(self, asked: Attributes) -> Decision:
        """What is recorded of a request."""
        for rule in self.rules:
            if rule.matches(asked):
                return rule.decision
        return NOTHING


def policy_of(document: Any) -> Policy:
    """A Policy from its parsed file. Raises ValueError that names the field."""
    if not isinstance(document, dict):
        raise ValueError("it holds no object")
    if document.get("apiVersion") != API_VERSION or document.get("kind") != "Policy":
        raise ValueError(f"it must be of apiVersion {API_VERSION} and kind Policy")
    rules = document.get("rules")
    if not rules or not isinstance(rules, list):
        raise ValueError("rules: it needs at least one rule")
    stages = _stages("omitStages", document.get("omitStages"))
    omit = document.get("omitManagedFields") is True
    return Policy(tuple(_rule(f"rules[{index}]", one, stages, omit) for index, one in enumerate(rules)))


def _rule(path: str, rule: Any, stages: frozenset[str], omit: bool) -> Rule:
    if not isinstance(rule, dict):
        raise ValueError(f"{path}: it is no object")
    if unknown := sorted(set(rule) - _FIELDS):
        raise ValueError(f"{path}: unknown field {unknown[0]}")
    level = LEVELS.get(str(rule.get("level")))
    if level is None:
        raise ValueError(f"{path}.level: {rule.get('level')!r} is none of {', '.join(LEVELS)}")
    paths = _texts(f"{path}.nonResourceURLs", rule.get("nonResourceURLs"))
    if paths and (rule.get("resources") or rule.get("namespaces")):
        raise ValueError(f"{path}.nonResourceURLs: a rule is about resources or about URLs, not both")
    for one in paths:
        if one != "*" and (not one.startswith("/") or "*" in one[:-1]):
            raise ValueError(f"{path}.nonResourceURLs: {one!r} must begin with / and may end with one *")
    resources = rule.get("resources") or []
    if not isinstance(resources, list) or not all(isinstance(one, dict) for one in resources):
        raise ValueError(f"{path}.resources: it is no list of objects")
    for one in resources:
        if one.get("resourceNames") and not one.get("resources"):
            raise ValueError(f"{path}.resources: resourceNames need resources")
    own = rule.get("omitManagedFields")
    decision = Decision(
        level,
        stages | _stages(f"{path}.omitStages", rule.get("omitStages")),
        omit if own is None else own is True,
    )
    return Rule(
        decision,
        frozenset(_texts(f"{path}.users", rule.get("users"))),
        frozenset(_texts(f"{path}.userGroups", rule.get("userGroups"))),
        frozenset(_texts(f"{path}.verbs", rule.get("verbs"))),
        frozenset(_texts(f"{path}.namespaces", rule.get("namespaces"))),
        tuple(resources),
        tuple(paths),
    )


def _texts(path: str, value: Any) -> Sequence[str]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{path}: it is no list of text")
    return value


def _stages(path: str, value: Any) -> frozenset[str]:
    found = frozenset(_texts(path, value))
    if unknown := sorted(found - set(STAGES)):
        raise ValueError(f"{path}: {unknown[0]!r} is none of {', '.join(STAGES)}")
    return found

"""Policy rules, compiled for looking up.

A ``PolicyRule`` is a product: every verb times every group times every resource, for any name or for some names.
:class:`RuleSet` multiplies the rules of one user and one scope out into a dictionary once, so that a question is a
handful of dictionary look-ups, and the answer to the same (verb, group, resource, subresource) is kept.

Worked example: the rule ``verbs [get, list], apiGroups [""], resources [pods, "*/scale"]`` becomes four entries,
``("get", "", "pods")``, ``("list", "", "pods")``, ``("get", "", "*/scale")`` and ``("list", "", "*/scale")``. The
question *get replicationcontrollers/scale* looks for ``replicationcontrollers/scale``, then ``*``, then ``*/scale``,
each under ``""`` and ``*``, each under ``get`` and ``*``.

Source: Kubernetes' RBAC reference and ``PolicyRule`` in rbac.authorization.k8s.io/v1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Rule = Mapping[str, Any]

# The names a rule is restricted to; None means any name.
Names = frozenset[str] | None

_MEMO_LIMIT = 4096


class RuleSet:
    """All rules that apply to one user in one scope (the cluster, or one namespace), each with its origin."""

    __slots__ = ("_memo", "_paths", "_resources", "rules")

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._resources: dict[tuple[str, str, str], list[tuple[Names, str]]] = {}
        self._paths: list[tuple[frozenset[str], str, str]] = []
        self._memo: dict[tuple[str, str, str, str], tuple[tuple[Names, str], ...]] = {}

    def add(self, rules: Iterable[Rule], origin: str) -> None:
        """``origin`` says where the rules come from; it becomes the reason of an allowance."""
        for rule in rules:
            self.rules.append(rule)
            verbs = rule.get("verbs") or ()
            names = frozenset(rule.get("resourceNames") or ()) or None
            for verb in verbs:
                for group in rule.get("apiGroups") or ():
                    for resource in rule.get("resources") or ():
                        self._resources.setdefault((verb, group, resource), []).append((names, origin))
            for path in rule.get("nonResourceURLs") or ():
                self._paths.append((frozenset(verbs), path, origin))

    def resource_origin(
        self, verb: str, group: str, resource: str, subresource: str, name: str
    ) -> str | None:
        """The origin of a rule that allows it, or None."""
        key = (verb, group, resource, subresource)
        found = self._memo.get(key)
        if found is None:
            found = tuple(self._find(verb, group, resource, subresource))
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            self._memo[key] = found
        for names, origin in found:
            if names is None or name in names:
                return origin
        return None

    def _find(self, verb: str, group: str, resource: str, subresource: str) -> Iterable[tuple[Names, str]]:
        wanted = [f"{resource}/{subresource}", "*", f"*/{subresource}"] if subresource else [resource, "*"]
        for candidate_verb in (verb, "*"):
            for candidate_group in (group, "*"):
                for candidate in wanted:
                    yield from self._resources.get((candidate_verb, candidate_group, candidate), ())

    def path_origin(self, verb: str, path: str) -> str | None:
        """As :meth:`resource_origin`, for a path that is no resource."""
        for verbs, pattern, origin in self._paths:
            if (verb in verbs or "*" in verbs) and path_matches(pattern, path):
                return origin
        return None


def path_matches(pattern: str, path: str) -> bool:
    """``*`` matches everything, a trailing ``*`` any continuation, anything else only itself."""
    if pattern == "*" or pattern == path:
        return True
    return pattern.endswith("*") and path.startswith(pattern[:-1])


def atoms(rules: Iterable[Rule]) -> list[dict[str, list[str]]]:
    """The rules taken apart into rules of one verb, one group and one resource (and at most one name), or of one
    verb and one path: what an escalation check compares one by one."""
    parts: list[dict[str, list[str]]] = []
    for rule in rules:
        for verb in rule.get("verbs") or ():
            for group in rule.get("apiGroups") or ():
                for resource in rule.get("resources") or ():
                    names = rule.get("resourceNames") or ()
                    base = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
                    parts.extend([{**base, "resourceNames": [name]} for name in names] if names else [base])
            parts.extend(
                {"verbs": [verb], "nonResourceURLs": [path]} for path in rule.get("nonResourceURLs") or ()
            )
    return parts


def uncovered(owned: Sequence[Rule], wanted: Iterable[Rule]) -> list[dict[str, list[str]]]:
    """Those atoms of ``wanted`` that no single rule of ``owned`` grants; empty when nothing would be escalated."""
    return [atom for atom in atoms(wanted) if not any(_covers(rule, atom) for rule in owned)]


def _covers(rule: Rule, atom: Mapping[str, list[str]]) -> bool:
    verbs = rule.get("verbs") or ()
    if "*" not in verbs and atom["verbs"][0] not in verbs:
        return False
    if "nonResourceURLs" in atom:
        path = atom["nonResourceURLs"][0]
        return any(
            pattern == path
            or pattern == "*"
            or (pattern.endswith("*") and path.rstrip("*").startswith(pattern[:-1]))
            for pattern in rule.get("nonResourceURLs") or ()
        )
    groups = rule.get("apiGroups") or ()
    if "*" not in groups and atom["apiGroups"][0] not in groups:
        return False
    resource = atom["resources"][0]
    owned = rule.get("resources") or ()
    _, slash, subresource = resource.partition("/")
    if "*" not in owned and resource not in owned and not (slash and f"*/{subresource}" in owned):
        return False
    names = rule.get("resourceNames") or ()
    return not names or ("resourceNames" in atom and atom["resourceNames"][0] in names)


def describe(rules: Iterable[Mapping[str, list[str]]]) -> list[str]:
    """Each rule on one line, in the notation of Kubernetes' escalation message; verbs of equal rules are joined."""
    merged: dict[tuple[tuple[str, tuple[str, ...]], ...], list[str]] = {}
    titles = (
        ("apiGroups", "APIGroups"),
        ("resources", "Resources"),
        ("resourceNames", "ResourceNames"),
        ("nonResourceURLs", "NonResourceURLs"),
    )
    for rule in rules:
        key = tuple((title, tuple(rule[field])) for field, title in titles if rule.get(field))
        verbs = merged.setdefault(key, [])
        verbs.extend(verb for verb in rule.get("verbs") or () if verb not in verbs)
    lines = []
    for key, joined in merged.items():
        parts = [f"{title}:{_quoted(values)}" for title, values in key]
        lines.append("{" + ", ".join([*parts, f"Verbs:{_quoted(joined)}"]) + "}")
    return sorted(lines)


def _quoted(values: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"

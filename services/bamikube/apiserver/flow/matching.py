"""Which flow schema a request belongs to, and to which flow within it. Pure.

Schemas are asked in the order of ``matchingPrecedence``, then of their names; the first with a rule whose subjects and
whose resources match takes the request. Its distinguisher says what makes a flow: the user, the namespace, or nothing.

A rule is compiled once into closures; what a kind of request was decided to be is remembered by the executor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.identity import User

Object = dict[str, Any]
Who = Callable[[User], bool]
What = Callable[[Attributes], bool]

_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Schema:
    """A compiled flow schema."""

    name: str
    uid: str
    level: str
    precedence: int
    distinguisher: str  # ByUser, ByNamespace or ""
    rules: tuple[tuple[tuple[Who, ...], tuple[What, ...]], ...]

    def matches(self, request: Attributes) -> bool:
        for subjects, targets in self.rules:
            if any(who(request.user) for who in subjects) and any(what(request) for what in targets):
                return True
        return False

    def flow_of(self, request: Attributes) -> str:
        """What tells flows of this schema apart."""
        if self.distinguisher == "ByUser":
            return request.user.name
        return request.namespace if self.distinguisher == "ByNamespace" else ""


def compiled(objects: Iterable[Object], levels: Iterable[str]) -> tuple[Schema, ...]:
    """The schemas that refer to a level there is, in the order in which they are asked."""
    known = set(levels)
    schemas = [_schema(obj) for obj in objects]
    return tuple(
        sorted((one for one in schemas if one.level in known), key=lambda one: (one.precedence, one.name))
    )


def classify(schemas: Sequence[Schema], request: Attributes) -> Schema | None:
    """The schema of a request."""
    return next((one for one in schemas if one.matches(request)), None)


def _schema(obj: Object) -> Schema:
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    rules = tuple(
        (
            tuple(_subject(one) for one in rule.get("subjects") or ()),
            (
                *(_resource_rule(one) for one in rule.get("resourceRules") or ()),
                *(_path_rule(one) for one in rule.get("nonResourceRules") or ()),
            ),
        )
        for rule in spec.get("rules") or ()
    )
    return Schema(
        metadata["name"],
        metadata.get("uid", ""),
        (spec.get("priorityLevelConfiguration") or {}).get("name", ""),
        int(spec.get("matchingPrecedence") or 1000),
        (spec.get("distinguisherMethod") or {}).get("type", ""),
        rules,
    )


def _subject(subject: Object) -> Who:
    kind = subject.get("kind")
    if kind == "User":
        name = (subject.get("user") or {}).get("name", "")
        return lambda user: name in ("*", user.name)
    if kind == "Group":
        group = (subject.get("group") or {}).get("name", "")
        return lambda user: group == "*" or group in user.groups
    account = subject.get("serviceAccount") or {}
    namespace, name = account.get("namespace", ""), account.get("name", "")
    if name == "*":
        return lambda user: user.name.startswith(f"{_ACCOUNT}{namespace}:")
    return lambda user: user.name == f"{_ACCOUNT}{namespace}:{name}"


def _among(values: Sequence[str] | None) -> Callable[[str], bool]:
    held = frozenset(values or ())
    return (lambda value: True) if "*" in held else held.__contains__


def _resource_rule(rule: Object) -> What:
    verbs, groups, resources = (_among(rule.get(name)) for name in ("verbs", "apiGroups", "resources"))
    namespaces, cluster = _among(rule.get("namespaces")), bool(rule.get("clusterScope"))

    def matches(request: Attributes) -> bool:
        if not request.is_resource or not verbs(request.verb) or not groups(request.group):
            return False
        name = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
        if not resources(name):
            return False
        return namespaces(request.namespace) if request.namespace else cluster

    return matches


def _path_rule(rule: Object) -> What:
    verbs, paths = _among(rule.get("verbs")), tuple(rule.get("nonResourceURLs") or ())
    exact = _among(paths)
    prefixes = tuple(path[:-1] for path in paths if path.endswith("*") and path != "*")

    def matches(request: Attributes) -> bool:
        if request.is_resource or not verbs(request.verb):
            return False
        return exact(request.path) or (bool(prefixes) and request.path.startswith(prefixes))

    return matches

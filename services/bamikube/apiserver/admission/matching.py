"""Whether a webhook or an admission policy is about a request: rules, equivalent versions, selectors.

A request is first matched by what it is (operation, resource, subresource), which is the same for all requests of one
kind and can be remembered, and then by the labels of its object and namespace, which cannot::

    rules      CREATE apps/v1 deployments      operation, group, version, resource[/subresource], scope
    Equivalent a rule for apps/v1beta1 also matches a request in apps/v1: the object is then shown as apps/v1beta1
    selectors  namespaceSelector on the namespace's labels, objectSelector on the object's, new or old

Objects that decide about admission (webhook configurations, policies) are matched by nothing, so that a cluster cannot
be locked up by them.

Source: Kubernetes' "Dynamic Admission Control"; ``k8s.io/apiserver/pkg/admission/plugin/webhook/predicates`` (behaviour).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bamikube.api import errors, selectors
from bamikube.api.resources import Resource
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.discovery import subresource as subresource_of
from bamikube.apiserver.registry.reader import Reader

NAMESPACES = ("", "namespaces")
EXEMPT_GROUP = "admissionregistration.k8s.io"
EXEMPT = frozenset(
    {
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    }
)


def exempt(resource: Resource) -> bool:
    """Whether a resource is never subject to webhooks and policies."""
    return resource.group == EXEMPT_GROUP and resource.plural in EXEMPT


_REVIEWS = frozenset({"authentication.k8s.io", "authorization.k8s.io"})


def beyond_policies(resource: Resource) -> bool:
    """Whether policies never look at a resource: at what is exempt, nor at reviews of tokens and access."""
    return exempt(resource) or resource.group in _REVIEWS


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``resources`` are pairs of plural and subresource; ``*`` is any of each.

    ``pods`` is the pair (pods, ""), ``pods/*`` (pods, *) which also means the pod itself, ``*/*`` everything.
    ``names`` empty means any name (webhooks have no names).
    """

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]
    scope: str = "*"
    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, rule: Mapping[str, Any]) -> Rule:
        """From a ``RuleWithOperations`` or ``NamedRuleWithOperations``."""
        pairs = tuple(
            (plural, sub) for plural, _, sub in (one.partition("/") for one in rule.get("resources") or ())
        )
        return cls(
            frozenset(rule.get("operations") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("apiVersions") or ()),
            pairs,
            rule.get("scope") or "*",
            frozenset(rule.get("resourceNames") or ()),
        )

    def matches(self, operation: str, resource: Resource, subresource: str, name: str = "") -> bool:
        """``name`` matters only to rules with names."""
        return (
            _any(self.operations, operation)
            and _any(self.groups, resource.group)
            and _any(self.versions, resource.version)
            and any(
                plural in ("*", resource.plural) and sub in ("*", subresource)
                for plural, sub in self.resources
            )
            and self.scope in ("*", "Namespaced" if resource.namespaced else "Cluster")
            and (not self.names or name in self.names)
        )


def _any(wanted: frozenset[str], value: str) -> bool:
    return "*" in wanted or value in wanted


def row_for(
    rules: Iterable[Rule],
    operation: str,
    resource: Resource,
    subresource: str,
    equivalents: Sequence[Resource],
    *,
    exact: bool = False,
    name: str = "",
) -> Resource | None:
    """The row in whose form the request matches ``rules``, None when it does not.

    A rule that names the request's own version comes first. ``equivalents`` are the other versions and groups in
    which the same objects are served; they count unless the match policy is Exact.
    """
    rules = tuple(rules)
    for row in (resource,) if exact else (resource, *equivalents):
        if any(rule.matches(operation, row, subresource, name) for rule in rules):
            return row
    return None


def equivalents(resource: Resource, rows: Iterable[Resource]) -> tuple[Resource, ...]:
    """The other rows that show the objects of ``resource``."""
    return tuple(
        row
        for row in rows
        if row.storage_key == resource.storage_key
        and (row.group, row.version) != (resource.group, resource.version)
    )


def kind_of(row: Resource, subresource: str) -> tuple[str, str, str]:
    """Group, version and kind of the object that admission sees: a Scale, a Binding, or the resource's own."""
    if not subresource:
        return row.group, row.version, row.kind
    return subresource_of(row, subresource)[:3]


class Selectors:
    """A namespaceSelector and an objectSelector, compiled. Absent ones choose everything."""

    __slots__ = ("_namespaces", "_objects")

    def __init__(
        self, namespace_selector: Mapping[str, Any] | None, object_selector: Mapping[str, Any] | None
    ) -> None:
        self._namespaces = selectors.from_object(namespace_selector or {})
        self._objects = selectors.from_object(object_selector or {})

    def choose(self, ctx: AdmissionContext, reader: Reader) -> bool:
        """Raises ApiError 404 when the request's namespace is not there to be looked at."""
        if not self._namespaces.empty:
            labels = namespace_labels(ctx, reader)
            if labels is not None and not self._namespaces.matches(labels):
                return False
        if self._objects.empty:
            return True
        return any(
            _labelled(obj) and self._objects.matches_object(obj) for obj in (ctx.object, ctx.old) if obj
        )


def _labelled(obj: Mapping[str, Any]) -> bool:
    """The options of a connection are objects without metadata; no selector chooses them."""
    return "metadata" in obj


def namespace_labels(ctx: AdmissionContext, reader: Reader) -> Mapping[str, str] | None:
    """The labels a namespaceSelector looks at; None for an object outside namespaces, which it does not concern."""
    namespace = ctx.namespace
    if ctx.resource.key == NAMESPACES:
        if ctx.object is not None and not ctx.subresource:
            return (ctx.object.get("metadata") or {}).get("labels") or {}
        namespace = ctx.name
    if not namespace:
        return None
    found = reader.get(NAMESPACES, "", namespace)
    if found is None:
        raise errors.not_found("namespaces", namespace)
    return found["metadata"].get("labels") or {}

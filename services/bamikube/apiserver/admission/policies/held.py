"""The policies of a cluster and their bindings, compiled, and which of them are about a request.

Policies are compiled when the first request after a change asks, and each kind of request (operation, version,
resource, subresource) remembers the policies whose rules it matches. A cluster without policies pays for one look at
an empty tuple; the CEL library is not even loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bamikube.api.resources import Resource
from bamikube.apiserver.admission import matching
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.matching import Rule, Selectors
from bamikube.apiserver.registry.reader import Reader, ResourceKey

if TYPE_CHECKING:
    from bamikube.api.cel.policies import Compiled

GROUP = "admissionregistration.k8s.io"
_DEFINITIONS = ("apiextensions.k8s.io", "customresourcedefinitions")

Rows = Callable[[], Sequence[Resource]]


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """``MatchResources``. ``rules`` empty: everything (of a binding)."""

    rules: tuple[Rule, ...]
    excluded: tuple[Rule, ...]
    exact: bool
    selectors: Selectors

    @classmethod
    def of(cls, match: Mapping[str, Any]) -> Match:
        return cls(
            tuple(Rule.of(rule) for rule in match.get("resourceRules") or ()),
            tuple(Rule.of(rule) for rule in match.get("excludeResourceRules") or ()),
            match.get("matchPolicy") == "Exact",
            Selectors(match.get("namespaceSelector"), match.get("objectSelector")),
        )

    @property
    def named(self) -> bool:
        """Whether the name of the object matters."""
        return any(rule.names for rule in (*self.rules, *self.excluded))

    def row(
        self, operation: str, resource: Resource, subresource: str, others: Sequence[Resource], name: str
    ) -> Resource | None:
        """The row in whose version the request matches, None when it does not. Selectors are asked apart."""

        def found(rules: tuple[Rule, ...]) -> Resource | None:
            return matching.row_for(
                rules, operation, resource, subresource, others, exact=self.exact, name=name
            )

        if self.excluded and found(self.excluded) is not None:
            return None
        return found(self.rules) if self.rules else resource

    def could(self, operation: str, resource: Resource, subresource: str, others: Sequence[Resource]) -> bool:
        """Whether a request of this kind may match, whatever its name."""
        rules = tuple(_nameless(rule) for rule in self.rules)
        return (
            not rules
            or matching.row_for(rules, operation, resource, subresource, others, exact=self.exact) is not None
        )


def _nameless(rule: Rule) -> Rule:
    return Rule(rule.operations, rule.groups, rule.versions, rule.resources, rule.scope)


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """``match`` None: whatever the policy matches. ``actions``: Deny, Warn, Audit."""

    name: str
    match: Match | None
    param_ref: Mapping[str, Any] | None
    actions: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    name: str
    match: Match
    compiled: Compiled
    fails: bool  # what cannot be evaluated refuses the request (failurePolicy Fail)
    again: bool  # reinvocationPolicy IfNeeded
    param_kind: Mapping[str, Any] | None
    bindings: tuple[Binding, ...]


@dataclass(slots=True)
class Policies:
    """The policies of one kind (``plural``) with the bindings of another. ``rows`` are the resources served now."""

    reader: Reader
    plural: str
    bindings_plural: str
    rows: Rows
    _all: tuple[Policy, ...] | None = None
    _known: dict[tuple[str, str, str, str, str], tuple[Policy, ...]] = field(default_factory=dict)
    _others: dict[ResourceKey, tuple[Resource, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ((GROUP, self.plural), (GROUP, self.bindings_plural), _DEFINITIONS):
            self.reader.subscribe(key, self._changed)

    def _changed(self, _type: str, _old: Any, _new: Any) -> None:
        self._all = None
        self._known.clear()

    def about(self, ctx: AdmissionContext) -> tuple[Policy, ...]:
        """The policies that may be about the request; :meth:`chosen` says whether they are."""
        held = self._all
        if held is None:
            held = self._all = self._compile()
        if not held:
            return ()
        resource = ctx.resource
        question = (ctx.operation, resource.group, resource.version, resource.plural, ctx.subresource)
        found = self._known.get(question)
        if found is None:
            others = matching.equivalents(resource, self.rows())
            found = self._known[question] = (
                ()
                if matching.beyond_policies(resource)
                else tuple(
                    policy
                    for policy in held
                    if policy.match.could(ctx.operation, resource, ctx.subresource, others)
                )
            )
        return found

    def chosen(self, match: Match, ctx: AdmissionContext) -> Resource | None:
        """The row in whose version the request matches, selectors included. Raises ApiError 404 without namespace."""
        others = matching.equivalents(ctx.resource, self.rows())
        row = match.row(ctx.operation, ctx.resource, ctx.subresource, others, ctx.name)
        if row is None or not match.selectors.choose(ctx, self.reader):
            return None
        return row

    def _compile(self) -> tuple[Policy, ...]:
        definitions = self.reader.list((GROUP, self.plural))
        if not definitions:
            return ()
        bound: dict[str, list[Binding]] = {}
        for one in self.reader.list((GROUP, self.bindings_plural)):
            bound.setdefault((one.get("spec") or {}).get("policyName") or "", []).append(_binding(one))
        made = [
            _policy(one, bound[one["metadata"]["name"]])
            for one in definitions
            if one["metadata"]["name"] in bound  # a policy that is bound to nothing says nothing
        ]
        return tuple(sorted(made, key=lambda policy: policy.name))


def _binding(obj: Mapping[str, Any]) -> Binding:
    spec = obj.get("spec") or {}
    match = spec.get("matchResources")
    return Binding(
        obj["metadata"]["name"],
        None if match is None else Match.of(match),
        spec.get("paramRef"),
        frozenset(spec.get("validationActions") or ()),
    )


def _policy(obj: Mapping[str, Any], bindings: list[Binding]) -> Policy:
    from bamikube.api.cel.policies import compile_policy

    spec = obj.get("spec") or {}
    return Policy(
        obj["metadata"]["name"],
        Match.of(spec.get("matchConstraints") or {}),
        compile_policy(spec),
        spec.get("failurePolicy") != "Ignore",
        spec.get("reinvocationPolicy") == "IfNeeded",
        spec.get("paramKind"),
        tuple(sorted(bindings, key=lambda binding: binding.name)),
    )

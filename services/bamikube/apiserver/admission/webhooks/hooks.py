"""The webhooks of a cluster, compiled, and which of them are about a request.

Configurations are compiled when the first request after a change asks, and each kind of request (operation, version,
resource, subresource) remembers the hooks whose rules it matches. A cluster without webhooks pays for one look at an
empty tuple.

Hooks are ordered by the names of their configurations, and within one as they stand in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bamikube.api.resources import Resource
from bamikube.apiserver.admission import matching
from bamikube.apiserver.admission.matching import Rule, Selectors
from bamikube.apiserver.registry.reader import Reader, ResourceKey

if TYPE_CHECKING:
    from bamikube.api.cel.policies import Named

GROUP = "admissionregistration.k8s.io"
MUTATING = (GROUP, "mutatingwebhookconfigurations")
VALIDATING = (GROUP, "validatingwebhookconfigurations")
_DEFINITIONS = ("apiextensions.k8s.io", "customresourcedefinitions")
REVIEW_VERSIONS = ("v1", "v1beta1")


@dataclass(frozen=True, slots=True, eq=False)
class Hook:
    """One webhook of one configuration. ``timeout`` is in seconds; ``version`` that of the AdmissionReview it gets."""

    configuration: str
    name: str
    index: int
    client: Mapping[str, Any]
    version: str
    timeout: float
    fails: bool  # an unreachable webhook refuses the request (failurePolicy Fail)
    dry: bool  # may be called for a dry run
    again: bool  # wants to see what others changed after it (reinvocationPolicy IfNeeded)
    exact: bool
    rules: tuple[Rule, ...]
    selectors: Selectors
    conditions: tuple[Named, ...] = ()

    @property
    def ident(self) -> str:
        """What tells it from all others: one configuration may name two webhooks alike."""
        return f"{self.configuration}/{self.name}/{self.index}"


# A hook and the row in whose version the request is shown to it.
Match = tuple[Hook, Resource]


@dataclass(slots=True)
class Hooks:
    """The webhooks of all configurations of one kind. ``rows`` are the resources served now."""

    reader: Reader
    kind: ResourceKey
    rows: Callable[[], Sequence[Resource]]
    _compiled: tuple[Hook, ...] | None = None
    _known: dict[tuple[str, str, str, str, str], tuple[Match, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reader.subscribe(self.kind, self._changed)
        self.reader.subscribe(_DEFINITIONS, self._changed)  # other versions of a resource may come and go

    def _changed(self, _type: str, _old: Any, _new: Any) -> None:
        self._compiled = None
        self._known.clear()

    def about(self, operation: str, resource: Resource, subresource: str) -> tuple[Match, ...]:
        """The hooks whose rules match; their selectors are still to be asked."""
        hooks = self._compiled
        if hooks is None:
            configurations = sorted(self.reader.list(self.kind), key=lambda one: str(one["metadata"]["name"]))
            hooks = self._compiled = tuple(hook for one in configurations for hook in compiled(one))
        if not hooks:
            return ()
        question = (operation, resource.group, resource.version, resource.plural, subresource)
        found = self._known.get(question)
        if found is None:
            found = self._known[question] = self._match(hooks, operation, resource, subresource)
        return found

    def _match(
        self, hooks: tuple[Hook, ...], operation: str, resource: Resource, subresource: str
    ) -> tuple[Match, ...]:
        if matching.exempt(resource):
            return ()
        others = matching.equivalents(resource, self.rows())
        found = []
        for hook in hooks:
            row = matching.row_for(hook.rules, operation, resource, subresource, others, exact=hook.exact)
            if row is not None:
                found.append((hook, row))
        return tuple(found)


def compiled(configuration: Mapping[str, Any]) -> list[Hook]:
    """The hooks of a stored configuration (defaulted and validated; what is missing all the same has the default)."""
    found = []
    for index, hook in enumerate(configuration.get("webhooks") or ()):
        versions = hook.get("admissionReviewVersions") or ()
        found.append(
            Hook(
                configuration["metadata"]["name"],
                hook.get("name") or "",
                index,
                hook.get("clientConfig") or {},
                next((version for version in versions if version in REVIEW_VERSIONS), ""),
                float(hook.get("timeoutSeconds") or 10),
                hook.get("failurePolicy") != "Ignore",
                hook.get("sideEffects") in ("None", "NoneOnDryRun"),
                hook.get("reinvocationPolicy") == "IfNeeded",
                hook.get("matchPolicy") == "Exact",
                tuple(Rule.of(rule) for rule in hook.get("rules") or ()),
                Selectors(hook.get("namespaceSelector"), hook.get("objectSelector")),
                _conditions(hook.get("matchConditions") or ()),
            )
        )
    return found


def _conditions(conditions: Sequence[Mapping[str, Any]]) -> tuple[Named, ...]:
    if not conditions:
        return ()
    from bamikube.api.cel.policies import (
        compile_conditions,
    )  # the CEL library is loaded by the first expression

    return tuple(compile_conditions(conditions, "matchConditions", webhook=True)[0])

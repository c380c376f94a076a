"""What expressions of admission see of a request: ``object``, ``request``, ``namespaceObject``, ``authorizer`` and so on.

A :class:`Scene` is made once for a request, in the version that a policy or webhook asked for, and shared by all
expressions about it; ``variables`` and ``params`` are added to copies.

Match conditions, which webhooks and policies have alike, are judged here: all must be true. One that is false decides,
whatever failed beside it; a failure without that is :class:`ConditionFailed`, and the failure policy's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bamikube.api.resources import Resource
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.matching import NAMESPACES, kind_of
from bamikube.apiserver.admission.webhooks.forms import shown
from bamikube.apiserver.admission.webhooks.review import options_of
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.identity import User, user_info
from bamikube.apiserver.registry.reader import Reader

if TYPE_CHECKING:
    from bamikube.api.cel.functions.authorizer import Decision, Question
    from bamikube.api.cel.policies import Named
    from bamikube.apiserver.authz.authorizer import Authorizer

PER_CALL = 1_000_000  # cost of one expression, at most

_NAMESPACE_METADATA = (
    "name",
    "generateName",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "finalizers",
)


class ConditionFailed(Exception):
    """A match condition could not be evaluated."""


class Scene:
    """The variables of all expressions about one request, shown in the version of ``row``."""

    def __init__(self, ctx: AdmissionContext, row: Resource, reader: Reader, authorizer: Authorizer) -> None:
        from bamikube.api.cel.functions import authorizer as asking

        self._ctx = ctx
        self._authorizer = authorizer
        judge: Callable[[Question], Decision] = self._judge
        anybody = asking.Authorizer(judge)
        group, plural = row.group, row.plural
        asked = asking.Question(
            group=group, resource=plural, subresource=ctx.subresource, namespace=ctx.namespace, name=ctx.name
        )
        self.variables: dict[str, Any] = {
            "object": shown(ctx, row, ctx.object),
            "oldObject": shown(ctx, row, ctx.old),
            "request": request_of(ctx, row),
            "namespaceObject": _namespace(ctx, reader),
            "authorizer": anybody,
            "authorizer.requestResource": asking.ResourceCheck(judge, asked),
        }

    def _judge(self, question: Question) -> Decision:
        from bamikube.api.cel.functions.authorizer import Decision

        user = self._ctx.user
        if question.account is not None:
            namespace, name = question.account
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
            user = User(f"system:serviceaccount:{namespace}:{name}", groups)
        if question.path:
            attributes = Attributes(user, question.verb, question.path, is_resource=False)
        else:
            attributes = Attributes(
                user,
                question.verb,
                group=question.group,
                version="*",
                resource=question.resource,
                subresource=question.subresource,
                namespace=question.namespace,
                name=question.name,
                label_selector=question.labels,
                field_selector=question.fields,
            )
        verdict = self._authorizer.authorize(attributes)
        return Decision(verdict.allowed, verdict.reason)


def request_of(ctx: AdmissionContext, row: Resource) -> dict[str, Any]:
    """``request``; what is empty is left out."""
    asked = ctx.resource
    seen = {
        "kind": _kind(kind_of(row, ctx.subresource)),
        "resource": _resource(row),
        "subResource": ctx.subresource,
        "requestKind": _kind(kind_of(asked, ctx.subresource)),
        "requestResource": _resource(asked),
        "requestSubResource": ctx.subresource,
        "name": ctx.name,
        "namespace": ctx.namespace or (ctx.name if asked.key == NAMESPACES else ""),
        "operation": ctx.operation,
        "userInfo": user_info(ctx.user),
        "options": options_of(ctx),
    }
    return {**{key: value for key, value in seen.items() if value}, "dryRun": ctx.dry_run}


def _kind(kind: tuple[str, str, str]) -> dict[str, str]:
    return {"group": kind[0], "version": kind[1], "kind": kind[2]}


def _resource(row: Resource) -> dict[str, str]:
    return {"group": row.group, "version": row.version, "resource": row.plural}


def _namespace(ctx: AdmissionContext, reader: Reader) -> dict[str, Any] | None:
    """``namespaceObject``; None for requests outside of namespaces, and about namespaces."""
    from bamikube.api.cel.moments import parse_timestamp

    if not ctx.namespace or ctx.resource.key == NAMESPACES:
        return None
    found = reader.get(NAMESPACES, "", ctx.namespace)
    if found is None:
        return None
    metadata = found["metadata"]
    kept = {name: metadata[name] for name in _NAMESPACE_METADATA if name in metadata}
    for name in ("creationTimestamp", "deletionTimestamp"):
        if metadata.get(name):
            kept[name] = parse_timestamp(metadata[name])
    return {
        "metadata": kept,
        "spec": {"finalizers": (found.get("spec") or {}).get("finalizers") or []},
        "status": {"phase": (found.get("status") or {}).get("phase") or ""},
    }


def conditions_hold(conditions: Sequence[Named], variables: Mapping[str, Any]) -> bool:
    """Whether all match conditions are true. Raises ConditionFailed."""
    from bamikube.api.cel.policies import CONDITIONS_BUDGET
    from bamikube.api.cel.types import BudgetExceeded, CelError

    budget = CONDITIONS_BUDGET
    failures: list[str] = []
    for each in conditions:
        try:
            value, cost = each.program.run(dict(variables), min(PER_CALL, budget))
        except BudgetExceeded:
            raise ConditionFailed(
                "validation failed due to running out of cost budget, no further validation rules will be run"
            ) from None
        except CelError as error:
            failures.append(f"expression '{each.program.expression}' resulted in error: {error}")
            continue
        budget -= cost
        if value is False:
            return False
    if failures:
        raise ConditionFailed(failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]")
    return True

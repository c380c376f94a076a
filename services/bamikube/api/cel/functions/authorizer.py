"""``authorizer``: expressions that ask whether somebody may do something.

::

    authorizer.group('apps').resource('deployments').namespace('shop').check('create').allowed()
    authorizer.serviceAccount('shop', 'builder').path('/healthz').check('get').allowed()

The chain only collects what is asked; ``check`` asks :class:`Judge`, which the API server brings along.

Source: Kubernetes' "Common Expression Language in Kubernetes", authorizer library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bamikube.api.cel.functions.model import Function, declare
from bamikube.api.cel.types import CelError, NoOverload

CHECK_COST = 350_000


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked so far. ``account`` is (namespace, name) of a service account asked for instead of the caller."""

    verb: str = ""
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    fields: str = ""
    labels: str = ""
    account: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    reason: str = ""
    error: str = ""
    type_name = "kubernetes.authorization.Decision"


Judge = Callable[[Question], Decision]


@dataclass(frozen=True, slots=True)
class Authorizer:
    judge: Judge
    question: Question = Question()
    type_name = "kubernetes.authorization.Authorizer"


@dataclass(frozen=True, slots=True)
class PathCheck(Authorizer):
    type_name = "kubernetes.authorization.PathCheck"


@dataclass(frozen=True, slots=True)
class GroupCheck(Authorizer):
    type_name = "kubernetes.authorization.GroupCheck"


@dataclass(frozen=True, slots=True)
class ResourceCheck(Authorizer):
    type_name = "kubernetes.authorization.ResourceCheck"


def _step(before: type[Authorizer], after: type[Authorizer], field: str) -> Callable[[Any, Any], Authorizer]:
    def call(check: Any, value: Any) -> Authorizer:
        if type(check) is not before or type(value) is not str:
            raise NoOverload()
        return after(check.judge, replace(check.question, **{field: value}))  # type: ignore[arg-type]

    return call


def _path(check: Any, value: Any) -> Authorizer:
    if type(check) is not Authorizer or type(value) is not str:
        raise NoOverload("path")
    if not value:
        raise CelError("path must not be empty")
    return PathCheck(check.judge, replace(check.question, path=value))


def _account(check: Any, namespace: Any, name: Any) -> Authorizer:
    if type(check) is not Authorizer or type(namespace) is not str or type(name) is not str:
        raise NoOverload("serviceAccount")
    if not namespace or not name:
        raise CelError("invalid service account: namespace and name must not be empty")
    return Authorizer(check.judge, replace(check.question, account=(namespace, name)))


def _check(check: Any, verb: Any) -> Decision:
    if type(check) not in (PathCheck, ResourceCheck) or type(verb) is not str:
        raise NoOverload("check")
    decided: Decision = check.judge(replace(check.question, verb=verb))
    return decided


def _of(part: Callable[[Decision], Any]) -> Callable[[Any], Any]:
    def call(decision: Any) -> Any:
        if type(decision) is not Decision:
            raise NoOverload()
        return part(decision)

    return call


FUNCTIONS: dict[str, Function] = {
    "path": Function(_path),
    "group": Function(_step(Authorizer, GroupCheck, "group")),
    "serviceAccount": Function(_account),
    "resource": Function(_step(GroupCheck, ResourceCheck, "resource")),
    "subresource": Function(_step(ResourceCheck, ResourceCheck, "subresource")),
    "namespace": Function(_step(ResourceCheck, ResourceCheck, "namespace")),
    "name": Function(_step(ResourceCheck, ResourceCheck, "name")),
    "fieldSelector": Function(_step(ResourceCheck, ResourceCheck, "fields")),
    "labelSelector": Function(_step(ResourceCheck, ResourceCheck, "labels")),
    "check": Function(_check, lambda args, result: CHECK_COST),
    "allowed": Function(_of(lambda decision: decision.allowed)),
    "reason": Function(_of(lambda decision: decision.reason)),
    "errored": Function(_of(lambda decision: bool(decision.error))),
    "error": Function(_of(lambda decision: decision.error)),
}

DECLARED = declare(
    [
        "Authorizer.path(string) -> PathCheck",
        "Authorizer.group(string) -> GroupCheck",
        "Authorizer.serviceAccount(string, string) -> Authorizer",
        "GroupCheck.resource(string) -> ResourceCheck",
        *(
            f"ResourceCheck.{name}(string) -> ResourceCheck"
            for name in ("subresource", "namespace", "name", "fieldSelector", "labelSelector")
        ),
        "PathCheck.check(string) -> Decision",
        "ResourceCheck.check(string) -> Decision",
        "Decision.allowed() -> bool",
        "Decision.reason() -> string",
        "Decision.errored() -> bool",
        "Decision.error() -> string",
    ]
)

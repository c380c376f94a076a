"""Access reviews: asking what somebody may do, without doing it.

``kubectl auth can-i`` asks about oneself; node agents and extension API servers ask about others. The answer is the
same authorizer's that decides real requests.

Source: the API reference, authorization.k8s.io/v1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api import errors, names, selectors
from bamikube.api.errors import Cause
from bamikube.api.selectors import FieldRequirement, SelectorError
from bamikube.api.validation.rules import forbidden, invalid, required
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.call import Call
from bamikube.apiserver.identity import User
from bamikube.apiserver.subresources.rewriting import Object, admitted
from bamikube.kit.http import Answer

GROUP = "authorization.k8s.io"


async def review_access(call: Call) -> Answer:
    """SubjectAccessReview: about anybody."""
    async with admitted(call, await call.decode()) as body:
        spec = body.get("spec") or {}
        _check(call, _wish_causes(spec) + _subject_causes(spec) + _selector_fields(spec) + _named(body))
    return _answer(call, body, _subject(spec), spec)


async def review_local_access(call: Call) -> Answer:
    """LocalSubjectAccessReview: about anybody, in the namespace of the request only."""
    async with admitted(call, await call.decode()) as body:
        spec = body.get("spec") or {}
        causes = (
            _wish_causes(spec) + _subject_causes(spec) + _selector_fields(spec) + _named(body, local=True)
        )
        wanted = (spec.get("resourceAttributes") or {}).get("namespace") or ""
        if spec.get("resourceAttributes") is not None and wanted != call.namespace:
            causes.append(
                invalid("spec.resourceAttributes.namespace", wanted, "must match metadata.namespace")
            )
        if (paths := spec.get("nonResourceAttributes")) is not None:
            causes.append(invalid("spec.nonResourceAttributes", paths, "disallowed on this kind of request"))
        _check(call, causes)
    return _answer(call, body, _subject(spec), spec)


async def review_own_access(call: Call) -> Answer:
    """SelfSubjectAccessReview: about oneself."""
    async with admitted(call, await call.decode()) as body:
        spec = body.get("spec") or {}
        _check(call, _wish_causes(spec) + _selector_fields(spec) + _named(body))
    return _answer(call, body, call.user, spec)


async def review_own_rules(call: Call) -> Answer:
    """SelfSubjectRulesReview: everything one may do in a namespace (``kubectl auth can-i --list``)."""
    async with admitted(call, await call.decode()) as body:
        namespace = str((body.get("spec") or {}).get("namespace") or "")
        if not namespace:
            raise errors.bad_request("no namespace on request")
    resources: list[Object] = []
    paths: list[Object] = []
    for rule in call.services.authorizer.rules_for(call.user, namespace):
        if rule.get("resources"):
            fields = ("verbs", "apiGroups", "resources", "resourceNames")
            resources.append({field: list(rule[field]) for field in fields if rule.get(field)})
        if rule.get("nonResourceURLs"):
            paths.append({"verbs": list(rule["verbs"]), "nonResourceURLs": list(rule["nonResourceURLs"])})
    incomplete, problem = call.services.authorizer.unlisted(call.user, namespace)
    status: Object = {"resourceRules": resources, "nonResourceRules": paths, "incomplete": incomplete}
    if problem:
        status["evaluationError"] = problem
    return call.answer({**_review(call, {}, status), "metadata": {}}, 201)


def _answer(call: Call, body: Object, user: User, spec: Object) -> Answer:
    verdict = call.services.authorizer.authorize(attributes_of(user, spec))
    status: Object = {"allowed": verdict.allowed}
    if verdict.reason:
        status["reason"] = verdict.reason
    if problem := _ignored(spec.get("resourceAttributes") or {}):
        status["evaluationError"] = problem
    return call.answer(_review(call, body, status), 201)


def _review(call: Call, body: Object, status: Object) -> Object:
    metadata = {key: value for key, value in (body.get("metadata") or {}).items() if key != "managedFields"}
    return {
        "kind": call.resource.kind,
        "apiVersion": call.resource.api_version,
        "metadata": metadata,
        "spec": body.get("spec") or {},
        "status": status,
    }


def _subject(spec: Object) -> User:
    name, groups = str(spec.get("user") or ""), tuple(spec.get("groups") or ())
    extra = {key: tuple(values or ()) for key, values in (spec.get("extra") or {}).items()}
    return User(name, groups, str(spec.get("uid") or ""), extra)


def _subject_causes(spec: Object) -> list[Cause]:
    if spec.get("user") or spec.get("groups"):
        return []
    return [invalid("spec.user", "", "at least one of user or group must be specified")]


def _wish_causes(spec: Object) -> list[Cause]:
    """What is asked about is a resource or a path; selectors are given in one form."""
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    causes: list[Cause] = []
    if resource is None and path is None:
        why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        causes.append(invalid("spec.resourceAttributes", None, why))
    if resource is not None and path is not None:
        why = "cannot be specified in combination with resourceAttributes"
        causes.append(invalid("spec.nonResourceAttributes", path, why))
    return causes


def _named(body: Object, *, local: bool = False) -> list[Cause]:
    """A review is a question: it has no name, and only a local one has a namespace."""
    metadata = body.get("metadata") or {}
    ours = {"managedFields", "namespace"} if local else {"managedFields"}
    if not any(value for field, value in metadata.items() if field not in ours):
        return []
    return [invalid("metadata", metadata, "must be empty except for namespace" if local else "must be empty")]


def _selector_fields(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    resource = spec.get("resourceAttributes")
    for name in ("fieldSelector", "labelSelector"):
        if (selector := (resource or {}).get(name)) is not None:
            causes += _selector_causes(f"spec.resourceAttributes.{name}", selector, name == "labelSelector")
    return causes


def _selector_causes(field: str, selector: Object, labels: bool) -> list[Cause]:
    raw, requirements = selector.get("rawSelector"), selector.get("requirements") or []
    if raw and requirements:
        return [invalid(f"{field}.rawSelector", raw, "may not specified at the same time as requirements")]
    if not raw and not requirements:
        why = f"when {field} is specified, requirements or rawSelector is required"
        return [required(f"{field}.requirements", why)]
    causes: list[Cause] = []
    for index, requirement in enumerate(requirements):
        where, values = f"{field}.requirements[{index}]", requirement.get("values")
        if not labels and not requirement.get("key"):
            causes.append(required(f"{where}.key", "must be specified"))
        operator = requirement.get("operator")
        if operator in ("In", "NotIn") and not values:
            why = "must be specified when `operator` is 'In' or 'NotIn'"
            causes.append(required(f"{where}.values", why))
        if operator in ("Exists", "DoesNotExist") and values:
            why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            causes.append(forbidden(f"{where}.values", why))
        if labels:
            key = str(requirement.get("key") or "")
            causes += [invalid(f"{where}.key", key, why) for why in names.is_qualified_name(key)]
            for at, value in enumerate(values or ()):
                causes += [
                    invalid(f"{where}.values[{at}]", value, why) for why in names.is_label_value(value)
                ]
    return causes


def attributes_of(user: User, spec: Object) -> Attributes:
    """What a review's spec asks about."""
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if path is not None:
        return Attributes(
            user, str(path.get("verb") or ""), path=str(path.get("path") or ""), is_resource=False
        )
    assert resource is not None
    return Attributes(
        user,
        str(resource.get("verb") or ""),
        group=str(resource.get("group") or ""),
        version=str(resource.get("version") or "*"),
        resource=str(resource.get("resource") or ""),
        subresource=str(resource.get("subresource") or ""),
        namespace=str(resource.get("namespace") or ""),
        name=str(resource.get("name") or ""),
        label_selector=_labels(resource.get("labelSelector"))[0],
        field_selector=_fields(resource.get("fieldSelector"))[0],
    )


def _ignored(resource: Object) -> str:
    """Which selectors could not be understood. They are left out of the question, which makes it a wider one: who may
    do something without a condition may do it under one."""
    said = []
    for name, read in (("fieldSelector", _fields), ("labelSelector", _labels)):
        understood, wrong = read(resource.get(name))
        if wrong:
            how = "partially ignored" if understood else "ignored"
            said.append(f"spec.resourceAttributes.{name} {how} due to parse error")
    return "; ".join(said)


def _labels(selector: Any) -> tuple[str, bool]:
    """A label selector of a review as text, as far as it is understood, and whether something is not."""
    return _understood(selector, selectors.parse_labels, _label_term)


def _fields(selector: Any) -> tuple[str, bool]:
    """The same for a field selector."""
    return _understood(selector, selectors.parse_fields, _field_term)


def _understood(
    selector: Any, parse: Callable[[str], object], term: Callable[[Object], object]
) -> tuple[str, bool]:
    """``parse`` reads a raw selector, ``term`` one requirement; both raise SelectorError."""
    if not isinstance(selector, dict):
        return "", False
    if raw := selector.get("rawSelector"):
        try:
            return str(parse(str(raw))), False
        except SelectorError:
            return "", True
    terms: list[str] = []
    wrong = False
    for one in selector.get("requirements") or []:
        try:
            terms.append(str(term(one)))
        except SelectorError:
            wrong = True
    return ",".join(terms), wrong


def _label_term(one: Object) -> object:
    operator = one.get("operator")
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
        raise SelectorError(f"{operator!r} is not a valid label selector operator")
    return selectors.requirement(one.get("key", ""), operator, one.get("values") or ())


def _field_term(one: Object) -> object:
    """A field has one value, or has it not."""
    values = one.get("values") or []
    sign = {"In": "=", "NotIn": "!="}.get(one.get("operator", ""))
    if sign is None or len(values) != 1:
        raise SelectorError("a field is compared with one value")
    return FieldRequirement(one.get("key", ""), sign, values[0])


def _check(call: Call, causes: list[Cause]) -> None:
    """Raises 422 when there is something to say."""
    if causes:
        raise errors.invalid(call.resource.kind, "", causes, GROUP)

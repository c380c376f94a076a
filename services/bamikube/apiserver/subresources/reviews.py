"""Access reviews: asking what somebody may do, without doing it.

``kubectl auth can-i`` asks about oneself; node agents and extension API servers ask about others. The answer is the
same authorizer's that decides real requests.

Source: the API reference, authorization.k8s.io/v1.
"""

from __future__ import annotations

from typing import Any

from bamikube.api import errors
from bamikube.api.errors import Cause
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.call import Call
from bamikube.apiserver.identity import User
from bamikube.apiserver.subresources.rewriting import Object
from bamikube.kit.http import Answer

GROUP = "authorization.k8s.io"


async def review_access(call: Call) -> Answer:
    """SubjectAccessReview: about anybody."""
    body = await call.decode()
    spec = body.get("spec") or {}
    return _answer(call, body, _subject(call, spec), spec)


async def review_local_access(call: Call) -> Answer:
    """LocalSubjectAccessReview: about anybody, in the namespace of the request only."""
    body = await call.decode()
    spec = body.get("spec") or {}
    wanted = (spec.get("resourceAttributes") or {}).get("namespace")
    if not spec.get("resourceAttributes"):
        raise _invalid(call, "must be provided", "spec.resourceAttributes")
    if wanted != call.namespace:
        raise errors.bad_request(
            f"spec.resourceAttributes.namespace must match namespace: {wanted or ''} is not {call.namespace}"
        )
    return _answer(call, body, _subject(call, spec), spec)


async def review_own_access(call: Call) -> Answer:
    """SelfSubjectAccessReview: about oneself."""
    body = await call.decode()
    return _answer(call, body, call.user, body.get("spec") or {})


async def review_own_rules(call: Call) -> Answer:
    """SelfSubjectRulesReview: everything one may do in a namespace (``kubectl auth can-i --list``)."""
    body = await call.decode()
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
    status = {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}
    return call.answer(_review(call, body, status), 201)


def _answer(call: Call, body: Object, user: User, spec: Object) -> Answer:
    verdict = call.services.authorizer.authorize(attributes_of(call, user, spec))
    status: Object = {"allowed": verdict.allowed}
    if verdict.reason:
        status["reason"] = verdict.reason
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


def _subject(call: Call, spec: Object) -> User:
    name, groups = str(spec.get("user") or ""), tuple(spec.get("groups") or ())
    if not name and not groups:
        raise _invalid(call, "at least one of user or group must be specified", "spec.user")
    extra = {key: tuple(values or ()) for key, values in (spec.get("extra") or {}).items()}
    return User(name, groups, str(spec.get("uid") or ""), extra)


def attributes_of(call: Call, user: User, spec: Object) -> Attributes:
    """What a review's spec asks about. Raises 422 unless it names either a resource or a path."""
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) == (path is None):
        text = (
            "cannot be specified in combination with resourceAttributes"
            if path is not None
            else "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        )
        raise _invalid(
            call, text, "spec.nonResourceAttributes" if path is not None else "spec.resourceAttributes"
        )
    if path is not None:
        return Attributes(
            user, str(path.get("verb") or ""), path=str(path.get("path") or ""), is_resource=False
        )
    assert resource is not None
    return Attributes(
        user,
        str(resource.get("verb") or ""),
        group=str(resource.get("group") or ""),
        version=str(resource.get("version") or ""),
        resource=str(resource.get("resource") or ""),
        subresource=str(resource.get("subresource") or ""),
        namespace=str(resource.get("namespace") or ""),
        name=str(resource.get("name") or ""),
        label_selector=_selector(resource.get("labelSelector")),
        field_selector=_selector(resource.get("fieldSelector")),
    )


def _selector(selector: Any) -> str:
    """A selector of a review as text; requirements are joined, as far as text can say them."""
    if not isinstance(selector, dict):
        return ""
    if selector.get("rawSelector"):
        return str(selector["rawSelector"])
    terms = []
    for requirement in selector.get("requirements") or []:
        key, values = requirement.get("key", ""), requirement.get("values") or []
        match requirement.get("operator"):
            case "In" if len(values) == 1:
                terms.append(f"{key}={values[0]}")
            case "In":
                terms.append(f"{key} in ({','.join(values)})")
            case "NotIn":
                terms.append(f"{key} notin ({','.join(values)})")
            case "Exists":
                terms.append(key)
            case "DoesNotExist":
                terms.append(f"!{key}")
    return ",".join(terms)


def _invalid(call: Call, why: str, field: str) -> errors.ApiError:
    return errors.invalid(
        call.resource.kind, "", [Cause("FieldValueInvalid", f"Invalid value: {why}", field)], GROUP
    )

"""A refusal, worded as Kubernetes words it: tools and people match on these sentences."""

from __future__ import annotations

import json

from bamikube.api.errors import ApiError
from bamikube.apiserver.attributes import Attributes


def sentence(attributes: Attributes) -> str:
    """What the user may not do, e.g. ``User "x" cannot list resource "pods" in API group "" in the namespace "d"``."""
    user = json.dumps(attributes.user.name, ensure_ascii=False)
    if not attributes.is_resource:
        return f"User {user} cannot {attributes.verb} path {json.dumps(attributes.path)}"
    resource = attributes.resource
    if attributes.subresource:
        resource = f"{resource}/{attributes.subresource}"
    scope = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    return f'User {user} cannot {attributes.verb} resource "{resource}" in API group "{attributes.group}" {scope}'


def denied(attributes: Attributes, reason: str = "") -> ApiError:
    """The 403 for a denied request. ``reason`` is the authorizer's own explanation, if it has one."""
    text = sentence(attributes)
    if reason:
        text = f"{text}: {reason}"
    if not attributes.is_resource:
        return ApiError(403, "Forbidden", f"forbidden: {text}", {})
    resource = f"{attributes.resource}.{attributes.group}" if attributes.group else attributes.resource
    subject = f'{resource} "{attributes.name}"' if attributes.name else resource
    details = {"kind": attributes.resource}
    if attributes.name:
        details["name"] = attributes.name
    if attributes.group:
        details["group"] = attributes.group
    return ApiError(403, "Forbidden", f"{subject} is forbidden: {text}", details)

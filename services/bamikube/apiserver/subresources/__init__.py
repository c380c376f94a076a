"""Endpoints that do something of their own, by group, plural and subresource ("" for the resource itself)."""

from __future__ import annotations

from bamikube.api import errors
from bamikube.apiserver import negotiation
from bamikube.apiserver.call import Call, SpecialHandler
from bamikube.apiserver.subresources import (
    binding,
    component_status,
    connecting,
    eviction,
    parts,
    proxy,
    reviews,
    streams,
    tokens,
)
from bamikube.kit.http import Answer

_AUTHENTICATION, _AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"


def _served(handler: SpecialHandler) -> SpecialHandler:
    """``handler`` for the verbs that its resource has; anything else is 405 (or 406) before a body is looked at."""

    async def handle(call: Call) -> Answer:
        if call.verb not in call.resource.verbs:
            raise errors.method_not_allowed()
        # 406 comes before the work: a review has no table, what is only read has one.
        negotiation.accepted(call.request, call.resource, transforms=call.verb != "create")
        return await handler(call)

    return handle


SPECIAL: dict[tuple[str, str, str], SpecialHandler] = {
    ("", "bindings", ""): binding.bind,
    ("", "pods", "binding"): binding.bind,
    ("", "pods", "eviction"): eviction.evict,
    ("", "pods", "log"): streams.log,
    ("", "pods", "exec"): connecting.admitted(streams.exec_),
    ("", "pods", "attach"): connecting.admitted(streams.attach),
    ("", "pods", "portforward"): connecting.admitted(streams.port_forward),
    ("", "pods", "proxy"): connecting.admitted(proxy.proxy_pod),
    ("", "services", "proxy"): connecting.admitted(proxy.proxy_service),
    ("", "nodes", "proxy"): connecting.admitted(proxy.proxy_node),
    ("", "pods", "ephemeralcontainers"): parts.ephemeral_containers,
    ("", "pods", "resize"): parts.resize,
    ("", "serviceaccounts", "token"): tokens.request_token,
    ("", "namespaces", "finalize"): parts.finalize,
    ("", "componentstatuses", ""): _served(component_status.component_status),
    ("certificates.k8s.io", "certificatesigningrequests", "approval"): parts.approve,
    (_AUTHENTICATION, "tokenreviews", ""): _served(tokens.review_token),
    (_AUTHENTICATION, "selfsubjectreviews", ""): _served(tokens.review_self),
    (_AUTHORIZATION, "subjectaccessreviews", ""): _served(reviews.review_access),
    (_AUTHORIZATION, "localsubjectaccessreviews", ""): _served(reviews.review_local_access),
    (_AUTHORIZATION, "selfsubjectaccessreviews", ""): _served(reviews.review_own_access),
    (_AUTHORIZATION, "selfsubjectrulesreviews", ""): _served(reviews.review_own_rules),
}

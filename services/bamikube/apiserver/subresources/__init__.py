"""Endpoints that do something of their own, by group, plural and subresource ("" for the resource itself)."""

from __future__ import annotations

from bamikube.apiserver.call import SpecialHandler
from bamikube.apiserver.subresources import (
    binding,
    component_status,
    eviction,
    parts,
    proxy,
    reviews,
    streams,
    tokens,
)

_AUTHENTICATION, _AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"

SPECIAL: dict[tuple[str, str, str], SpecialHandler] = {
    ("", "bindings", ""): binding.bind,
    ("", "pods", "binding"): binding.bind,
    ("", "pods", "eviction"): eviction.evict,
    ("", "pods", "log"): streams.log,
    ("", "pods", "exec"): streams.exec_,
    ("", "pods", "attach"): streams.attach,
    ("", "pods", "portforward"): streams.port_forward,
    ("", "pods", "proxy"): proxy.proxy_pod,
    ("", "services", "proxy"): proxy.proxy_service,
    ("", "nodes", "proxy"): proxy.proxy_node,
    ("", "pods", "ephemeralcontainers"): parts.ephemeral_containers,
    ("", "pods", "resize"): parts.resize,
    ("", "serviceaccounts", "token"): tokens.request_token,
    ("", "namespaces", "finalize"): parts.finalize,
    ("", "componentstatuses", ""): component_status.component_status,
    ("certificates.k8s.io", "certificatesigningrequests", "approval"): parts.approve,
    (_AUTHENTICATION, "tokenreviews", ""): tokens.review_token,
    (_AUTHENTICATION, "selfsubjectreviews", ""): tokens.review_self,
    (_AUTHORIZATION, "subjectaccessreviews", ""): reviews.review_access,
    (_AUTHORIZATION, "localsubjectaccessreviews", ""): reviews.review_local_access,
    (_AUTHORIZATION, "selfsubjectaccessreviews", ""): reviews.review_own_access,
    (_AUTHORIZATION, "selfsubjectrulesreviews", ""): reviews.review_own_rules,
}

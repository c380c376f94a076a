"""What PodSecurity counts, under Kubernetes' names and labels."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import Counter

from bamikube.api.podsecurity import PolicyLevel
from bamikube.api.podsecurity.policy import LATEST
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.version import MINOR
from bamikube.kit.metrics import REGISTRY

_ABOUT = ["request_operation", "resource", "subresource"]
_EVALUATIONS = Counter(
    "pod_security_evaluations",
    "Number of policy evaluations that occurred, not counting ignored or exempt requests.",
    ["decision", "policy_level", "policy_version", "mode", *_ABOUT],
    registry=REGISTRY,
)
_EXEMPTIONS = Counter(
    "pod_security_exemptions",
    "Number of exempt requests, not counting ignored or out of scope requests.",
    _ABOUT,
    registry=REGISTRY,
)
_ERRORS = Counter(
    "pod_security_errors",
    "Number of errors preventing normal evaluation. Non-fatal errors may result in the latest restricted profile "
    "being used for evaluation.",
    ["fatal", *_ABOUT],
    registry=REGISTRY,
)


def evaluated(ctx: AdmissionContext, mode: str, policy: PolicyLevel, *, allowed: bool) -> None:
    if policy.version == LATEST:
        version = "latest"
    else:
        version = f"v1.{policy.version}" if policy.version <= MINOR else "future"
    decision = "allow" if allowed else "deny"
    _series(decision, policy.level, version, mode, *_about(ctx)).inc()


def exempted(ctx: AdmissionContext) -> None:
    _EXEMPTIONS.labels(*_about(ctx)).inc()


def misread(ctx: AdmissionContext) -> None:
    """The labels of a namespace cannot be read."""
    _ERRORS.labels("false", *_about(ctx)).inc()


@lru_cache(maxsize=512)
def _series(*labels: str) -> Counter:
    return _EVALUATIONS.labels(*labels)


def _about(ctx: AdmissionContext) -> tuple[str, str, str]:
    resource = "pod" if ctx.resource.key == ("", "pods") else "controller"
    return ctx.operation.lower(), resource, ctx.subresource

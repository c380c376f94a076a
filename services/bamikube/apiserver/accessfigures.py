"""What is counted of authentication and authorization, under Kubernetes' names."""

from __future__ import annotations

from bamikube.kit.tallies import Counters, Histograms

_SECONDS = tuple(0.001 * 2**power for power in range(15))

_ATTEMPTS = Counters(
    "authentication_attempts",
    "Counter of authenticated attempts.",
    ("result",),
    total=False,
)
_AUTHENTICATING = Histograms(
    "authentication_duration_seconds",
    "Authentication duration in seconds broken out by result.",
    ("result",),
    _SECONDS,
)
_USERS = Counters(
    "authenticated_user_requests",
    "Counter of authenticated requests broken out by username.",
    ("username",),
    total=False,
)
_DECISIONS = Counters(
    "authorization_attempts",
    "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.",
    ("result",),
)
_AUTHORIZING = Histograms(
    "authorization_duration_seconds",
    "Authorization duration in seconds broken out by result.",
    ("result",),
    _SECONDS,
)

# Users that are told apart; there are too many of the others.
_KNOWN = frozenset({"admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"})

_SUCCESS = (_ATTEMPTS.of("success"), _AUTHENTICATING.of("success"))
_FAILURE = (_ATTEMPTS.of("failure"), _AUTHENTICATING.of("failure"))
_ALLOWED = (_DECISIONS.of("allowed"), _AUTHORIZING.of("allowed"))
_NO_OPINION = (_DECISIONS.of("no-opinion"), _AUTHORIZING.of("no-opinion"))
_OTHERS = _USERS.of("other")


def known(name: str, seconds: float) -> None:
    """It is clear who a request is from."""
    attempts, took = _SUCCESS
    attempts.value += 1
    took.observe(seconds)
    if name in _KNOWN:
        _USERS.of(name).value += 1
    elif "@" in name:
        _USERS.of("email_id").value += 1
    else:
        _OTHERS.value += 1


def unknown(seconds: float) -> None:
    """Nobody knows the credentials of a request, or it has none and must have some."""
    attempts, took = _FAILURE
    attempts.value += 1
    took.observe(seconds)


def decided(allowed: bool, seconds: float) -> None:
    """The authorizers have been asked. All of ours say "allowed" or nothing; none says "denied"."""
    attempts, took = _ALLOWED if allowed else _NO_OPINION
    attempts.value += 1
    took.observe(seconds)

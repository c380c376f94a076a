"""All checks of a level and version, in the order in which their findings are told.

A check may be told in another way from some version on; a restricted check may take the place of a baseline one that
it includes::

    restricted:v1.18   seccomp by annotations (baseline), because the restricted check begins with 1.19
    restricted:v1.30   the restricted seccomp check; of the baseline nothing is said about it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from bamikube.api.podsecurity import baseline, restricted
from bamikube.api.podsecurity.pod import Pod
from bamikube.api.podsecurity.policy import LATEST, PolicyLevel

Test = Callable[[Pod], tuple[str, str] | None]


@dataclass(frozen=True, slots=True)
class Violation:
    """What a pod does that its level forbids. ``reason`` is short; ``detail`` names containers and values."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Check:
    """A check: its name (which orders the findings), and its tests with the versions they begin with, oldest first.
    ``instead_of`` names the baseline check that is included."""

    name: str
    tests: tuple[tuple[int, Test], ...]
    instead_of: str = ""

    def at(self, version: int) -> Test | None:
        found = None
        for since, test in self.tests:
            if version >= since:
                found = test
        return found


def _unless_windows(test: Test) -> Test:
    return lambda pod: test(pod) if restricted.not_on_windows(pod) else None


BASELINE = (
    Check("appArmorProfile", ((1, baseline.app_armor),)),
    Check("capabilities_baseline", ((1, baseline.capabilities),)),
    Check("hostNamespaces", ((1, baseline.host_namespaces),)),
    Check("hostPathVolumes", ((1, baseline.host_path_volumes),)),
    Check("hostPorts", ((1, baseline.host_ports),)),
    Check("hostProbesAndHostLifecycle", ((34, baseline.host_probes),)),
    Check("privileged", ((1, baseline.privileged),)),
    Check("procMount", ((1, baseline.proc_mount),)),
    Check(
        "seLinuxOptions",
        (
            (1, partial(baseline.se_linux, types=baseline.SELINUX_1)),
            (31, partial(baseline.se_linux, types=baseline.SELINUX_31)),
        ),
    ),
    Check("seccompProfile_baseline", ((1, baseline.seccomp_annotations), (19, baseline.seccomp))),
    Check(
        "sysctls",
        (
            (1, partial(baseline.sysctls, allowed=baseline.SYSCTLS_1)),
            (27, partial(baseline.sysctls, allowed=baseline.SYSCTLS_27)),
            (29, partial(baseline.sysctls, allowed=baseline.SYSCTLS_29)),
            (32, partial(baseline.sysctls, allowed=baseline.SYSCTLS_32)),
        ),
    ),
    Check("windowsHostProcess", ((1, baseline.windows_host_process),)),
)
RESTRICTED = (
    Check(
        "allowPrivilegeEscalation",
        (
            (8, restricted.allow_privilege_escalation),
            (25, _unless_windows(restricted.allow_privilege_escalation)),
        ),
    ),
    Check(
        "capabilities_restricted",
        ((22, restricted.capabilities), (25, _unless_windows(restricted.capabilities))),
        "capabilities_baseline",
    ),
    Check("restrictedVolumes", ((1, restricted.restricted_volumes),), "hostPathVolumes"),
    Check("runAsNonRoot", ((1, restricted.run_as_non_root),)),
    Check("runAsUser", ((23, restricted.run_as_user),)),
    Check(
        "seccompProfile_restricted",
        ((19, restricted.seccomp), (25, _unless_windows(restricted.seccomp))),
        "seccompProfile_baseline",
    ),
)
_NEWEST = 10_000


@lru_cache(maxsize=256)
def _tests(level: str, version: int) -> tuple[Test, ...]:
    at = _NEWEST if version == LATEST else version
    above = [check for check in RESTRICTED if check.at(at) is not None] if level == "restricted" else []
    included = {check.instead_of for check in above}
    checks = [*(check for check in BASELINE if check.name not in included), *above]
    return tuple(test for check in checks if (test := check.at(at)) is not None)


def evaluate(policy: PolicyLevel, metadata: Mapping[str, Any], spec: dict[str, Any]) -> list[Violation]:
    """Everything about a pod that the policy forbids."""
    if policy.level == "privileged":
        return []
    pod = Pod(metadata, spec)
    found = (test(pod) for test in _tests(policy.level, policy.version))
    return [Violation(*finding) for finding in found if finding is not None]


def details(violations: Iterable[Violation]) -> str:
    """``privileged (container "a" must not ...), hostPort (...)``: for somebody who can change the pod."""
    return ", ".join(f"{one.reason} ({one.detail})" if one.detail else one.reason for one in violations)


def reasons(violations: Iterable[Violation]) -> str:
    """``privileged, hostPort``: for somebody who looks at many pods."""
    return ", ".join(one.reason for one in violations)

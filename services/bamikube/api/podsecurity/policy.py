"""The labels of a namespace that say which level its pods are held to, and how.

``pod-security.kubernetes.io/enforce: baseline`` with ``enforce-version: v1.30`` (``latest`` when it is not given); the
same for ``audit`` and ``warn``. What cannot be read counts as ``restricted:latest`` when it is to be enforced, and as
``privileged`` when it would only be told.

Source: Kubernetes' "Pod Security Admission", labels for namespaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bamikube.api.errors import Cause

PREFIX = "pod-security.kubernetes.io/"
LEVELS = ("privileged", "baseline", "restricted")
LATEST = 0  # the version that stands for the newest
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")
_WRONG_LEVEL = "must be one of privileged, baseline, restricted"
_WRONG_VERSION = 'must be "latest" or "v1.x"'


@dataclass(frozen=True, slots=True)
class PolicyLevel:
    """A level and the version of the standards it is meant in: the minor number, or LATEST."""

    level: str = "privileged"
    version: int = LATEST

    def __str__(self) -> str:
        return f"{self.level}:{f'v1.{self.version}' if self.version != LATEST else 'latest'}"


PRIVILEGED = PolicyLevel()


@dataclass(frozen=True, slots=True)
class Policy:
    """What a namespace asks for. ``causes`` are labels that cannot be read."""

    enforce: PolicyLevel = PRIVILEGED
    audit: PolicyLevel = PRIVILEGED
    warn: PolicyLevel = PRIVILEGED
    causes: tuple[Cause, ...] = ()

    @property
    def asks_nothing(self) -> bool:
        return not self.causes and self.all_privileged

    @property
    def all_privileged(self) -> bool:
        return self.enforce.level == self.audit.level == self.warn.level == "privileged"

    @property
    def tells(self) -> bool:
        """Whether what makes pods is looked at, too: nothing of it is enforced there."""
        return bool(self.causes) or not self.audit.level == self.warn.level == "privileged"


NOTHING = Policy()


def policy_of(labels: Mapping[str, str] | None, defaults: Policy = NOTHING) -> Policy:
    """The policy that a namespace's labels ask for, over ``defaults`` where they say nothing."""
    if not labels or not any(name.startswith(PREFIX) for name in labels):
        return defaults
    causes: list[Cause] = []
    modes = [
        _mode(labels, mode, default, causes)
        for mode, default in (
            ("enforce", defaults.enforce),
            ("audit", defaults.audit),
            ("warn", defaults.warn),
        )
    ]
    return Policy(modes[0], modes[1], modes[2], tuple(causes))


def _mode(labels: Mapping[str, str], mode: str, default: PolicyLevel, causes: list[Cause]) -> PolicyLevel:
    level, version = default.level, default.version
    name = f"{PREFIX}{mode}"
    if (given := labels.get(name)) is not None:
        level = given
        if given not in LEVELS:
            level = "restricted" if mode == "enforce" else "privileged"
            causes.append(_wrong(name, given, _WRONG_LEVEL))
    name = f"{PREFIX}{mode}-version"
    if (given := labels.get(name)) is not None:
        if given == "latest":
            version = LATEST
        elif match := _VERSION.fullmatch(given):
            version = int(match[1]) or 1  # the standards of v1.0 are those of v1.1
        else:
            causes.append(_wrong(name, given, _WRONG_VERSION))
    return PolicyLevel(level, version)


def _wrong(label: str, value: str, why: str) -> Cause:
    return Cause("FieldValueInvalid", f'Invalid value: "{value}": {why}', f"metadata.labels[{label}]")


def stricter(new: PolicyLevel, old: PolicyLevel) -> bool:
    """Whether pods that satisfied ``old`` may violate ``new``."""
    if new == old or new.level == "privileged":
        return False
    return new.version != old.version or LEVELS.index(new.level) > LEVELS.index(old.level)


def asked(labels: Mapping[str, str], policy: Policy) -> str:
    """What a namespace's own labels ask for beyond ``privileged``, as ``enforce=baseline:latest, warn=...``."""
    modes = (("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn))
    return ", ".join(
        f"{mode}={level}"
        for mode, level in modes
        if level.level != "privileged"
        and (f"{PREFIX}{mode}" in labels or f"{PREFIX}{mode}-version" in labels)
    )

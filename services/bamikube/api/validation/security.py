"""Rules of security contexts, of pods and of containers. Source: the API reference, "Pod Security Context"."""

from __future__ import annotations

import re
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.validation.rules import (
    duplicate,
    forbidden,
    invalid,
    not_supported,
    one_of,
    required,
)

_ID_RANGE = "must be between 0 and 2147483647, inclusive"
_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
LONGEST_SYSCTL = 253


def _identity(field: str, value: int | None) -> list[Cause]:
    return [] if value is None or 0 <= value <= 2**31 - 1 else [invalid(field, value, _ID_RANGE)]


def profile(field: str, given: dict[str, Any] | None) -> list[Cause]:
    """A seccomp or AppArmor profile: Localhost names a file, the others do not."""
    if given is None:
        return []
    kind, local = given.get("type"), given.get("localhostProfile")
    seccomp = field.endswith("seccompProfile")
    causes = one_of(f"{field}.type", kind, ("Localhost", "RuntimeDefault", "Unconfined"))
    if kind == "Localhost":
        if not local:
            what = "seccomp" if seccomp else "AppArmor"
            causes.append(required(f"{field}.localhostProfile", f"must be set when {what} type is Localhost"))
        elif local.startswith("/") and seccomp:
            causes.append(invalid(f"{field}.localhostProfile", local, "must be a relative path"))
        elif ".." in local.split("/") and seccomp:
            causes.append(invalid(f"{field}.localhostProfile", local, "must not contain '..'"))
    elif local is not None:
        detail = f"can only be set when {'seccomp ' if seccomp else ''}type is Localhost"
        causes.append(invalid(f"{field}.localhostProfile", local, detail))
    return causes


def _sysctls(field: str, sysctls: list[dict[str, Any]], context: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, each in enumerate(sysctls):
        path, name = f"{field}[{index}].name", each.get("name") or ""
        if not name:
            causes.append(required(path))
        elif not _SYSCTL.fullmatch(name) or len(name) > LONGEST_SYSCTL:
            detail = f"must have at most {LONGEST_SYSCTL} characters and match regex ^{_SYSCTL.pattern}$"
            causes.append(invalid(path, name, detail))
        elif name in names:
            causes.append(duplicate(path, name))
        names.add(name)
        host = "hostNetwork" if name.startswith("net.") else "hostIPC" if name.startswith("kernel.") else ""
        if host and context.get(host):
            causes.append(invalid(path, name, f"may not be specified when '{host}' is true"))
    return causes


def pod_context(field: str, spec: dict[str, Any]) -> list[Cause]:
    """``spec.securityContext`` of a pod, which also has to fit to what the pod shares with its host."""
    context = spec.get("securityContext")
    if not context:
        return []
    causes: list[Cause] = []
    for name in ("fsGroup", "runAsUser", "runAsGroup"):
        if context.get(name) is not None:
            causes += _identity(f"{field}.{name}", context[name])
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        causes += _identity(f"{field}.supplementalGroups[{index}]", group)
    for name, words in (
        ("fsGroupChangePolicy", ("Always", "OnRootMismatch")),
        ("supplementalGroupsPolicy", ("Merge", "Strict")),
        ("seLinuxChangePolicy", ("MountOption", "Recursive")),
    ):
        if context.get(name) is not None:
            causes += one_of(f"{field}.{name}", context[name], words)
    if context.get("sysctls"):
        causes += _sysctls(f"{field}.sysctls", context["sysctls"], spec)
    causes += profile(f"{field}.seccompProfile", context.get("seccompProfile"))
    causes += profile(f"{field}.appArmorProfile", context.get("appArmorProfile"))
    return causes


def container_context(field: str, context: dict[str, Any]) -> list[Cause]:
    """``securityContext`` of a container."""
    causes: list[Cause] = []
    for name in ("runAsUser", "runAsGroup"):
        if context.get(name) is not None:
            causes += _identity(f"{field}.{name}", context[name])
    if context.get("procMount") is not None and context["procMount"] not in ("Default", "Unmasked"):
        causes.append(not_supported(f"{field}.procMount", context["procMount"], ("Default", "Unmasked")))
    causes += profile(f"{field}.seccompProfile", context.get("seccompProfile"))
    causes += profile(f"{field}.appArmorProfile", context.get("appArmorProfile"))
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            causes.append(invalid(field, context, detail))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            causes.append(invalid(field, context, detail))
    return causes


def proc_mount(field: str, context: dict[str, Any], spec: dict[str, Any]) -> list[Cause]:
    """A container sees all of /proc only in a pod that has users of its own, to whom that is no danger."""
    if context.get("procMount") != "Unmasked" or spec.get("hostUsers") is False:
        return []
    return [invalid(f"{field}.procMount", "Unmasked", "`hostUsers` must be false to use `Unmasked`")]


def host_sharing(field: str, spec: dict[str, Any]) -> list[Cause]:
    """What a pod shares with its host must be possible together."""
    causes: list[Cause] = []
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        causes.append(invalid(f"{field}.shareProcessNamespace", True, detail))
    if spec.get("hostUsers") is False:
        causes += [
            forbidden(f"{field}.{name}", "when `hostUsers` is false")
            for name in ("hostNetwork", "hostPID", "hostIPC")
            if spec.get(name)
        ]
        # A raw device cannot be mounted with other owners, as volumes are.
        causes += [
            forbidden(f"{field}.{kind}[{index}].volumeDevices", "when `hostUsers` is false")
            for kind in ("containers", "initContainers", "ephemeralContainers")
            for index, each in enumerate(spec.get(kind) or ())
            if each.get("volumeDevices")
        ]
    return causes

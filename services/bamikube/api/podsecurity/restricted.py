"""What the restricted level demands on top: no root, no new privileges, no capabilities, a seccomp profile.

Source: Kubernetes' "Pod Security Standards", Restricted.
"""

from __future__ import annotations

from bamikube.api.podsecurity.baseline import PROFILES, Finding, seccomp_type
from bamikube.api.podsecurity.baseline import seccomp as seccomp_baseline
from bamikube.api.podsecurity.pod import Pod, context_of, named, plural, quoted, setters

VOLUMES = frozenset(
    [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ]
)


def allow_privilege_escalation(pod: Pod) -> Finding | None:
    bad = [one for one in pod.containers if context_of(one).get("allowPrivilegeEscalation") is not False]
    if not bad:
        return None
    return (
        "allowPrivilegeEscalation != false",
        f"{named(bad)} must set securityContext.allowPrivilegeEscalation=false",
    )


def capabilities(pod: Pod) -> Finding | None:
    keeping, adding = [], []
    wrong: set[str] = set()
    for container in pod.containers:
        listed = context_of(container).get("capabilities") or {}
        if "ALL" not in (listed.get("drop") or ()):
            keeping.append(container)
        added = set(listed.get("add") or ()) - {"NET_BIND_SERVICE"}
        if added:
            adding.append(container)
            wrong |= added
    what = []
    if keeping:
        what.append(f'{named(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        words = quoted(sorted(wrong))
        what.append(f"{named(adding)} must not include {words} in securityContext.capabilities.add")
    return ("unrestricted capabilities", "; ".join(what)) if what else None


def restricted_volumes(pod: Pod) -> Finding | None:
    names: list[str] = []
    kinds: set[str] = set()
    for volume in pod.spec.get("volumes") or ():
        sources = [name for name, value in volume.items() if name != "name" and value is not None]
        if not any(source in VOLUMES for source in sources):
            names.append(str(volume.get("name", "")))
            kinds.add(sources[0] if sources else "unknown")
    if not names:
        return None
    listed = sorted(kinds)
    verb = plural("uses", "use", names)
    noun = plural("restricted volume type", "restricted volume types", listed)
    detail = f"{plural('volume', 'volumes', names)} {quoted(names)} {verb} {noun} {quoted(listed)}"
    return "restricted volume types", detail


def run_as_non_root(pod: Pod) -> Finding | None:
    reason = "runAsNonRoot != true"
    whole = pod.context.get("runAsNonRoot")
    said = [(one, context_of(one).get("runAsNonRoot")) for one in pod.containers]
    who = setters(whole is False, [one for one, value in said if value is False])
    if who:
        return reason, f"{who} must not set securityContext.runAsNonRoot=false"
    silent = [one for one, value in said if value is None] if whole is not True else []
    if silent:
        return reason, f"pod or {named(silent)} must set securityContext.runAsNonRoot=true"
    return None


def run_as_user(pod: Pod) -> Finding | None:
    root = [one for one in pod.containers if context_of(one).get("runAsUser") == 0]
    who = setters(pod.context.get("runAsUser") == 0, root)
    return ("runAsUser=0", f"{who} must not set runAsUser=0") if who else None


def seccomp(pod: Pod) -> Finding | None:
    if found := seccomp_baseline(pod):
        return found
    whole = seccomp_type(pod.context) in PROFILES
    silent = [one for one in pod.containers if not whole and seccomp_type(context_of(one)) is None]
    if not silent:
        return None
    wanted = f'pod or {named(silent)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return "seccompProfile", wanted


def not_on_windows(pod: Pod) -> bool:
    """Since 1.25 these checks are not for pods that say they are Windows."""
    return not pod.windows

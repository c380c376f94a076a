"""Security contexts: what a pod and a container ask for, merged into what the runtime is told.

The container's field wins over the pod's. Source: "Configure a Security Context", KEP-2413 (seccomp default stays
Unconfined unless asked for), KEP-24 (AppArmor by annotation, for static pods that no API server has read), and the rule
that CAP_SYS_ADMIN and privileged imply privilege escalation. Options for Windows mean nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bamikube.nodeagent.container.env import ConfigError
from bamikube.nodeagent.pod.facts import JSON, full_name
from bamikube.nodeagent.runtime.port import Handler, IdMap, Image, Namespaces, Profile

# What a container must not see or change below /proc and /sys unless procMount says otherwise.
MASKED = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
LARGEST = 2**31 - 1  # user id
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"  # + the container's name: the annotation before the field


@dataclass(frozen=True, slots=True)
class NodeSecurity:
    """What the node adds: where seccomp profiles lie, whether a container that names none gets the runtime's
    (``--seccomp-default``), and what of this machine is hidden beside the usual."""

    profiles: str = "/var/lib/kubelet/seccomp"
    seccomp_default: bool = False
    masked: tuple[str, ...] = ()


def effective(pod: JSON, spec: JSON, name: str) -> object:
    """A field of the container's security context, else of the pod's."""
    own = (spec.get("securityContext") or {}).get(name)
    return own if own is not None else (pod["spec"].get("securityContext") or {}).get(name)


def user(pod: JSON, spec: JSON, image: Image | None) -> tuple[int | None, str, int | None]:
    """uid, user name, gid for the runtime. Raises ConfigError where runAsNonRoot is violated."""
    asked = effective(pod, spec, "runAsUser")
    gid = effective(pod, spec, "runAsGroup")
    uid, name = asked, ""
    if uid is None and image is not None:
        uid, name = image.uid, image.username
    if effective(pod, spec, "runAsNonRoot"):
        _not_root(pod, spec, asked, uid, name)
    if uid is not None:
        name = ""
    if gid is not None and uid is None and not name:
        uid = 0
    return (
        int(uid) if isinstance(uid, int) else None,
        name,
        int(gid) if isinstance(gid, int) else None,
    )


def _not_root(pod: JSON, spec: JSON, asked: object, uid: object, name: str) -> None:
    where = f'(pod: "{full_name(pod)}", container: {spec["name"]})'
    if asked is not None:
        if asked == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    elif uid is None and name:
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {where}"
        )
    elif not uid:  # an image that names nobody runs as root
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    elif isinstance(uid, int) and not 0 < uid <= LARGEST:
        raise ConfigError(
            f"container has runAsNonRoot and image has an invalid user id ({uid}). (Must be 1-({LARGEST})): "
            f"must be between 0 and {LARGEST}, inclusive {where}"
        )


def own_users(pod: JSON) -> bool:
    """Whether the pod's users are to be others than the machine's (KEP-127)."""
    return pod["spec"].get("hostUsers") is False


def check_user_namespace(handler: str, told: Iterable[Handler]) -> None:
    """Refuse users of a pod's own where the runtime's way to run it cannot map them. Raises ConfigError.

    A runtime that tells of no handler at all is older than the question: it has its usual one, which cannot.
    """
    able = {"": False} | {each.name: each.user_namespaces for each in told}
    if able.get(handler):
        return
    who = f'RuntimeClass handler "{handler}"' if handler else "runtime"
    text = f"can't set `spec.hostUsers: false`, {who} does not support user namespaces"
    raise ConfigError(text if handler in able else f'{text}: the handler "{handler}" is not known')


def supplemental_groups(pod: JSON) -> tuple[int, ...]:
    """The group of its volumes first, then the others it asks for."""
    context = pod["spec"].get("securityContext") or {}
    first = [context["fsGroup"]] if context.get("fsGroup") is not None else []
    return tuple(dict.fromkeys(int(group) for group in (*first, *(context.get("supplementalGroups") or ()))))


def strict_groups(pod: JSON) -> bool:
    """Whether the groups that the image gives its user are to stay out."""
    return (pod["spec"].get("securityContext") or {}).get("supplementalGroupsPolicy") == "Strict"


def seccomp(pod: JSON, spec: JSON, node: NodeSecurity) -> Profile:
    """The seccomp profile. Raises ConfigError for one on the node that has no name."""
    chosen = effective(pod, spec, "seccompProfile")
    if not isinstance(chosen, dict):
        return Profile("RuntimeDefault" if node.seccomp_default else "Unconfined")
    if chosen.get("type") != "Localhost":
        return Profile(str(chosen.get("type") or "Unconfined"))
    if not chosen.get("localhostProfile"):
        raise ConfigError("localhostProfile must be set if seccompProfile type is Localhost.")
    return Profile("Localhost", f"{node.profiles}/{chosen['localhostProfile']}")


def apparmor(pod: JSON, spec: JSON) -> Profile | None:
    """The AppArmor profile, None for the runtime's own choice: the container's field, its annotation, the pod's field."""
    chosen = (spec.get("securityContext") or {}).get("appArmorProfile")
    if chosen is None and (text := (pod["metadata"].get("annotations") or {}).get(APPARMOR + spec["name"])):
        kind, _, name = text.partition("/")
        known = {"runtime/default": "RuntimeDefault", "unconfined": "Unconfined"}.get(text)
        if known is None and (kind != "localhost" or not name):
            return None
        return Profile(known) if known else Profile("Localhost", name)
    if chosen is None:
        chosen = (pod["spec"].get("securityContext") or {}).get("appArmorProfile")
    if chosen is None:
        return None
    if chosen.get("type") == "Localhost" and not chosen.get("localhostProfile"):
        raise ConfigError("missing localhost apparmor profile name")
    return Profile(str(chosen.get("type")), str(chosen.get("localhostProfile") or ""))


def hidden(spec: JSON, node: NodeSecurity) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The paths that are masked and those that are read-only; none for a container that may see all."""
    if privileged(spec) or (spec.get("securityContext") or {}).get("procMount") == "Unmasked":
        return (), ()
    return (*MASKED, *node.masked), READONLY


def privileged(spec: JSON) -> bool:
    return bool((spec.get("securityContext") or {}).get("privileged"))


def no_new_privs(spec: JSON) -> bool:
    context = spec.get("securityContext") or {}
    return context.get("allowPrivilegeEscalation") is False


def capabilities(spec: JSON) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Added and dropped, without the CAP_ prefix, which the runtime adds."""
    chosen = (spec.get("securityContext") or {}).get("capabilities") or {}
    add, drop = chosen.get("add") or (), chosen.get("drop") or ()
    return (
        tuple(str(c).upper().removeprefix("CAP_") for c in add),
        tuple(str(c).upper().removeprefix("CAP_") for c in drop),
    )


def namespaces(pod: JSON, users: IdMap | None = None) -> Namespaces:
    spec = pod["spec"]
    pid = "node" if spec.get("hostPID") else "pod" if spec.get("shareProcessNamespace") else "container"
    return Namespaces(
        network="node" if spec.get("hostNetwork") else "pod",
        pid=pid,  # type: ignore[arg-type]
        ipc="node" if spec.get("hostIPC") else "pod",
        users=users,
    )

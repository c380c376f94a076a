"""Security contexts: what a pod and a container ask for, merged into what the runtime is told.

The container's field wins over the pod's. Source: "Configure a Security Context", KEP-2413 (seccomp default stays
Unconfined unless asked for), and the rule that CAP_SYS_ADMIN and privileged imply privilege escalation.
"""

from __future__ import annotations

from bamikube.nodeagent.container.env import ConfigError
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import Image, Namespaces, Profile

# What a container must not see or change below /proc and /sys unless procMount says otherwise.
MASKED = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def effective(pod: JSON, spec: JSON, name: str) -> object:
    """A field of the container's security context, else of the pod's."""
    own = (spec.get("securityContext") or {}).get(name)
    return own if own is not None else (pod["spec"].get("securityContext") or {}).get(name)


def user(pod: JSON, spec: JSON, image: Image | None) -> tuple[int | None, str, int | None]:
    """uid, user name, gid for the runtime. Raises ConfigError where runAsNonRoot is violated."""
    uid = effective(pod, spec, "runAsUser")
    gid = effective(pod, spec, "runAsGroup")
    name = ""
    if uid is None and image is not None:
        uid, name = image.uid, image.username
    if effective(pod, spec, "runAsNonRoot"):
        if uid == 0 or (uid is None and not name):
            raise ConfigError(
                "container has runAsNonRoot and image will run as root "
                f'(pod: "{pod["metadata"]["name"]}_{pod["metadata"].get("namespace", "")}", container: {spec["name"]})'
            )
        if uid is None and name:
            raise ConfigError(
                f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
            )
    if uid is not None:
        name = ""
    if gid is not None and uid is None and not name:
        uid = 0
    return (
        int(uid) if isinstance(uid, int) else None,
        name,
        int(gid) if isinstance(gid, int) else None,
    )


def supplemental_groups(pod: JSON) -> tuple[int, ...]:
    context = pod["spec"].get("securityContext") or {}
    groups = [int(g) for g in context.get("supplementalGroups") or ()]
    if context.get("fsGroup") is not None:
        groups.append(int(context["fsGroup"]))
    return tuple(dict.fromkeys(groups))


def profile(source: object) -> Profile:
    """A seccompProfile or appArmorProfile; nothing given means Unconfined."""
    if not isinstance(source, dict):
        return Profile("Unconfined")
    return Profile(str(source.get("type", "Unconfined")), str(source.get("localhostProfile") or ""))


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


def namespaces(pod: JSON) -> Namespaces:
    spec = pod["spec"]
    pid = "node" if spec.get("hostPID") else "pod" if spec.get("shareProcessNamespace") else "container"
    return Namespaces(
        network="node" if spec.get("hostNetwork") else "pod",
        pid=pid,  # type: ignore[arg-type]
        ipc="node" if spec.get("hostIPC") else "pod",
    )

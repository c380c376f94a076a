"""What the baseline level forbids: known ways from a container to its host.

Each check takes a :class:`Pod` and returns why it is forbidden (reason, detail), or None.

Source: Kubernetes' "Pod Security Standards", Baseline.
"""

from __future__ import annotations

from collections.abc import Collection

from bamikube.api.podsecurity.pod import Object, Pod, context_of, named, plural, quoted, setters

Finding = tuple[str, str]

APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP = "container.seccomp.security.alpha.kubernetes.io/"
PROFILES = ("RuntimeDefault", "Localhost")

CAPABILITIES = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
SYSCTLS_1 = frozenset(
    [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
    ]
)
SYSCTLS_27 = SYSCTLS_1 | {"net.ipv4.ip_local_reserved_ports"}
SYSCTLS_29 = SYSCTLS_27 | frozenset(
    [
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    ]
)
SYSCTLS_32 = SYSCTLS_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}
SELINUX_1 = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})
SELINUX_31 = SELINUX_1 | {"container_engine_t"}


def app_armor(pod: Pod) -> Finding | None:
    values: set[str] = set()

    def bad(holder: Object) -> bool:
        kind = (holder.get("appArmorProfile") or {}).get("type")
        if kind is None or kind in PROFILES:
            return False
        values.add(kind)
        return True

    who = [setters(bad(pod.context), [one for one in pod.containers if bad(context_of(one))])]
    notes = [
        f'{name}="{value}"'
        for name, value in sorted(pod.annotations.items())
        if name.startswith(APPARMOR)
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    ]
    if notes:
        names = [note.partition("=")[0] for note in notes]
        values.update(pod.annotations[name] for name in names)
        who.append(f"{plural('annotation', 'annotations', notes)} {quoted(names)}")
    text = " and ".join(part for part in who if part)
    if not text:
        return None
    listed = sorted(values)
    reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", listed)
    return reason, f"{text} must not set AppArmor profile type to {quoted(listed)}"


def capabilities(pod: Pod) -> Finding | None:
    wrong: set[str] = set()
    bad = []
    for container in pod.containers:
        added = set((context_of(container).get("capabilities") or {}).get("add") or ()) - CAPABILITIES
        if added:
            wrong |= added
            bad.append(container)
    if not bad:
        return None
    return (
        "non-default capabilities",
        f"{named(bad)} must not include {quoted(sorted(wrong))} in securityContext.capabilities.add",
    )


def host_namespaces(pod: Pod) -> Finding | None:
    shared = [f"{name}=true" for name in ("hostIPC", "hostNetwork", "hostPID") if pod.spec.get(name)]
    return ("host namespaces", ", ".join(shared)) if shared else None


def host_path_volumes(pod: Pod) -> Finding | None:
    names = [
        str(volume.get("name", ""))
        for volume in pod.spec.get("volumes") or ()
        if volume.get("hostPath") is not None
    ]
    return ("hostPath volumes", f"{plural('volume', 'volumes', names)} {quoted(names)}") if names else None


def host_ports(pod: Pod) -> Finding | None:
    ports: set[str] = set()
    bad = []
    for container in pod.containers:
        used = {str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")}
        if used:
            ports |= used
            bad.append(container)
    if not bad:
        return None
    listed = sorted(ports)
    verb, noun = plural("uses", "use", bad), plural("hostPort", "hostPorts", listed)
    return "hostPort", f"{named(bad)} {verb} {noun} {', '.join(listed)}"


def host_probes(pod: Pod) -> Finding | None:
    """Since 1.34: a probe is a request of the node agent's; it must not go to a host of the pod's choosing."""
    hosts: set[str] = set()
    bad = []
    for container in pod.containers:
        lifecycle = container.get("lifecycle") or {}
        handlers = [
            *(container.get(name) for name in ("livenessProbe", "readinessProbe", "startupProbe")),
            *(lifecycle.get(name) for name in ("postStart", "preStop")),
        ]
        found = {
            str(host)
            for handler in handlers
            for action in ("httpGet", "tcpSocket")
            if (host := ((handler or {}).get(action) or {}).get("host"))
        }
        if found:
            hosts |= found
            bad.append(container)
    if not bad:
        return None
    listed = sorted(hosts)
    noun = plural("probe or lifecycle host", "probe or lifecycle hosts", listed)
    return "probe or lifecycle host", f"{named(bad)} {plural('uses', 'use', bad)} {noun} {quoted(listed)}"


def privileged(pod: Pod) -> Finding | None:
    bad = [one for one in pod.containers if context_of(one).get("privileged")]
    return ("privileged", f"{named(bad)} must not set securityContext.privileged=true") if bad else None


def proc_mount(pod: Pod) -> Finding | None:
    bad = [one for one in pod.containers if context_of(one).get("procMount", "Default") != "Default"]
    if not bad:
        return None
    values = sorted({str(context_of(one)["procMount"]) for one in bad})
    return "procMount", f"{named(bad)} must not set securityContext.procMount to {quoted(values)}"


def se_linux(pod: Pod, types: Collection[str]) -> Finding | None:
    wrong: set[str] = set()
    fields: set[str] = set()

    def bad(holder: Object) -> bool:
        options = holder.get("seLinuxOptions") or {}
        kind = options.get("type") or ""
        if kind not in types:
            wrong.add(kind)
        named_too = {field for field in ("user", "role") if options.get(field)}
        fields.update(named_too)
        return kind not in types or bool(named_too)

    who = setters(bad(pod.context), [one for one in pod.containers if bad(context_of(one))])
    if not who:
        return None
    listed = sorted(wrong)
    what = [f"{plural('type', 'types', listed)} {quoted(listed)}"] if listed else []
    what += [f"{field} may not be set" for field in ("user", "role") if field in fields]
    return "seLinuxOptions", f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(what)}"


def seccomp_annotations(pod: Pod) -> Finding | None:
    """Before 1.19 profiles were annotations."""
    names = [SECCOMP_POD, *(f"{SECCOMP}{one.get('name', '')}" for one in pod.containers)]
    bad = sorted(
        f'{name}="{value}"'
        for name in dict.fromkeys(names)
        if (value := pod.annotations.get(name)) is not None
        and value not in ("runtime/default", "docker/default")
        and not value.startswith("localhost/")
    )
    if not bad:
        return None
    return "seccompProfile", f"forbidden {plural('annotation', 'annotations', bad)} {', '.join(bad)}"


def seccomp_type(holder: Object) -> str | None:
    """The type of the profile a pod or a container sets; None when it sets none."""
    profile = holder.get("seccompProfile")
    return None if profile is None else str(profile.get("type") or "")


def seccomp(pod: Pod) -> Finding | None:
    values: set[str] = set()

    def bad(holder: Object) -> bool:
        kind = seccomp_type(holder)
        if kind is None or kind in PROFILES:
            return False
        values.add(kind)
        return True

    who = setters(bad(pod.context), [one for one in pod.containers if bad(context_of(one))])
    if not who:
        return None
    return (
        "seccompProfile",
        f"{who} must not set securityContext.seccompProfile.type to {quoted(sorted(values))}",
    )


def sysctls(pod: Pod, allowed: Collection[str]) -> Finding | None:
    names = [str(one.get("name", "")) for one in pod.context.get("sysctls") or ()]
    bad = [name for name in names if name not in allowed]
    return ("forbidden sysctls", ", ".join(bad)) if bad else None


def windows_host_process(pod: Pod) -> Finding | None:
    def bad(holder: Object) -> bool:
        return bool((holder.get("windowsOptions") or {}).get("hostProcess"))

    who = setters(bad(pod.context), [one for one in pod.containers if bad(context_of(one))])
    if not who:
        return None
    return "hostProcess", f"{who} must not set securityContext.windowsOptions.hostProcess=true"

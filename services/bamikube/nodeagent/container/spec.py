"""From a pod to the runtime's configuration of its sandbox and its containers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bamikube.nodeagent import labels
from bamikube.nodeagent.container import dns, security
from bamikube.nodeagent.container.env import expand
from bamikube.nodeagent.pod import facts, qos
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.kernel import Kernel
from bamikube.nodeagent.pod.sysctls import plain
from bamikube.nodeagent.runtime.port import (
    ContainerSpec,
    Device,
    IdMap,
    Image,
    Mount,
    PortMapping,
    Profile,
    SandboxSpec,
)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What of the node's configuration enters pods."""

    name: str
    cluster_dns: tuple[str, ...] = ()
    domain: str = "cluster.local"
    resolver: dns.Resolver = field(default_factory=dns.Resolver)
    kernel: Kernel = field(default_factory=Kernel)
    security: security.NodeSecurity = field(default_factory=security.NodeSecurity)


def sandbox_spec(
    pod: JSON,
    attempt: int,
    node: NodeFacts,
    *,
    cgroup_parent: str,
    log_directory: str,
    runtime_handler: str = "",
    users: IdMap | None = None,
) -> SandboxSpec:
    """What RunPodSandbox is told."""
    meta, spec = pod["metadata"], pod["spec"]
    context = spec.get("securityContext") or {}
    names = dns.resolver(pod, node=node.resolver, cluster_dns=node.cluster_dns, domain=node.domain)
    host = dns.own_name(pod, node.name, node.domain)
    ports = tuple(
        PortMapping(
            int(p["containerPort"]), int(p["hostPort"]), p.get("protocol", "TCP"), p.get("hostIP", "")
        )
        for c in facts.all_containers(pod)
        for p in c.get("ports") or ()
        if p.get("hostPort") and not facts.host_network(pod)
    )
    return SandboxSpec(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        attempt=attempt,
        hostname="" if facts.host_network(pod) else host,
        log_directory=log_directory,
        labels=pod_labels(pod) | dict(meta.get("labels") or {}),
        annotations=dict(meta.get("annotations") or {}),
        dns_servers=names.servers,
        dns_searches=names.searches,
        dns_options=names.options,
        ports=ports,
        cgroup_parent=cgroup_parent,
        namespaces=security.namespaces(pod, users),
        sysctls={plain(s["name"]): s["value"] for s in context.get("sysctls") or ()},
        # Also for those that come later: a runtime allows what the configuration says that goes with a container.
        privileged=any(
            security.privileged(c) for c in (*facts.all_containers(pod), *facts.ephemeral_containers(pod))
        ),
        run_as_user=context.get("runAsUser"),
        run_as_group=context.get("runAsGroup") if context.get("runAsUser") is not None else None,
        supplemental_groups=security.supplemental_groups(pod),
        strict_groups=security.strict_groups(pod),
        seccomp=Profile("RuntimeDefault"),
        runtime_handler=runtime_handler,
        resources=qos.sandbox_resources(pod, node.kernel),
        overhead=qos.overhead(pod, node.kernel),
    )


def pod_labels(pod: JSON) -> dict[str, str]:
    meta = pod["metadata"]
    return {
        labels.POD_NAME: meta["name"],
        labels.POD_NAMESPACE: meta["namespace"],
        labels.POD_UID: meta["uid"],
    }


def log_path(name: str, attempt: int) -> str:
    """A container's log below the pod's log folder."""
    return f"{name}/{attempt}.log"


def container_spec(
    pod: JSON,
    spec: JSON,
    attempt: int,
    *,
    environment: Mapping[str, str],
    mounts: tuple[Mount, ...],
    devices: tuple[Device, ...] = (),
    image: Image | None,
    image_ref: str,
    node: NodeFacts,
    users: IdMap | None = None,
) -> ContainerSpec:
    """What CreateContainer is told. Raises ConfigError where the security context cannot be met."""
    uid, username, gid = security.user(pod, spec, image)
    add, drop = security.capabilities(spec)
    masked, readonly = security.hidden(spec, node.security)

    def text(value: str) -> str:
        return expand(value, environment.get)

    return ContainerSpec(
        name=spec["name"],
        attempt=attempt,
        image=image_ref,
        command=tuple(text(part) for part in spec.get("command") or ()),
        args=tuple(text(part) for part in spec.get("args") or ()),
        working_dir=spec.get("workingDir") or "",
        env=tuple(environment.items()),
        mounts=mounts,
        devices=devices,
        labels=pod_labels(pod) | {labels.CONTAINER_NAME: spec["name"]},
        annotations={
            labels.CONTAINER_HASH: facts.fingerprint(spec),
            labels.RESTART_COUNT: str(attempt),
            labels.TERMINATION_PATH: spec.get("terminationMessagePath") or "/dev/termination-log",
            labels.TERMINATION_POLICY: spec.get("terminationMessagePolicy") or "File",
        },
        log_path=log_path(spec["name"], attempt),
        stdin=bool(spec.get("stdin")),
        stdin_once=bool(spec.get("stdinOnce")),
        tty=bool(spec.get("tty")),
        resources=qos.container_resources(pod, spec, node.kernel),
        privileged=security.privileged(spec),
        namespaces=security.namespaces(pod, users),
        run_as_user=uid,
        run_as_username=username,
        run_as_group=gid,
        supplemental_groups=security.supplemental_groups(pod),
        strict_groups=security.strict_groups(pod),
        read_only_root=bool((spec.get("securityContext") or {}).get("readOnlyRootFilesystem")),
        no_new_privs=security.no_new_privs(spec),
        add_capabilities=add,
        drop_capabilities=drop,
        masked_paths=masked,
        readonly_paths=readonly,
        seccomp=security.seccomp(pod, spec, node.security),
        apparmor=security.apparmor(pod, spec),
    )

"""Messages of CRI from the runtime port's own forms, and those forms from messages. Pure.

A field that is not known to an older runtime is passed over there; one that an older runtime does not send has its zero here.
"""

from __future__ import annotations

from typing import Any

from bamikube.nodeagent.runtime.port import (
    ContainerSpec,
    ContainerState,
    IdMap,
    Image,
    Namespaces,
    Profile,
    Resources,
    Sandbox,
    SandboxSpec,
    User,
)
from bamikube.rpc.cri import cri_pb2 as pb

STATES: dict[int, ContainerState] = {0: "created", 1: "running", 2: "exited", 3: "unknown"}
_NAMESPACES = {"pod": pb.POD, "container": pb.CONTAINER, "node": pb.NODE, "target": pb.TARGET}
_PROPAGATION = {
    "None": pb.PROPAGATION_PRIVATE,
    "HostToContainer": pb.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": pb.PROPAGATION_BIDIRECTIONAL,
}
_PROTOCOLS = {"TCP": pb.TCP, "UDP": pb.UDP, "SCTP": pb.SCTP}
_PROFILES = {
    "RuntimeDefault": pb.SecurityProfile.RuntimeDefault,
    "Unconfined": pb.SecurityProfile.Unconfined,
    "Localhost": pb.SecurityProfile.Localhost,
}


def sandbox(item: Any, ips: tuple[str, ...] = ()) -> Sandbox:
    return Sandbox(
        id=item.id,
        name=item.metadata.name,
        namespace=item.metadata.namespace,
        uid=item.metadata.uid,
        attempt=item.metadata.attempt,
        ready=item.state == pb.SANDBOX_READY,
        created_at=item.created_at / 1e9,
        labels=dict(item.labels),
        ips=ips,
    )


def image(item: Any) -> Image:
    return Image(
        id=item.id,
        tags=tuple(item.repo_tags),
        digests=tuple(item.repo_digests),
        size=item.size,
        uid=item.uid.value if item.HasField("uid") else None,
        username=item.username,
        pinned=item.pinned,
    )


def user(item: Any) -> User:
    return User(item.uid, item.gid, tuple(item.supplemental_groups))


def _number(value: int | None) -> Any:
    return None if value is None else pb.Int64Value(value=value)


def _profile(profile: Profile) -> Any:
    return pb.SecurityProfile(profile_type=_PROFILES[profile.type], localhost_ref=profile.localhost)


def _id_maps(users: IdMap | None) -> list[Any]:
    return [pb.IDMapping(host_id=users.first, container_id=0, length=users.length)] if users else []


def _namespaces(namespaces: Namespaces) -> Any:
    mode, maps = "pod" if namespaces.users else "node", _id_maps(namespaces.users)
    return pb.NamespaceOption(
        network=_NAMESPACES[namespaces.network],
        pid=_NAMESPACES[namespaces.pid],
        ipc=_NAMESPACES[namespaces.ipc],
        target_id=namespaces.target,
        userns_options=pb.UserNamespace(mode=_NAMESPACES[mode], uids=maps, gids=maps),
    )


def resources(resources: Resources) -> Any:
    return pb.LinuxContainerResources(
        cpu_shares=resources.cpu_shares,
        cpu_quota=resources.cpu_quota,
        cpu_period=resources.cpu_period,
        memory_limit_in_bytes=resources.memory_limit,
        oom_score_adj=resources.oom_score_adj,
        cpuset_cpus=resources.cpus,
        cpuset_mems=resources.memories,
        hugepage_limits=[pb.HugepageLimit(page_size=size, limit=most) for size, most in resources.huge_pages],
        unified=dict(resources.unified),
        memory_swap_limit_in_bytes=resources.swap_limit,
    )


def sandbox_config(spec: SandboxSpec) -> Any:
    return pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(
            name=spec.name, uid=spec.uid, namespace=spec.namespace, attempt=spec.attempt
        ),
        hostname=spec.hostname,
        log_directory=spec.log_directory,
        dns_config=pb.DNSConfig(
            servers=spec.dns_servers, searches=spec.dns_searches, options=spec.dns_options
        ),
        port_mappings=[
            pb.PortMapping(
                protocol=_PROTOCOLS[port.protocol],
                container_port=port.container_port,
                host_port=port.host_port,
                host_ip=port.host_ip,
            )
            for port in spec.ports
        ],
        labels=dict(spec.labels),
        annotations=dict(spec.annotations),
        linux=pb.LinuxPodSandboxConfig(
            cgroup_parent=spec.cgroup_parent,
            sysctls=dict(spec.sysctls),
            security_context=pb.LinuxSandboxSecurityContext(
                namespace_options=_namespaces(spec.namespaces),
                privileged=spec.privileged,
                run_as_user=_number(spec.run_as_user),
                run_as_group=_number(spec.run_as_group),
                supplemental_groups=spec.supplemental_groups,
                supplemental_groups_policy=pb.Strict if spec.strict_groups else pb.Merge,
                seccomp=_profile(spec.seccomp),
            ),
            resources=resources(spec.resources) if spec.resources != Resources() else None,
            overhead=resources(spec.overhead) if spec.overhead != Resources() else None,
        ),
    )


def container_config(spec: ContainerSpec) -> Any:
    security = pb.LinuxContainerSecurityContext(
        capabilities=pb.Capability(
            add_capabilities=spec.add_capabilities, drop_capabilities=spec.drop_capabilities
        ),
        privileged=spec.privileged,
        namespace_options=_namespaces(spec.namespaces),
        run_as_user=_number(spec.run_as_user),
        run_as_username=spec.run_as_username,
        run_as_group=_number(spec.run_as_group),
        supplemental_groups=spec.supplemental_groups,
        supplemental_groups_policy=pb.Strict if spec.strict_groups else pb.Merge,
        readonly_rootfs=spec.read_only_root,
        no_new_privs=spec.no_new_privs,
        masked_paths=spec.masked_paths,
        readonly_paths=spec.readonly_paths,
        seccomp=_profile(spec.seccomp),
        apparmor=_profile(spec.apparmor) if spec.apparmor else None,
    )
    maps = _id_maps(spec.namespaces.users)
    return pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name=spec.name, attempt=spec.attempt),
        image=pb.ImageSpec(image=spec.image),
        command=spec.command,
        args=spec.args,
        working_dir=spec.working_dir,
        envs=[pb.KeyValue(key=key, value=value) for key, value in spec.env],
        mounts=[
            pb.Mount(
                container_path=mount.container_path,
                host_path=mount.host_path,
                readonly=mount.read_only,
                propagation=_PROPAGATION[mount.propagation],
                uidMappings=maps if mount.mapped else (),
                gidMappings=maps if mount.mapped else (),
            )
            for mount in spec.mounts
        ],
        devices=[
            pb.Device(
                container_path=device.container_path,
                host_path=device.host_path,
                permissions=device.permissions,
            )
            for device in spec.devices
        ],
        CDI_devices=[pb.CDIDevice(name=name) for name in spec.cdi_devices],
        labels=dict(spec.labels),
        annotations=dict(spec.annotations),
        log_path=spec.log_path,
        stdin=spec.stdin,
        stdin_once=spec.stdin_once,
        tty=spec.tty,
        linux=pb.LinuxContainerConfig(resources=resources(spec.resources), security_context=security),
    )

"""The real runtime: CRI v1 and containerd's event stream over one gRPC channel.

Three things are worth knowing:

* ``PullImage`` always asks the registry, so whoever calls it has looked at ``image`` first.
* A client that goes away cancels ``RunPodSandbox``; callers that must not lose a sandbox shield the call.
* Events come from ``containerd.services.events.v1`` (there is no CRI event stream before containerd 1.7). They
  speak of container ids only; a sandbox's own task carries the sandbox' id.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from bamikube.kit.tasks import Tasks
from bamikube.nodeagent.figures import runtime_operation
from bamikube.nodeagent.labels import POD_UID
from bamikube.nodeagent.runtime import exec_input
from bamikube.nodeagent.runtime.port import (
    Condition,
    Container,
    ContainerSpec,
    ContainerState,
    Credentials,
    ExecResult,
    Handler,
    Health,
    IdMap,
    Image,
    LayerUsage,
    Namespaces,
    Profile,
    Resources,
    RuntimeEvent,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
    TreeMount,
    User,
)
from bamikube.nodeagent.runtime.snapshots import Snapshots, chain_of, snapshotter_of
from bamikube.rpc.containerd import events_pb2, events_pb2_grpc
from bamikube.rpc.cri import cri_pb2 as pb
from bamikube.rpc.cri import cri_pb2_grpc

_STATES: dict[int, ContainerState] = {0: "created", 1: "running", 2: "exited", 3: "unknown"}
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
_DRIVERS: dict[int, str] = {pb.SYSTEMD: "systemd", pb.CGROUPFS: "cgroupfs"}
_TOPICS = {"/tasks/start": "started", "/tasks/exit": "exited", "/tasks/oom": "oom"}
SHORT = 120.0  # seconds for calls that do no long work
_FOREVER = (
    math.inf
)  # a large image over a slow line: it is the runtime that sees whether a pull still gets on


def _channel(flag: str, endpoint: str) -> grpc.aio.Channel:
    if not endpoint.startswith("unix:///"):
        raise ValueError(
            f"{flag}: {endpoint!r} is not an absolute unix:///path/to/socket; "
            "give for example unix:///run/containerd/containerd.sock"
        )
    return grpc.aio.insecure_channel(
        endpoint,
        options=[
            ("grpc.max_receive_message_length", 16 * 1024 * 1024),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.default_authority", "localhost"),
        ],
    )


class CriRuntime:
    """A client of containerd on ``endpoint`` (``unix:///run/containerd/containerd.sock``)."""

    def __init__(
        self,
        endpoint: str,
        *,
        images: str = "",
        timeout: float = SHORT,
        containerd_namespace: str = "k8s.io",
    ) -> None:
        """``images``: where the image service is, if it is not there, too. ``timeout``: seconds for calls that do no long work."""
        self._namespace, self._short = containerd_namespace, timeout
        self._channel = _channel("--container-runtime-endpoint", endpoint)
        self._image_channel = _channel("--image-service-endpoint", images) if images else self._channel
        self._runtime = cri_pb2_grpc.RuntimeServiceStub(self._channel)
        self._images = cri_pb2_grpc.ImageServiceStub(self._image_channel)
        self._events = events_pb2_grpc.EventsStub(self._channel)
        self._snapshots = Snapshots(self._channel, containerd_namespace)
        self._snapshotter_name = ""
        self._state_folder: str | None = None  # containerd's, once it was asked
        self._tasks = Tasks("runtime")
        self._sandboxes_stay = False  # the runtime does not know that sandboxes change

    async def close(self) -> None:
        await self._tasks.close()
        await self._channel.close()
        if self._image_channel is not self._channel:
            await self._image_channel.close()

    async def _call(
        self, method: Callable[..., Awaitable[Any]], request: Any, timeout: float | None = None
    ) -> Any:
        limit = self._short if timeout is None else timeout
        try:
            with runtime_operation(type(request).__name__):
                return await method(request, timeout=None if limit == _FOREVER else limit)
        except grpc.aio.AioRpcError as error:
            raise RuntimeFailure(error.code().name, error.details() or error.code().name) from error

    # -- the runtime itself ------------------------------------------------------------------------------------

    async def version(self) -> str:
        answer = await self._call(self._runtime.Version, pb.VersionRequest(), 10.0)
        return f"{answer.runtime_name}://{answer.runtime_version.split('~')[0].removeprefix('v')}"

    async def health(self) -> Health:
        answer = await self._call(self._runtime.Status, pb.StatusRequest(), 10.0)
        return Health(
            tuple(Condition(c.type, c.status, c.reason, c.message) for c in answer.status.conditions),
            tuple(
                Handler(h.name, h.features.recursive_read_only_mounts, h.features.user_namespaces)
                for h in answer.runtime_handlers
            ),
            answer.features.supplemental_groups_policy,
        )

    async def cgroup_driver(self) -> str:
        """``systemd`` or ``cgroupfs``, "" where it does not matter to the runtime. UNIMPLEMENTED before containerd 2.0."""
        answer = await self._call(self._runtime.RuntimeConfig, pb.RuntimeConfigRequest(), 2.0)
        if not answer.HasField("linux"):
            return ""
        driver: int = answer.linux.cgroup_driver
        if driver not in _DRIVERS:
            raise RuntimeFailure("UNKNOWN", f"runtime returned an unknown cgroup driver {driver}")
        return _DRIVERS[driver]

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        request = events_pb2.SubscribeRequest(filters=[f'topic=="{topic}"' for topic in _TOPICS])
        stream = self._events.Subscribe(request)
        try:
            async for envelope in stream:
                if envelope.namespace != self._namespace:
                    continue
                if envelope.topic == "/tasks/exit":
                    ended = events_pb2.TaskExit.FromString(envelope.event.value)
                    if ended.id and ended.id != ended.container_id:
                        work = self._command_ended(ended.container_id, ended.id)
                        self._tasks.spawn(work, f"input of {ended.id[:12]}")
                        continue  # a command, not the container
                    yield RuntimeEvent("exited", ended.container_id)
                elif envelope.topic == "/tasks/start":
                    yield RuntimeEvent(
                        "started", events_pb2.TaskStart.FromString(envelope.event.value).container_id
                    )
                elif envelope.topic == "/tasks/oom":
                    yield RuntimeEvent(
                        "oom", events_pb2.TaskOOM.FromString(envelope.event.value).container_id
                    )
        except grpc.aio.AioRpcError as error:
            raise RuntimeFailure(error.code().name, error.details() or error.code().name) from error
        finally:
            stream.cancel()

    async def _command_ended(self, container: str, command: str) -> None:
        """Let containerd tell how a command ended that has not read all of its input."""
        if self._state_folder is None:
            with contextlib.suppress(RuntimeFailure):  # the next command asks again
                answer = await self._call(self._runtime.Status, pb.StatusRequest(verbose=True), 10.0)
                self._state_folder = exec_input.state_folder(answer.info["config"])
        if pipe := exec_input.pipe_of(self._state_folder or "", container, command):
            await exec_input.read_away(pipe)

    # -- sandboxes ---------------------------------------------------------------------------------------------

    async def list_sandboxes(self, uid: str = "") -> list[Sandbox]:
        chosen = pb.PodSandboxFilter(label_selector={POD_UID: uid} if uid else {})
        answer = await self._call(self._runtime.ListPodSandbox, pb.ListPodSandboxRequest(filter=chosen))
        return [_sandbox(item) for item in answer.items]

    async def sandbox_status(self, sandbox_id: str) -> Sandbox:
        answer = await self._call(
            self._runtime.PodSandboxStatus, pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
        )
        network = answer.status.network
        ips = tuple(ip for ip in (network.ip, *(more.ip for more in network.additional_ips)) if ip)
        return _sandbox(answer.status, ips)

    async def run_sandbox(self, spec: SandboxSpec) -> str:
        request = pb.RunPodSandboxRequest(config=_sandbox_config(spec), runtime_handler=spec.runtime_handler)
        answer = await self._call(self._runtime.RunPodSandbox, request, 240.0)
        return str(answer.pod_sandbox_id)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        await self._call(self._runtime.StopPodSandbox, pb.StopPodSandboxRequest(pod_sandbox_id=sandbox_id))

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self._call(
            self._runtime.RemovePodSandbox, pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id)
        )

    # -- containers --------------------------------------------------------------------------------------------

    async def list_containers(self, uid: str = "") -> list[Container]:
        chosen = pb.ContainerFilter(label_selector={POD_UID: uid} if uid else {})
        answer = await self._call(self._runtime.ListContainers, pb.ListContainersRequest(filter=chosen))
        return [
            Container(
                id=c.id,
                sandbox_id=c.pod_sandbox_id,
                name=c.metadata.name,
                attempt=c.metadata.attempt,
                state=_STATES[c.state],
                created_at=c.created_at / 1e9,
                image=c.image.image,
                image_ref=c.image_ref,
                labels=dict(c.labels),
                annotations=dict(c.annotations),
            )
            for c in answer.containers
        ]

    async def container_status(self, container_id: str) -> Container:
        answer = await self._call(
            self._runtime.ContainerStatus, pb.ContainerStatusRequest(container_id=container_id)
        )
        c = answer.status
        return Container(
            id=c.id,
            sandbox_id="",
            name=c.metadata.name,
            attempt=c.metadata.attempt,
            state=_STATES[c.state],
            created_at=c.created_at / 1e9,
            image=c.image.image,
            image_ref=c.image_ref,
            labels=dict(c.labels),
            annotations=dict(c.annotations),
            started_at=c.started_at / 1e9,
            finished_at=c.finished_at / 1e9,
            exit_code=c.exit_code,
            reason=c.reason,
            message=c.message,
            log_path=c.log_path,
            user=_user(c.user.linux) if c.user.HasField("linux") else None,
        )

    async def create_container(self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec) -> str:
        request = pb.CreateContainerRequest(
            pod_sandbox_id=sandbox_id, config=_container_config(spec), sandbox_config=_sandbox_config(sandbox)
        )
        answer = await self._call(self._runtime.CreateContainer, request)
        return str(answer.container_id)

    async def start_container(self, container_id: str) -> None:
        await self._call(self._runtime.StartContainer, pb.StartContainerRequest(container_id=container_id))

    async def stop_container(self, container_id: str, grace: float) -> None:
        request = pb.StopContainerRequest(container_id=container_id, timeout=max(0, int(grace)))
        await self._call(self._runtime.StopContainer, request, grace + self._short)

    async def update_container(self, container_id: str, resources: Resources) -> None:
        request = pb.UpdateContainerResourcesRequest(container_id=container_id, linux=_resources(resources))
        await self._call(self._runtime.UpdateContainerResources, request)

    async def update_sandbox(self, sandbox_id: str, resources: Resources, overhead: Resources) -> None:
        if self._sandboxes_stay:
            return
        request = pb.UpdatePodSandboxResourcesRequest(
            pod_sandbox_id=sandbox_id, overhead=_resources(overhead), resources=_resources(resources)
        )
        try:
            await self._call(self._runtime.UpdatePodSandboxResources, request)
        except RuntimeFailure as failure:
            if failure.code != "UNIMPLEMENTED":
                raise
            self._sandboxes_stay = True

    async def remove_container(self, container_id: str) -> None:
        await self._call(self._runtime.RemoveContainer, pb.RemoveContainerRequest(container_id=container_id))

    async def exec_sync(self, container_id: str, command: list[str], timeout: float) -> ExecResult:
        request = pb.ExecSyncRequest(container_id=container_id, cmd=command, timeout=max(1, int(timeout)))
        answer = await self._call(self._runtime.ExecSync, request, timeout + self._short)
        return ExecResult(answer.exit_code, answer.stdout, answer.stderr)

    async def exec_url(
        self, container_id: str, command: list[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str:
        request = pb.ExecRequest(
            container_id=container_id,
            cmd=command,
            tty=tty,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr and not tty,
        )
        return str((await self._call(self._runtime.Exec, request)).url)

    async def attach_url(
        self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str:
        request = pb.AttachRequest(
            container_id=container_id, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr and not tty
        )
        return str((await self._call(self._runtime.Attach, request)).url)

    async def port_forward_url(self, sandbox_id: str, ports: list[int]) -> str:
        request = pb.PortForwardRequest(pod_sandbox_id=sandbox_id, port=ports)
        return str((await self._call(self._runtime.PortForward, request)).url)

    async def reopen_log(self, container_id: str) -> None:
        await self._call(
            self._runtime.ReopenContainerLog, pb.ReopenContainerLogRequest(container_id=container_id)
        )

    async def checkpoint(self, container_id: str, file: str, timeout: float) -> None:
        request = pb.CheckpointContainerRequest(
            container_id=container_id, location=file, timeout=int(timeout)
        )
        await self._call(self._runtime.CheckpointContainer, request, (timeout or 0.0) + self._short)

    async def layers(self) -> list[LayerUsage]:
        answer = await self._call(self._runtime.ListContainerStats, pb.ListContainerStatsRequest())
        return [
            LayerUsage(s.attributes.id, s.writable_layer.used_bytes.value, s.writable_layer.inodes_used.value)
            for s in answer.stats
        ]

    # -- images ------------------------------------------------------------------------------------------------

    async def image(self, name: str) -> Image | None:
        answer = await self._call(
            self._images.ImageStatus, pb.ImageStatusRequest(image=pb.ImageSpec(image=name))
        )
        return _image(answer.image) if answer.HasField("image") and answer.image.id else None

    async def _snapshotter(self) -> str:
        if not self._snapshotter_name:
            answer = await self._call(self._runtime.Status, pb.StatusRequest(verbose=True), 10.0)
            self._snapshotter_name = snapshotter_of(answer.info["config"])
        return self._snapshotter_name

    async def image_tree(self, name: str, key: str, owner: str) -> tuple[TreeMount, ...]:
        request = pb.ImageStatusRequest(image=pb.ImageSpec(image=name), verbose=True)
        chain = chain_of((await self._call(self._images.ImageStatus, request)).info["info"])
        if not chain:
            raise RuntimeFailure("NOT_FOUND", f"the runtime does not tell where it has unpacked image {name}")
        return await self._snapshots.view(await self._snapshotter(), chain, key, owner)

    async def release_trees(self, owner: str) -> None:
        await self._snapshots.remove(await self._snapshotter(), owner)

    async def list_images(self) -> list[Image]:
        answer = await self._call(self._images.ListImages, pb.ListImagesRequest())
        return [_image(item) for item in answer.images]

    async def pull_image(self, name: str, credentials: Credentials | None = None) -> str:
        auth = None
        if credentials is not None:
            auth = pb.AuthConfig(
                username=credentials.username,
                password=credentials.password,
                auth=credentials.auth,
                server_address=credentials.server,
                identity_token=credentials.identity_token,
            )
        request = pb.PullImageRequest(image=pb.ImageSpec(image=name), auth=auth)
        return str((await self._call(self._images.PullImage, request, _FOREVER)).image_ref)

    async def remove_image(self, name: str) -> None:
        await self._call(self._images.RemoveImage, pb.RemoveImageRequest(image=pb.ImageSpec(image=name)))

    async def image_filesystem(self) -> tuple[str, int]:
        answer = await self._call(self._images.ImageFsInfo, pb.ImageFsInfoRequest())
        for item in answer.image_filesystems:
            return item.fs_id.mountpoint, item.used_bytes.value
        return "", 0


def _sandbox(item: Any, ips: tuple[str, ...] = ()) -> Sandbox:
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


def _image(item: Any) -> Image:
    return Image(
        id=item.id,
        tags=tuple(item.repo_tags),
        digests=tuple(item.repo_digests),
        size=item.size,
        uid=item.uid.value if item.HasField("uid") else None,
        username=item.username,
        pinned=item.pinned,
    )


def _user(item: Any) -> User:
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


def _resources(resources: Resources) -> Any:
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


def _sandbox_config(spec: SandboxSpec) -> Any:
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
            resources=_resources(spec.resources) if spec.resources != Resources() else None,
            overhead=_resources(spec.overhead) if spec.overhead != Resources() else None,
        ),
    )


def _container_config(spec: ContainerSpec) -> Any:
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
        linux=pb.LinuxContainerConfig(resources=_resources(spec.resources), security_context=security),
    )

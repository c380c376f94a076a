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
from bamikube.nodeagent.runtime import exec_input, messages
from bamikube.nodeagent.runtime.port import (
    Condition,
    Container,
    ContainerSpec,
    Credentials,
    ExecResult,
    Handler,
    Health,
    Image,
    LayerUsage,
    Resources,
    RuntimeEvent,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
    TreeMount,
)
from bamikube.nodeagent.runtime.snapshots import Snapshots, chain_of, snapshotter_of
from bamikube.rpc.containerd import events_pb2, events_pb2_grpc
from bamikube.rpc.cri import cri_pb2 as pb
from bamikube.rpc.cri import cri_pb2_grpc

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
        return [messages.sandbox(item) for item in answer.items]

    async def sandbox_status(self, sandbox_id: str) -> Sandbox:
        answer = await self._call(
            self._runtime.PodSandboxStatus, pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
        )
        network = answer.status.network
        ips = tuple(ip for ip in (network.ip, *(more.ip for more in network.additional_ips)) if ip)
        return messages.sandbox(answer.status, ips)

    async def run_sandbox(self, spec: SandboxSpec) -> str:
        request = pb.RunPodSandboxRequest(
            config=messages.sandbox_config(spec), runtime_handler=spec.runtime_handler
        )
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
                state=messages.STATES[c.state],
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
            state=messages.STATES[c.state],
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
            user=messages.user(c.user.linux) if c.user.HasField("linux") else None,
        )

    async def create_container(self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec) -> str:
        request = pb.CreateContainerRequest(
            pod_sandbox_id=sandbox_id,
            config=messages.container_config(spec),
            sandbox_config=messages.sandbox_config(sandbox),
        )
        answer = await self._call(self._runtime.CreateContainer, request)
        return str(answer.container_id)

    async def start_container(self, container_id: str) -> None:
        await self._call(self._runtime.StartContainer, pb.StartContainerRequest(container_id=container_id))

    async def stop_container(self, container_id: str, grace: float) -> None:
        request = pb.StopContainerRequest(container_id=container_id, timeout=max(0, int(grace)))
        await self._call(self._runtime.StopContainer, request, grace + self._short)

    async def update_container(self, container_id: str, resources: Resources) -> None:
        request = pb.UpdateContainerResourcesRequest(
            container_id=container_id, linux=messages.resources(resources)
        )
        await self._call(self._runtime.UpdateContainerResources, request)

    async def update_sandbox(self, sandbox_id: str, resources: Resources, overhead: Resources) -> None:
        if self._sandboxes_stay:
            return
        request = pb.UpdatePodSandboxResourcesRequest(
            pod_sandbox_id=sandbox_id,
            overhead=messages.resources(overhead),
            resources=messages.resources(resources),
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
        return messages.image(answer.image) if answer.HasField("image") and answer.image.id else None

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
        return [messages.image(item) for item in answer.images]

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

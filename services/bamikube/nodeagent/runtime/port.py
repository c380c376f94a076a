"""What the node agent knows of a container runtime: values and one Protocol.

The real runtime is :mod:`bamikube.nodeagent.runtime.cri`; a hollow one for simulations implements the same
Protocol in memory. Times are seconds since the epoch (0.0: not yet), durations are seconds.

Names: a *sandbox* is what holds a pod's namespaces and address, a *container* runs inside one. Both carry the
labels of :mod:`bamikube.nodeagent.labels`, by which they are found again after a restart of the node agent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

ContainerState = Literal["created", "running", "exited", "unknown"]
NamespaceMode = Literal["pod", "container", "node", "target"]


class RuntimeFailure(Exception):
    """The runtime refused or failed. ``code`` is the gRPC status name, for example ``NOT_FOUND``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def in_go(self) -> str:
        """As Go prints it, and so Kubernetes' events: ``rpc error: code = NotFound desc = ...``."""
        return status_in_go(self.code, self.message)


def status_in_go(code: str, message: str) -> str:
    """A gRPC status as Go prints it."""
    name = "Canceled" if code == "CANCELLED" else "".join(part.capitalize() for part in code.split("_"))
    return f"rpc error: code = {name} desc = {message}"


@dataclass(frozen=True, slots=True)
class PortMapping:
    container_port: int
    host_port: int
    protocol: str = "TCP"
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class IdMap:
    """Users and groups of a pod's own: 0 and those after it are, to the machine, ``first`` and those after it."""

    first: int
    length: int


@dataclass(frozen=True, slots=True)
class Mount:
    """``propagation`` is Kubernetes' mountPropagation: None, HostToContainer or Bidirectional.

    ``mapped``: who owns a file is, in a pod with users of its own, who has that number there.
    """

    container_path: str
    host_path: str
    read_only: bool = False
    propagation: str = "None"
    mapped: bool = True


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the machine in a container; ``permissions`` as cgroups write them: m(ake), r(ead), w(rite)."""

    container_path: str
    host_path: str
    permissions: str = "mrw"


@dataclass(frozen=True, slots=True)
class TreeMount:
    """How the contents of an image are mounted: type, source and options as for mount(8)."""

    type: str
    source: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Namespaces:
    network: NamespaceMode = "pod"
    pid: NamespaceMode = "container"
    ipc: NamespaceMode = "pod"
    target: str = ""  # with pid "target": the id of the container whose processes are seen
    users: IdMap | None = None  # None: the machine's


@dataclass(frozen=True, slots=True)
class Profile:
    """A seccomp or AppArmor profile: RuntimeDefault, Unconfined or Localhost with a path or name."""

    type: str = "RuntimeDefault"
    localhost: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """cgroup values of one container. 0 means: not set."""

    cpu_shares: int = 0
    cpu_quota: int = 0  # microseconds per period; -1: unlimited, also where there was a limit
    cpu_period: int = 0  # microseconds
    memory_limit: int = 0  # bytes
    oom_score_adj: int = 0
    cpus: str = ""  # the processors it runs on, as 0-3,8; "": all
    memories: str = ""  # the NUMA nodes that its memory is of, as 0-1; "": all
    huge_pages: tuple[
        tuple[str, int], ...
    ] = ()  # bytes that it may have in pages of a size, called as in 2MB
    swap_limit: int = 0  # bytes of memory and swap together (cgroup v1)
    unified: tuple[tuple[str, str], ...] = ()  # files of its cgroup, and what is to be in them (cgroup v2)


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """Everything RunPodSandbox wants to know."""

    name: str
    namespace: str
    uid: str
    attempt: int
    hostname: str
    log_directory: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    dns_servers: tuple[str, ...] = ()
    dns_searches: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    ports: tuple[PortMapping, ...] = ()
    cgroup_parent: str = ""
    namespaces: Namespaces = field(default_factory=Namespaces)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    privileged: bool = False
    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    strict_groups: bool = False  # no groups but those named here
    seccomp: Profile = field(default_factory=Profile)
    runtime_handler: str = ""  # "" for the runtime's own choice
    resources: Resources = field(default_factory=Resources)  # of all containers together
    overhead: Resources = field(default_factory=Resources)  # of the sandbox itself, beside them


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything CreateContainer wants to know. ``log_path`` is relative to the sandbox' log directory."""

    name: str
    attempt: int
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    working_dir: str
    env: tuple[tuple[str, str], ...]
    mounts: tuple[Mount, ...]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    log_path: str
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    resources: Resources = field(default_factory=Resources)
    privileged: bool = False
    namespaces: Namespaces = field(default_factory=Namespaces)
    run_as_user: int | None = None
    run_as_username: str = ""
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    strict_groups: bool = False  # no groups but those named here
    read_only_root: bool = False
    no_new_privs: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    masked_paths: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    cdi_devices: tuple[str, ...] = ()  # by their full names, for a runtime that knows them
    readonly_paths: tuple[str, ...] = ()
    seccomp: Profile = field(default_factory=Profile)
    apparmor: Profile | None = None


@dataclass(frozen=True, slots=True)
class User:
    """As whom a container's first process runs."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox as the runtime lists it; ``ips`` is filled by ``sandbox_status`` only."""

    id: str
    name: str
    namespace: str
    uid: str
    attempt: int
    ready: bool
    created_at: float
    labels: Mapping[str, str] = field(default_factory=dict)
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the runtime knows it; the fields after ``labels`` are filled by ``container_status`` only."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    state: ContainerState
    created_at: float
    image: str = ""
    image_ref: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: str = ""
    user: User | None = None  # where the runtime tells


@dataclass(frozen=True, slots=True)
class Image:
    """An image present on the node. ``uid``/``username`` say whom its config runs as (None and "": root)."""

    id: str
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    size: int = 0
    uid: int | None = None
    username: str = ""
    pinned: bool = False  # the runtime needs it itself


@dataclass(frozen=True, slots=True)
class LayerUsage:
    """What a container has written into its root file system."""

    id: str
    bytes: int = 0
    inodes: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    type: str  # RuntimeReady, NetworkReady
    status: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Handler:
    """A way to run a pod that RuntimeClasses may name, and what it can do; "" is the one for pods without a class."""

    name: str
    recursive_read_only: bool = False
    user_namespaces: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """What a runtime says of itself. ``strict_groups``: it can keep the groups of an image out of a container."""

    conditions: tuple[Condition, ...] = ()
    handlers: tuple[Handler, ...] = ()
    strict_groups: bool = False


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """Something happened to a container or sandbox of that id."""

    kind: Literal["started", "exited", "oom"]
    id: str


@dataclass(frozen=True, slots=True)
class ExecResult:
    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an image pull secret holds for one registry."""

    username: str = ""
    password: str = ""
    auth: str = ""
    server: str = ""
    identity_token: str = ""


class Runtime(Protocol):
    """A container runtime. Every call raises :class:`RuntimeFailure` when it fails."""

    async def version(self) -> str:
        """Name and version as ``containerd://1.6.20``."""

    async def health(self) -> Health: ...

    async def list_sandboxes(self, uid: str = "") -> list[Sandbox]: ...

    async def sandbox_status(self, sandbox_id: str) -> Sandbox: ...

    async def run_sandbox(self, spec: SandboxSpec) -> str: ...

    async def stop_sandbox(self, sandbox_id: str) -> None: ...

    async def remove_sandbox(self, sandbox_id: str) -> None: ...

    async def list_containers(self, uid: str = "") -> list[Container]: ...

    async def container_status(self, container_id: str) -> Container: ...

    async def create_container(self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec) -> str: ...

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, grace: float) -> None:
        """SIGTERM (or the image's stop signal), then SIGKILL after ``grace`` seconds; returns when it has ended."""

    async def update_sandbox(self, sandbox_id: str, resources: Resources, overhead: Resources) -> None:
        """Tell what a pod's containers may use together from now on; a runtime that does not care (before containerd 2.1) is not told."""

    async def update_container(self, container_id: str, resources: Resources) -> None:
        """Change what a running container may use."""

    async def remove_container(self, container_id: str) -> None: ...

    async def exec_sync(self, container_id: str, command: list[str], timeout: float) -> ExecResult: ...

    async def exec_url(
        self, container_id: str, command: list[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str: ...

    async def attach_url(
        self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str: ...

    async def port_forward_url(self, sandbox_id: str, ports: list[int]) -> str: ...

    async def reopen_log(self, container_id: str) -> None: ...

    async def checkpoint(self, container_id: str, file: str, timeout: float) -> None:
        """Write a running container to a tar file; ``timeout`` 0: as long as a usual call may take."""

    async def image(self, name: str) -> Image | None:
        """The image of that name if it is on the node."""

    async def list_images(self) -> list[Image]: ...

    async def pull_image(self, name: str, credentials: Credentials | None = None) -> str: ...

    async def remove_image(self, name: str) -> None: ...

    async def image_tree(self, name: str, key: str, owner: str) -> tuple[TreeMount, ...]:
        """The contents of an image, to be mounted. ``key`` names this use of it, ``owner`` is the uid of its pod."""

    async def release_trees(self, owner: str) -> None:
        """The pod needs no tree any more; none of them is mounted."""

    async def image_filesystem(self) -> tuple[str, int]:
        """Where images lie, and the bytes they use."""

    async def layers(self) -> list[LayerUsage]: ...

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """Events as they happen, until cancelled or the runtime goes away (then RuntimeFailure)."""

"""Who is in the lab, where, and under which addresses: the same picture as the Vagrant lab's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONTROL_PLANE = "control-plane"


class UnknownNode(ValueError):
    """A name that is no node of the lab; the message lists those there are."""


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the lab. ``roles`` holds ``control-plane`` for the one that runs the control plane."""

    name: str
    address: str
    roles: tuple[str, ...] = ()

    @property
    def control_plane(self) -> bool:
        return CONTROL_PLANE in self.roles

    @property
    def link(self) -> str:
        """The host's end of the node's cable; an interface name holds at most 15 characters."""
        return f"bami-{self.name}"[:15]


@dataclass(frozen=True, slots=True)
class Topology:
    """Names, addresses and ports of a lab."""

    nodes: tuple[Node, ...] = (
        Node("master", "10.99.0.10", (CONTROL_PLANE,)),
        Node("worker-1", "10.99.0.11"),
        Node("worker-2", "10.99.0.12"),
    )
    bridge: str = "bami0"
    gateway: str = "10.99.0.1"
    prefix: int = 24
    network: str = "10.99.0.0/24"
    service_cidr: str = "10.96.0.0/12"
    pod_cidr: str = "10.244.0.0/16"
    dns_address: str = "10.96.0.10"
    domain: str = "cluster.local"
    api_port: int = 6443
    registry_port: int = 5000
    cgroup: str = "bamikube"
    table: str = "bamikube-lab"

    @property
    def master(self) -> Node:
        return next(node for node in self.nodes if node.control_plane)

    @property
    def api(self) -> str:
        return f"https://{self.master.address}:{self.api_port}"

    def node(self, name: str) -> Node:
        """The node of that name. Raises UnknownNode."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise UnknownNode(f"no node {name!r} in this lab; there are {', '.join(n.name for n in self.nodes)}")


@dataclass(frozen=True, slots=True)
class NodePaths:
    """One node's folder in the lab's state."""

    root: Path

    @property
    def disk(self) -> Path:
        """What survives a crash of the node, as a machine's disk does."""
        return self.root / "disk"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def config(self) -> Path:
        return self.root / "node.json"

    @property
    def status(self) -> Path:
        return self.root / "status.json"

    @property
    def launcher(self) -> Path:
        """Who holds the node's namespaces: see :mod:`bamikube.lab.launch`."""
        return self.root / "launcher.json"

    @property
    def kubernetes(self) -> Path:
        """The node's ``/etc/kubernetes``."""
        return self.disk / "etc-kubernetes"


@dataclass(frozen=True, slots=True)
class LabPaths:
    """The lab's state folder (``.lab``) and, beside it, the cache that outlives it."""

    root: Path
    cache: Path

    @classmethod
    def at(cls, root: Path, cache: Path | None = None) -> LabPaths:
        """The lab whose state is at ``root``; its cache is ``cache``, else ``.cache`` beside it."""
        root = root.absolute()
        return cls(root, (cache or root.parent / ".cache").absolute())

    def node(self, name: str) -> NodePaths:
        return NodePaths(self.root / "nodes" / name)

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def loaded_images(self) -> Path:
        return self.root / "images"

    @property
    def built_images(self) -> Path:
        return self.cache / "images"


# The kernel's names (bridge, table, cgroup) are one per machine, so is the lab that uses them: this file says where
# its state lies, and is the lock against two commands that change it at the same time.
MACHINE_STATE = Path("/run/bamikube")

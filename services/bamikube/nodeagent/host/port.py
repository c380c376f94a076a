"""What a pod's worker asks of the machine: folders, mounts, cgroups, as a port.

:mod:`bamikube.nodeagent.host.linux` does it for real; a hollow node agent has nothing to do here.
"""

from __future__ import annotations

from typing import Protocol

from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import Device, IdMap, Mount
from bamikube.nodeagent.volumes.plugin import Given, Made


class HostFailure(Exception):
    """Something on the machine could not be done; the message names the path and what to do."""


class CgroupFailure(HostFailure):
    """A cgroup could not be made."""


class Host(Protocol):
    """The machine below one node agent."""

    def cgroup_parent(self, pod: JSON) -> str:
        """The pod's cgroup as the runtime wants it named."""

    def log_directory(self, pod: JSON) -> str: ...

    async def prepare(self, pod: JSON) -> None:
        """Make the pod's folders and its cgroup. Raises HostFailure, CgroupFailure for the latter."""

    async def users(self, pod: JSON) -> IdMap:
        """The users of a pod that has its own; the same as long as it lives. Raises HostFailure in the kubelet's words."""

    async def set_up(self, pod: JSON, volume: JSON, given: Given, version: str) -> Made:
        """Make a volume, or bring it up to date with what was given.

        Raises HostFailure, ConfigError or OSError.
        """

    async def mounts(
        self, pod: JSON, spec: JSON, attempt: int, hosts: str, environment: dict[str, str]
    ) -> tuple[Mount, ...]:
        """A container's mounts, its hosts file and its termination log among them. Raises HostFailure."""

    def devices(self, pod: JSON, spec: JSON) -> tuple[Device, ...]:
        """The block volumes of a container. Raises HostFailure."""

    def memory_used(self, pod: JSON, container_id: str = "") -> int:
        """Bytes of memory that a pod or one of its containers uses now; 0 where nobody knows."""

    def node_hosts(self) -> str:
        """The node's own /etc/hosts."""

    def termination_message(
        self, pod: JSON, name: str, attempt: int, log_path: str, policy: str, failed: bool
    ) -> str: ...

    def link_log(self, pod: JSON, name: str, attempt: int, container_id: str) -> None:
        """The link below /var/log/containers that log collectors read."""

    def logged(self, pod: JSON) -> dict[str, int]:
        """The highest attempt that each of the pod's containers has left a log of."""

    def remove_log(self, pod: JSON, name: str, attempt: int, container_id: str) -> None: ...

    async def cleanup(self, uid: str) -> None:
        """Unmount and remove everything of the pod but its logs."""

    def remove_logs(self, uid: str) -> None:
        """Remove the pod's logs and the links to them."""

    def known_pods(self) -> set[str]:
        """The uids that have folders, logs or cgroups on this machine."""

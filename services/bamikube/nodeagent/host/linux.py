"""The real machine: the kubelet's file layout, volumes by :mod:`.volumes`, cgroups by :mod:`.cgroups`.

Layout below ``root`` (``/var/lib/kubelet``)::

    pods/<uid>/volumes/kubernetes.io~<plugin>/<volume>      what is mounted
    pods/<uid>/containers/<name>/<attempt>                  the termination log
    pods/<uid>/etc-hosts                                    the hosts file
    pods/<uid>/userns                                       its users, if it has its own

Logs lie in ``/var/log/pods/<namespace>_<name>_<uid>/<container>/<attempt>.log`` with links in
``/var/log/containers``. Both roots can be moved, so that several nodes share one machine.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bamikube.nodeagent import figures
from bamikube.nodeagent.host.cgroups import Cgroups
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.host.volumes import Volumes
from bamikube.nodeagent.node.reservations import Bounds
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import Device, IdMap, Mount
from bamikube.nodeagent.users.book import Users
from bamikube.nodeagent.users.ranges import Ranges
from bamikube.nodeagent.volumes.plugin import Given, Made

MESSAGE_LIMIT = 4096  # bytes of a termination message
LOG_TAIL_LIMIT = 2048  # bytes taken from the log with FallbackToLogsOnError
LOG_TAIL_LINES = 80


class LinuxHost:
    """Folders, mounts and cgroups of one node."""

    def __init__(self, root: Path, logs: Path, cgroups: Cgroups, ranges: Ranges | None = None) -> None:
        self._root = root
        self._logs = logs
        self._cgroups = cgroups
        self._volumes = Volumes(root / "pods")
        self._users = Users(root / "pods", ranges or Ranges())

    async def start(self) -> None:
        """Make the base folders and cgroups. Raises HostFailure."""
        try:
            for folder in (self._root / "pods", self._logs / "pods", self._logs / "containers"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HostFailure(f"cannot make {error.filename}: {error.strerror}; check --root-dir") from error
        self._unlink_lost()
        self._users.recall()
        await self._cgroups.start()

    async def bound(self, bounds: Bounds, cgroup: str = "") -> None:
        """Bind all pods together, or this cgroup, to so much. Raises HostFailure."""
        try:
            if cgroup:
                await self._cgroups.bound(cgroup, bounds)
            else:
                await self._cgroups.bound_pods(bounds)
        except OSError as error:
            what = f"cannot write {error.filename}: {error.strerror}" if error.filename else str(error)
            raise HostFailure(what) from error

    def _pod(self, uid: str) -> Path:
        return self._root / "pods" / uid

    def cgroup_parent(self, pod: JSON) -> str:
        return self._cgroups.parent(pod)

    def log_directory(self, pod: JSON) -> str:
        meta = pod["metadata"]
        return str(self._logs / "pods" / f"{meta['namespace']}_{meta['name']}_{meta['uid']}")

    async def prepare(self, pod: JSON) -> None:
        folder = self._pod(facts.uid(pod))
        try:
            for part in ("volumes", "containers"):
                (folder / part).mkdir(parents=True, exist_ok=True, mode=0o750)
            Path(self.log_directory(pod)).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HostFailure(f"cannot make {error.filename}: {error.strerror}") from error
        with figures.CGROUP_SECONDS.labels("create").time():
            await self._cgroups.create(pod)

    async def users(self, pod: JSON) -> IdMap:
        return await self._users.of(facts.uid(pod))

    # -- volumes -----------------------------------------------------------------------------------------------

    async def set_up(self, pod: JSON, volume: JSON, given: Given, version: str) -> Made:
        return await self._volumes.set_up(pod, volume, given, version)

    def volume_paths(self, uid: str) -> dict[str, Path]:
        """Where the volumes lie that were made for a pod, by name."""
        return self._volumes.paths(uid)

    async def mounts(
        self, pod: JSON, spec: JSON, attempt: int, hosts: str, environment: dict[str, str]
    ) -> tuple[Mount, ...]:
        result = await self._volumes.mounts(pod, spec, environment)
        if "/etc/hosts" not in {mount.container_path.rstrip("/") for mount in result}:
            path_hosts = self._pod(facts.uid(pod)) / "etc-hosts"
            path_hosts.write_text(hosts)
            path_hosts.chmod(0o644)
            result.append(Mount("/etc/hosts", str(path_hosts)))
        target = spec.get("terminationMessagePath") or "/dev/termination-log"
        log = self._termination_log(facts.uid(pod), spec["name"], attempt)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        log.chmod(0o666)
        result.append(Mount(target, str(log)))
        return tuple(result)

    def devices(self, pod: JSON, spec: JSON) -> tuple[Device, ...]:
        return self._volumes.devices(pod, spec)

    def memory_used(self, pod: JSON, container_id: str = "") -> int:
        return self._cgroups.memory_used(pod, container_id)

    def node_hosts(self) -> str:
        try:
            return Path("/etc/hosts").read_text()
        except OSError:
            return "127.0.0.1\tlocalhost\n"

    # -- logs and messages -------------------------------------------------------------------------------------

    def _termination_log(self, uid: str, name: str, attempt: int) -> Path:
        return self._pod(uid) / "containers" / name / str(attempt)

    def termination_message(
        self, pod: JSON, name: str, attempt: int, log_path: str, policy: str, failed: bool
    ) -> str:
        try:
            with self._termination_log(facts.uid(pod), name, attempt).open("rb") as file:
                text = file.read(MESSAGE_LIMIT).decode("utf-8", "replace")
        except OSError:
            text = ""
        if not text and failed and policy == "FallbackToLogsOnError" and log_path:
            text = _tail(Path(log_path))
        return text

    def _link(self, pod: JSON, name: str, container_id: str) -> Path:
        meta = pod["metadata"]
        stem = f"{meta['name']}_{meta['namespace']}_{name}"[: 255 - len(container_id) - 5]
        return self._logs / "containers" / f"{stem}-{container_id}.log"

    def link_log(self, pod: JSON, name: str, attempt: int, container_id: str) -> None:
        link = self._link(pod, name, container_id)
        if not link.is_symlink():
            link.symlink_to(f"{self.log_directory(pod)}/{name}/{attempt}.log")

    def logged(self, pod: JSON) -> dict[str, int]:
        found: dict[str, int] = {}
        for path in Path(self.log_directory(pod)).glob("*/*.log*"):
            attempt = path.name.partition(".")[0]
            if attempt.isdecimal():
                found[path.parent.name] = max(int(attempt), found.get(path.parent.name, 0))
        return found

    def remove_log(self, pod: JSON, name: str, attempt: int, container_id: str) -> None:
        self._link(pod, name, container_id).unlink(missing_ok=True)
        folder = Path(self.log_directory(pod)) / name
        for path in folder.glob(f"{attempt}.log*"):
            path.unlink(missing_ok=True)
        self._termination_log(facts.uid(pod), name, attempt).unlink(missing_ok=True)

    def remove_logs(self, uid: str) -> None:
        for namespace, name, owner in self._logged():
            if owner == uid:
                shutil.rmtree(self._logs / "pods" / f"{namespace}_{name}_{uid}", ignore_errors=True)
                self._unlink_lost(f"{name}_{namespace}_*.log")

    def _unlink_lost(self, pattern: str = "*.log") -> None:
        """Remove links to logs of pods whose folder is gone. A log alone may be missing for a moment: it is being rotated."""
        for link in (self._logs / "containers").glob(pattern):
            try:
                lost = not Path(os.readlink(link)).parent.parent.exists()
            except OSError:  # no link, or gone meanwhile
                continue
            if lost:
                link.unlink(missing_ok=True)

    def _logged(self) -> list[list[str]]:
        """Namespace, name and uid of every pod with a folder of logs."""
        folder = self._logs / "pods"
        names = [entry.name.split("_") for entry in folder.iterdir()] if folder.exists() else []
        return [parts for parts in names if len(parts) == 3]

    # -- the end -----------------------------------------------------------------------------------------------

    async def cleanup(self, uid: str) -> None:
        await self._volumes.tear_down(uid)
        self._users.release(uid)
        with figures.CGROUP_SECONDS.labels("destroy").time():
            await self._cgroups.remove(uid)

    def known_pods(self) -> set[str]:
        folder = self._root / "pods"
        folders = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
        return folders | {uid for _, _, uid in self._logged()} | self._cgroups.known()


def _tail(path: Path) -> str:
    """The last lines of a CRI log as plain text."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16 * 1024))
            lines = file.read().splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        return ""
    text = b""
    for line in lines:
        parts = line.split(b" ", 3)
        if len(parts) == 4:
            text += parts[3] + (b"" if parts[2] == b"P" else b"\n")
    return text[-LOG_TAIL_LIMIT:].decode("utf-8", "replace")

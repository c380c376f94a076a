"""The real machine: the kubelet's file layout, mounts by :mod:`.mounting`, cgroups by :mod:`.cgroups`.

Layout below ``root`` (``/var/lib/kubelet``)::

    pods/<uid>/volumes/kubernetes.io~<plugin>/<volume>      what is mounted
    pods/<uid>/containers/<name>/<attempt>                  the termination log
    pods/<uid>/etc-hosts                                    the hosts file

Logs lie in ``/var/log/pods/<namespace>_<name>_<uid>/<container>/<attempt>.log`` with links in
``/var/log/containers``. Both roots can be moved, so that several nodes share one machine.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from pathlib import Path

from bamikube.nodeagent.container import security
from bamikube.nodeagent.container.env import expand
from bamikube.nodeagent.host.cgroups import Cgroups
from bamikube.nodeagent.host.mounting import mount_points, mount_tmpfs, unmount
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.quantity import number
from bamikube.nodeagent.runtime.port import Mount
from bamikube.nodeagent.volumes import atomic
from bamikube.nodeagent.volumes.payload import File

MESSAGE_LIMIT = 4096  # bytes of a termination message
LOG_TAIL_LIMIT = 2048  # bytes taken from the log with FallbackToLogsOnError
LOG_TAIL_LINES = 80
_PLUGINS = {
    "emptyDir": "empty-dir", "configMap": "configmap", "secret": "secret", "downwardAPI": "downward-api",
    "projected": "projected",
}  # fmt: skip


class LinuxHost:
    """Folders, mounts and cgroups of one node."""

    def __init__(self, root: Path, logs: Path, cgroups: Cgroups) -> None:
        self._root = root
        self._logs = logs
        self._cgroups = cgroups

    def start(self) -> None:
        """Make the base folders and cgroups. Raises HostFailure."""
        try:
            for folder in (self._root / "pods", self._logs / "pods", self._logs / "containers"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HostFailure(f"cannot make {error.filename}: {error.strerror}; check --root-dir") from error
        self._cgroups.start()

    def _pod(self, uid: str) -> Path:
        return self._root / "pods" / uid

    def cgroup_parent(self, pod: JSON) -> str:
        return self._cgroups.parent(pod)

    def log_directory(self, pod: JSON) -> str:
        meta = pod["metadata"]
        return str(self._logs / "pods" / f"{meta['namespace']}_{meta['name']}_{meta['uid']}")

    def prepare(self, pod: JSON) -> None:
        folder = self._pod(facts.uid(pod))
        try:
            for part in ("volumes", "containers"):
                (folder / part).mkdir(parents=True, exist_ok=True, mode=0o750)
            Path(self.log_directory(pod)).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HostFailure(f"cannot make {error.filename}: {error.strerror}") from error
        self._cgroups.create(pod)

    # -- volumes -----------------------------------------------------------------------------------------------

    def volume_path(self, pod: JSON, volume: JSON) -> Path:
        """Where a volume lies on the machine."""
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        for kind, plugin in _PLUGINS.items():
            if kind in volume:
                return self._pod(facts.uid(pod)) / "volumes" / f"kubernetes.io~{plugin}" / volume["name"]
        kinds = ", ".join(sorted(set(volume) - {"name"})) or "none"
        raise HostFailure(f'volume "{volume["name"]}": the node has no plugin for its source ({kinds})')

    async def mount(self, pod: JSON, volume: JSON) -> None:
        path = self.volume_path(pod, volume)
        if "hostPath" in volume:
            _host_path(volume["name"], path, volume["hostPath"].get("type") or "")
            return
        memory = (volume.get("emptyDir") or {}).get("medium") == "Memory" or "secret" in volume
        memory = memory or ("projected" in volume)
        fresh = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        if memory and not os.path.ismount(path):
            options = "mode=0777" if "emptyDir" in volume else "mode=0755"
            if limit := (volume.get("emptyDir") or {}).get("sizeLimit"):
                options += f",size={int(number(limit))}"
            mount_tmpfs(path, options)
            fresh = True
        if fresh:
            mode = 0o777 if "emptyDir" in volume else 0o755
            if group is not None:
                os.chown(path, -1, int(group))
                mode |= stat.S_ISGID | 0o070
            path.chmod(mode)

    def write(self, pod: JSON, volume: JSON, files: dict[str, File], version: str) -> bool:
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        folder = self.volume_path(pod, volume)
        try:
            changed = atomic.write(folder, files, version, gid=None if group is None else int(group))
        except OSError as error:
            raise HostFailure(
                f'volume "{volume["name"]}": cannot write {error.filename}: {error.strerror}'
            ) from error
        if changed and group is None:
            self._give_tokens(pod, folder)
        return changed

    def _give_tokens(self, pod: JSON, folder: Path) -> None:
        """A file only its owner may read belongs to the one user all containers run as, if there is one."""
        users = {security.effective(pod, c, "runAsUser") for c in facts.all_containers(pod)}
        if len(users) != 1:
            return
        (owner,) = users
        if not isinstance(owner, int):
            return
        for path in (folder / os.readlink(folder / atomic.DATA)).rglob("*"):
            if path.is_file() and path.stat().st_mode & 0o077 == 0:
                os.chown(path, owner, -1)

    def mounts(
        self, pod: JSON, spec: JSON, attempt: int, hosts: str, environment: dict[str, str]
    ) -> tuple[Mount, ...]:
        volumes = {v["name"]: v for v in pod["spec"].get("volumes") or ()}
        result = []
        targets = set()
        for item in spec.get("volumeMounts") or ():
            volume = volumes.get(item["name"])
            if volume is None:
                raise HostFailure(
                    f'container {spec["name"]} mounts volume "{item["name"]}", which the pod does not have'
                )
            source = self.volume_path(pod, volume)
            part = item.get("subPath") or expand(item.get("subPathExpr") or "", environment.get)
            if part:
                source = _sub_path(source, part, make="hostPath" in volume or "emptyDir" in volume)
            path = item["mountPath"] if item["mountPath"].startswith("/") else "/" + item["mountPath"]
            targets.add(path.rstrip("/"))
            result.append(
                Mount(path, str(source), bool(item.get("readOnly")), item.get("mountPropagation") or "None")
            )
        folder = self._pod(facts.uid(pod))
        if "/etc/hosts" not in targets:
            path_hosts = folder / "etc-hosts"
            path_hosts.write_text(hosts)
            path_hosts.chmod(0o644)
            result.append(Mount("/etc/hosts", str(path_hosts), bool(_read_only_root(spec))))
        target = spec.get("terminationMessagePath") or "/dev/termination-log"
        log = self._termination_log(facts.uid(pod), spec["name"], attempt)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        log.chmod(0o666)
        result.append(Mount(target, str(log)))
        return tuple(result)

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
                for link in (self._logs / "containers").glob(f"{name}_{namespace}_*"):
                    if not link.exists():
                        link.unlink(missing_ok=True)

    def _logged(self) -> list[list[str]]:
        """Namespace, name and uid of every pod with a folder of logs."""
        folder = self._logs / "pods"
        names = [entry.name.split("_") for entry in folder.iterdir()] if folder.exists() else []
        return [parts for parts in names if len(parts) == 3]

    # -- the end -----------------------------------------------------------------------------------------------

    async def cleanup(self, uid: str) -> None:
        folder = self._pod(uid)
        inside = f"{folder}/"
        for point in sorted(mount_points(), key=len, reverse=True):
            if point.startswith(inside):
                unmount(point)
        if any(point.startswith(inside) for point in mount_points()):
            raise HostFailure(f"{folder}: still mounted below; not removing anything")
        if folder.exists():
            await asyncio.to_thread(shutil.rmtree, folder, True)
        await self._cgroups.remove(uid)

    def known_pods(self) -> set[str]:
        folder = self._root / "pods"
        folders = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
        return folders | {uid for _, _, uid in self._logged()}


def _read_only_root(spec: JSON) -> bool:
    return bool((spec.get("securityContext") or {}).get("readOnlyRootFilesystem"))


def _host_path(name: str, path: Path, kind: str) -> None:
    """Check, and for the OrCreate types make, what a hostPath volume points at."""
    try:
        if kind == "DirectoryOrCreate" and not path.exists():
            path.mkdir(parents=True, mode=0o755)
        elif kind == "FileOrCreate" and not path.exists():
            path.touch(mode=0o644)
    except OSError as error:
        raise HostFailure(f'volume "{name}": cannot make hostPath {path}: {error.strerror}') from error
    checks = {
        "Directory": (path.is_dir, "is not a directory"),
        "DirectoryOrCreate": (path.is_dir, "is not a directory"),
        "File": (path.is_file, "is not a file"),
        "FileOrCreate": (path.is_file, "is not a file"),
        "Socket": (path.is_socket, "is not a socket"),
        "CharDevice": (path.is_char_device, "is not a character device"),
        "BlockDevice": (path.is_block_device, "is not a block device"),
    }
    if kind in checks and not checks[kind][0]():
        raise HostFailure(f"hostPath type check failed: {path} {checks[kind][1]}")
    if not kind and not path.exists():
        path.mkdir(parents=True, mode=0o755)


def _sub_path(base: Path, part: str, *, make: bool) -> Path:
    """A path below a volume that no symlink leads out of. Raises HostFailure."""
    if part.startswith("/") or ".." in part.split("/"):
        raise HostFailure(f"subPath {part!r} must be relative and without ..")
    root = base.resolve()
    target = (root / part).resolve()
    if target != root and root not in target.parents:
        raise HostFailure(f"subPath {part!r} leaves the volume through a symlink")
    if not target.exists():
        if not make:
            raise HostFailure(f"subPath {part!r} does not exist in the volume")
        mode = root.stat().st_mode & 0o7777
        target.mkdir(parents=True)
        target.chmod(mode)
    return target


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

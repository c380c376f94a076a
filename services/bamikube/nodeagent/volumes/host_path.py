"""hostPath: a place of the machine itself. The OrCreate types make it, the others only look; nothing is ever removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.volumes.claims import volume_mode
from bamikube.nodeagent.volumes.faults import MAP, StepFailed
from bamikube.nodeagent.volumes.plugin import Made, Needs, Order

_CHECKS: dict[str, tuple[Callable[[Path], bool], str]] = {
    "DirectoryOrCreate": (Path.is_dir, "is not a directory"),
    "Directory": (Path.is_dir, "is not a directory"),
    "FileOrCreate": (Path.is_file, "is not a file"),
    "File": (Path.is_file, "is not a file"),
    "Socket": (Path.is_socket, "is not a socket file"),
    "CharDevice": (Path.is_char_device, "is not a character device"),
    "BlockDevice": (Path.is_block_device, "is not a block device"),
}


class HostPath:
    field = "hostPath"
    name = "kubernetes.io/host-path"
    refreshes = False
    takes_options = False

    def needs(self, pod: JSON, volume: JSON) -> Needs:
        return Needs()

    def set_up(self, order: Order) -> Made:
        if order.given.behind is not None and volume_mode(order.given.behind) == "Block":
            raise StepFailed(MAP, "no volume plugin matched")
        source = order.source("hostPath")
        path = Path(source["path"])
        if ".." in path.parts:
            raise HostFailure(f"invalid HostPath `{path}`: must not contain '..'")
        check(path, source.get("type") or "")
        return Made(path, read_only=order.given.read_only)

    def tear_down(self, path: Path) -> None:
        """It is the machine's, not the pod's."""


def check(path: Path, kind: str) -> None:
    """Look whether ``path`` is what the type says, or make it. An empty type says nothing: the runtime makes a folder."""
    if kind == "DirectoryOrCreate" and not path.exists():
        path.mkdir(parents=True, mode=0o755)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch(mode=0o644)
    if not kind:
        return
    if kind not in _CHECKS:
        raise HostFailure(f"{kind} is an invalid volume type")
    holds, text = _CHECKS[kind]
    if not holds(path):
        raise HostFailure(f"hostPath type check failed: {path} {text}")

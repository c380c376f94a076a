"""recursiveReadOnly: nothing below a mount can be written, not even in what is mounted within it (KEP-3857).

A read-only bind leaves the mounts below it as they are. Runtimes that set them read-only, too, say so; containerd does from 2.0
on. For older ones the node agent does it: it binds the whole tree to ``<pod>/volume-read-only/<volume>/<container>/<index>``,
sets all of it read-only in one system call (mount_setattr(2), Linux 5.12), and gives the runtime that place.
"""

from __future__ import annotations

from pathlib import Path

from bamikube.nodeagent.host.mounting import bind_read_only, mount_points, unmount
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.pod.facts import JSON


def wanted(item: JSON) -> str:
    """``Enabled``, ``IfPossible`` or ``Disabled`` for a container's mount. Raises HostFailure in the kubelet's words."""
    mode, name = str(item.get("recursiveReadOnly") or "Disabled"), item["name"]
    if mode == "Disabled":
        return mode
    said = f'failed to resolve recursive read-only mode: volume "{name}" requested recursive read-only mode'
    if not item.get("readOnly"):
        raise HostFailure(f"{said}, but it is not read-only")
    propagation = item.get("mountPropagation") or "None"
    if propagation != "None":
        raise HostFailure(f'{said}, but it is not compatible with propagation "{propagation}"')
    if mode not in ("Enabled", "IfPossible"):
        raise HostFailure(
            f'failed to resolve recursive read-only mode: unknown recursive read-only mode "{mode}"'
        )
    return mode


def prepare(folder: Path, source: Path, mode: str, place: tuple[str, str, int]) -> Path:
    """Where ``source`` can be seen and nothing of it written; itself if that is not possible and need not be.

    ``folder`` is the pod's, ``place`` names volume, container and the mount's index. Raises HostFailure.
    """
    name, container, index = place
    target = folder / "volume-read-only" / name / container / str(index)
    while (
        str(target) in mount_points()
    ):  # of a container before: what is mounted below may be something else now
        unmount(str(target))
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    if source.is_dir():
        target.mkdir(exist_ok=True, mode=0o750)
    else:
        target.touch(mode=0o640)
    if bind_read_only(str(source), target):
        return target
    if mode == "Enabled":
        raise HostFailure(
            f'failed to resolve recursive read-only mode: volume "{name}" requested recursive read-only mode, '
            "but it is not supported by the runtime"
        )
    return source

"""A part of a volume (``subPath``) for a container, bound where no pod can put a link in its place.

The runtime follows paths when it makes a container, long after we have judged them. So what a subPath leads to is opened
(:mod:`.beneath`) and that very thing is bound to ``<pod>/volume-subpaths/<volume>/<container>/<index>``; the runtime is
given this place. A container that starts again gets the old bind as long as it still shows what the path leads to: a
configMap's file is another one after every update.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from bamikube.nodeagent.host import beneath
from bamikube.nodeagent.host.mounting import bind, mount_points, unmount
from bamikube.nodeagent.host.port import HostFailure

log = logging.getLogger(__name__)


class NoSuchFolder(HostFailure):
    """An image has nothing at a subPath; a runtime that mounts images itself finds that when it makes the container."""

    def __init__(self, volume: Path, part: str) -> None:
        super().__init__(
            f'failed to mount image volume: ImageVolumeMountFailed: failed to ensure image subpath "{part}" in "{volume}": '
            f"openat {part}: no such file or directory"
        )


def checked(part: str) -> str:
    """A subPath as it may be used. Raises HostFailure in the kubelet's words."""
    if part.startswith("/"):
        raise HostFailure(f"error SubPath `{part}` must not be an absolute path")
    if ".." in part.split("/"):
        raise HostFailure(f"unable to provision SubPath `{part}`: must not contain '..'")
    return part


def prepare(folder: Path, volume: Path, part: str, place: tuple[str, str, int]) -> Path:
    """Bind ``part`` of ``volume``; where it is bound.

    ``folder`` is the pod's, ``place`` names volume, container and the mount's index. Raises HostFailure; what is said
    there goes to the pod's owner, so it tells nothing about the machine's folders. The log has it.
    """
    name, container, index = place
    if not volume.exists():
        raise HostFailure(f"stat {volume}: no such file or directory")
    try:
        if not os.path.exists(volume / part):
            beneath.make_folders(volume, part, volume.stat().st_mode)
    except OSError as error:
        log.warning("container %s: subPath %s of volume %s: %s", container, part, name, error)
        raise HostFailure(
            f'failed to create subPath directory for volumeMount "{name}" of container "{container}"'
        ) from error
    target = folder / "volume-subpaths" / name / container / str(index)
    try:
        with beneath.opened(volume, part) as found:
            _bind(found, target)
    except (OSError, HostFailure) as error:
        log.warning("container %s: subPath %s of volume %s: %s", container, part, name, error)
        raise HostFailure(
            f'failed to prepare subPath for volumeMount "{name}" of container "{container}"'
        ) from error
    return target


def _bind(found: int, target: Path) -> None:
    wanted = os.fstat(found)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    if (
        str(target) in mount_points()
    ):  # a file bound from the same file system looks like any other to stat(2)
        have = target.stat()
        if (have.st_dev, have.st_ino) == (wanted.st_dev, wanted.st_ino):
            return
        unmount(str(target))
    is_folder = stat.S_ISDIR(wanted.st_mode)
    if target.exists() and target.is_dir() != is_folder:
        target.rmdir() if target.is_dir() else target.unlink()
    if is_folder:
        target.mkdir(exist_ok=True, mode=0o750)
    else:
        target.touch(mode=0o640)
    bind(f"/proc/self/fd/{found}", target)

"""local: a folder or block device of this machine as a PersistentVolume.

A folder is bound into the pod's own. A device is handed to the containers as it is (volumeMode Block), or its file system,
made when there is none, is mounted once for the node and bound into each pod's folder.

The folder belongs to nobody here: when the pod goes, only the bind goes. With an fsGroup everything in it is given to that
group by the first pod that mounts it; a second one beside it finds what the first has made.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from pathlib import Path

from bamikube.nodeagent.host import filesystems, mounting
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.volumes import ownership
from bamikube.nodeagent.volumes.claims import volume_mode
from bamikube.nodeagent.volumes.faults import MAP, MOUNTER, StepFailed
from bamikube.nodeagent.volumes.plugin import Made, Needs, Order

# One for each volume, held between a look at what is mounted and the next mount: a device that hangs holds up only itself.
_LOCKS: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class Local:
    field = "local"
    name = "kubernetes.io/local-volume"
    refreshes = False
    takes_options = True

    def needs(self, pod: JSON, volume: JSON) -> Needs:
        return Needs()

    def set_up(self, order: Order) -> Made:
        source = Path(order.source("local").get("path") or "")
        if order.given.behind is not None and volume_mode(order.given.behind) == "Block":
            return _device(source, order.given.read_only)
        if not source.exists():
            raise StepFailed(MOUNTER, f'path "{source}" does not exist')
        if not (source.is_dir() or source.is_block_device()):
            raise StepFailed(MOUNTER, "only directory and block device are supported")
        if ".." in source.parts:
            raise HostFailure(f"invalid path: {source} must not contain '..'")
        with _LOCKS[str(order.shared)]:
            if str(order.path) in mounting.mount_points():
                return Made(order.path, order.given.read_only, sealed=order.given.read_only)
            if source.is_block_device():
                source = _file_system(source, order)
            return _bind(source, order)

    def tear_down(self, path: Path) -> None:
        """Only the empty place: what was bound there stays."""
        path.rmdir()


def _bind(source: Path, order: Order) -> Made:
    read_only, group = order.given.read_only, order.fs_group
    first = not mounting.bound_elsewhere(source)
    order.path.mkdir(parents=True, exist_ok=True, mode=0o750)
    # The options of a file system of its own are set where that is mounted; a bind knows only some of them.
    known = [] if source == order.shared else order.mount_options
    mounting.bind(str(source), order.path, mounting.flags((["ro"] if read_only else []) + known))
    says: tuple[tuple[str, str], ...] = ()
    if group is not None:
        if first and not read_only and not _given(order, group):
            ownership.give(order.path, group)
        elif not first and (has := order.path.stat().st_gid) != group:
            text = f"The requested fsGroup is {group}, but the volume {order.path.name} has GID {has}. "
            says = (("AlreadyMountedVolume", text + "The volume may not be shareable."),)
    return Made(order.path, read_only, sealed=read_only, says=says)


def _file_system(device: Path, order: Order) -> Path:
    """Where the device's file system is mounted, once for all pods of this node."""
    if str(order.shared) not in mounting.mount_points():
        kind = order.source("local").get("fsType") or "ext4"
        options = (["ro"] if order.given.read_only else []) + order.mount_options
        filesystems.mount(device, order.shared, kind, options)
    return order.shared


def unmount_unused(folder: Path) -> None:
    """Unmount the file systems of devices that no pod's volume shows any more. Raises HostFailure."""
    if not folder.is_dir():
        return
    for place in folder.iterdir():
        lock = _LOCKS[str(place)]
        if not lock.acquire(blocking=False):
            continue  # a pod is just about to use it
        try:
            if not mounting.bound_elsewhere(place):
                if str(place) in mounting.mount_points():
                    mounting.unmount(str(place))
                with contextlib.suppress(OSError):
                    place.rmdir()  # not empty: somebody wrote where nothing was mounted; it is theirs
        finally:
            lock.release()


def _device(source: Path, read_only: bool) -> Made:
    if not source.is_block_device():
        raise StepFailed(MAP, f"{source} is not a block device")
    return Made(source, read_only)


def _given(order: Order, group: int) -> bool:
    return order.group_policy == "OnRootMismatch" and ownership.given(order.path, group)

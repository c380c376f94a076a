"""local: a folder or block device of this machine as a PersistentVolume.

A folder is bound into the pod's own; a device (volumeMode Block) is handed to the containers as it is.

The folder belongs to nobody here: when the pod goes, only the bind goes. With an fsGroup everything in it is given to that
group by the first pod that mounts it; a second one beside it finds what the first has made.
"""

from __future__ import annotations

from pathlib import Path

from bamikube.nodeagent.host import mounting
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.volumes import ownership
from bamikube.nodeagent.volumes.claims import volume_mode
from bamikube.nodeagent.volumes.faults import MAP, MOUNTER, StepFailed
from bamikube.nodeagent.volumes.plugin import Made, Needs, Order


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
        if not source.is_dir():
            # The kubelet also makes file systems on block devices; this node agent formats nothing.
            raise StepFailed(MOUNTER, "only directory and block device are supported")
        if ".." in source.parts:
            raise HostFailure(f"invalid path: {source} must not contain '..'")
        made = Made(order.path, read_only=order.given.read_only, sealed=order.given.read_only)
        if str(order.path) in mounting.mount_points():
            return made
        first = not mounting.bound_elsewhere(source)
        order.path.mkdir(parents=True, exist_ok=True, mode=0o750)
        options = (["ro"] if made.read_only else []) + order.mount_options
        mounting.bind(str(source), order.path, mounting.flags(options))
        group = order.fs_group
        if group is not None and first and not made.read_only and not _given(order, group):
            ownership.give(order.path, group)
        return made

    def tear_down(self, path: Path) -> None:
        """Only the empty place: what was bound there stays."""
        path.rmdir()


def _device(source: Path, read_only: bool) -> Made:
    if not source.is_block_device():
        raise StepFailed(MAP, f"{source} is not a block device")
    return Made(source, read_only)


def _given(order: Order, group: int) -> bool:
    return order.group_policy == "OnRootMismatch" and ownership.given(order.path, group)

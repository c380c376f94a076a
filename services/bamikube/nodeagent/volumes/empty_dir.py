"""emptyDir: an empty folder that lives as long as its pod, on disk or in memory.

Anybody in the pod may write it (0777, a tmpfs with the sticky bit, as mount makes them); with an fsGroup the folder
belongs to that group and hands it on. A tmpfs is never larger than what the pod may use: the smallest of sizeLimit,
the pod's memory limit and the node's allocatable memory (KEP-1967).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from bamikube.nodeagent.host.mounting import mount_new, mount_tmpfs
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.pod import qos
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.quantity import number
from bamikube.nodeagent.volumes import huge_pages
from bamikube.nodeagent.volumes.plugin import Made, Needs, Order

_GROUP = stat.S_ISGID | 0o770


class EmptyDir:
    field = "emptyDir"
    name = "kubernetes.io/empty-dir"
    refreshes = False
    takes_options = False

    def needs(self, pod: JSON, volume: JSON) -> Needs:
        return Needs()

    def set_up(self, order: Order) -> Made:
        source = order.volume["emptyDir"] or {}
        medium = source.get("medium") or ""
        if medium == "Memory":
            make_tmpfs(order, tmpfs_size(order.pod, source.get("sizeLimit"), order.given.known.allocatable))
        elif medium == "":
            make_folder(order)
        elif huge_pages.is_medium(medium):
            make_huge_pages(order, huge_pages.page_size(order.pod, medium))
        else:
            raise HostFailure(f'unknown storage medium "{medium}"')
        return Made(order.path)

    def tear_down(self, path: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)


def make_folder(order: Order) -> bool:
    """An empty folder for all, whole from the moment it can be seen. False when it is there."""
    if order.path.is_dir():
        return False
    making = order.path.with_name(f".making-{order.path.name}")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    mode = 0o777
    if order.fs_group is not None:
        os.chown(making, -1, order.fs_group)
        mode |= _GROUP
    making.chmod(mode)
    making.rename(order.path)
    return True


def make_tmpfs(order: Order, size: int) -> bool:
    """The same in memory; ``size`` in bytes, 0 for the kernel's own limit. False when it is there."""
    if os.path.ismount(order.path):
        return False
    order.path.mkdir(parents=True, exist_ok=True)
    options = "mode=1777"
    if order.fs_group is not None:
        options = f"mode={0o1777 | _GROUP:o},gid={order.fs_group}"
    if size:
        options += f",size={size}"
    mount_tmpfs(order.path, options)
    return True


def make_huge_pages(order: Order, page: int) -> None:
    """The same in huge pages of ``page`` bytes each."""
    if os.path.ismount(order.path):
        return
    order.path.mkdir(parents=True, exist_ok=True)
    group = "" if order.fs_group is None else f",gid={order.fs_group}"
    mode = 0o777 if order.fs_group is None else 0o777 | _GROUP
    mount_new("hugetlbfs", order.path, f"pagesize={page},mode={mode:o}{group}")


def tmpfs_size(pod: JSON, size_limit: object, allocatable: Mapping[str, str]) -> int:
    """Bytes a memory volume may hold; 0 when nothing limits it."""
    choices = [
        int(number(allocatable.get("memory") or 0)),
        qos.pod_cgroup(pod).memory_limit,
        int(number(size_limit)) if isinstance(size_limit, (str, int)) else 0,
    ]
    return min((size for size in choices if size > 0), default=0)

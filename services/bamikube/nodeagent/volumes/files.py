"""configMap, secret, downwardAPI and projected volumes: files the node agent writes, and writes anew when they change.

All but configMap live in memory, so that nothing secret reaches a disk. Containers may only read them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.volumes import atomic, ownership, payload
from bamikube.nodeagent.volumes.empty_dir import make_folder, make_tmpfs, tmpfs_size
from bamikube.nodeagent.volumes.plugin import Made, Needs, Order


class _Files:
    """What the four have in common."""

    in_memory = True
    refreshes = True
    takes_options = False

    def needs(self, pod: JSON, volume: JSON) -> Needs:
        return payload.needs(volume)

    def set_up(self, order: Order) -> Made:
        files = payload.payload(order.pod, order.volume, order.given)
        if self.in_memory:
            make_tmpfs(order, tmpfs_size(order.pod, None, order.given.known.allocatable))
        else:
            make_folder(order)
        group = order.fs_group
        atomic.write(
            order.path,
            files if group is None else ownership.readable(files),
            order.version,
            settle=lambda: ownership.give(order.path, group, read_only=True) if group is not None else None,
        )
        return Made(order.path, read_only=True)

    def tear_down(self, path: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)


class ConfigMapFiles(_Files):
    field = "configMap"
    name = "kubernetes.io/configmap"
    in_memory = False


class SecretFiles(_Files):
    field = "secret"
    name = "kubernetes.io/secret"


class DownwardFiles(_Files):
    field = "downwardAPI"
    name = "kubernetes.io/downward-api"


class ProjectedFiles(_Files):
    field = "projected"
    name = "kubernetes.io/projected"

"""All kinds of volumes this node agent knows."""

from __future__ import annotations

from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.volumes.empty_dir import EmptyDir
from bamikube.nodeagent.volumes.faults import DEVICE, SET_UP, NotProcessed, StepFailed
from bamikube.nodeagent.volumes.files import ConfigMapFiles, DownwardFiles, ProjectedFiles, SecretFiles
from bamikube.nodeagent.volumes.host_path import HostPath
from bamikube.nodeagent.volumes.image import ImageTree
from bamikube.nodeagent.volumes.local import Local
from bamikube.nodeagent.volumes.plugin import Plugin

PLUGINS: tuple[Plugin, ...] = (
    EmptyDir(), HostPath(), Local(), ConfigMapFiles(), SecretFiles(), DownwardFiles(), ProjectedFiles(),
    ImageTree(),
)  # fmt: skip
_BY_FIELD = {plugin.field: plugin for plugin in PLUGINS}
_BY_FOLDER = {plugin.name.replace("/", "~"): plugin for plugin in PLUGINS}


def plugin_of(volume: JSON, behind: JSON | None = None) -> Plugin:
    """Whose volume this is; ``behind`` is the persistent volume of a claim. Raises HostFailure for an unknown kind."""
    holder, name = (
        (volume, volume["name"]) if behind is None else (behind["spec"], behind["metadata"]["name"])
    )
    for field in holder:
        if field in _BY_FIELD:
            return _BY_FIELD[field]
    if driver := (holder.get("csi") or {}).get("driver"):
        missing = f"driver name {driver} not found in the list of registered CSI drivers"
        if behind is None:
            raise StepFailed(
                SET_UP, f"kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {missing}"
            )
        raise StepFailed(
            DEVICE,
            f"kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: {missing}",
        )
    raise NotProcessed(
        f'failed to get Plugin from volumeSpec for volume "{name}" err=no volume plugin matched'
    )


def plugin_in(folder: str) -> Plugin | None:
    """Whose volumes lie in a folder ``kubernetes.io~empty-dir``."""
    return _BY_FOLDER.get(folder)

"""All kinds of volumes this node agent knows."""

from __future__ import annotations

from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.volumes.empty_dir import EmptyDir
from bamikube.nodeagent.volumes.files import ConfigMapFiles, DownwardFiles, ProjectedFiles, SecretFiles
from bamikube.nodeagent.volumes.host_path import HostPath
from bamikube.nodeagent.volumes.plugin import Plugin

PLUGINS: tuple[Plugin, ...] = (
    EmptyDir(), HostPath(), ConfigMapFiles(), SecretFiles(), DownwardFiles(), ProjectedFiles(),
)  # fmt: skip
_BY_FIELD = {plugin.field: plugin for plugin in PLUGINS}
_BY_FOLDER = {plugin.name.replace("/", "~"): plugin for plugin in PLUGINS}


def plugin_of(volume: JSON) -> Plugin:
    """Whose volume this is. Raises HostFailure for a source without a plugin."""
    for field in volume:
        if field in _BY_FIELD:
            return _BY_FIELD[field]
    kinds = ", ".join(sorted(set(volume) - {"name"})) or "none"
    raise HostFailure(f"no volume plugin matched: the node agent has none for its source ({kinds})")


def plugin_in(folder: str) -> Plugin | None:
    """Whose volumes lie in a folder ``kubernetes.io~empty-dir``."""
    return _BY_FOLDER.get(folder)

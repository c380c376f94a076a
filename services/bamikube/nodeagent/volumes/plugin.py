"""What a kind of volume is to the node agent: one small class in a file of its own.

``needs`` (pure) names what the cluster has to give first; ``set_up`` (blocking, run on a thread of its own) makes the
volume and must be harmless when repeated; ``tear_down`` takes away what lies at a path, also for a pod nobody remembers.
:data:`bamikube.nodeagent.volumes.kinds.PLUGINS` lists them all.

A volume that goes through a claim is made by the plugin of the PersistentVolume behind it.
A kind that ``refreshes`` is set up again whenever what it was made from may have changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bamikube.nodeagent.container.env import Sources
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import TreeMount


@dataclass(frozen=True, slots=True)
class TokenNeed:
    audience: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Needs:
    """What the cluster must give before a volume can be made. ``objects`` are (kind, name)."""

    objects: frozenset[tuple[str, str]] = frozenset()
    tokens: frozenset[TokenNeed] = frozenset()
    trust: bool = False  # trust anchors of the cluster


@dataclass(frozen=True, slots=True)
class Given:
    """What was given for the needs; ``behind`` is the PersistentVolume of a claim."""

    known: Sources
    tokens: Mapping[TokenNeed, str] = field(default_factory=dict)
    behind: JSON | None = None
    read_only: bool = False  # the claim is used for reading only
    tree: tuple[TreeMount, ...] = ()  # the contents of an image
    bundles: Sequence[JSON] | None = None  # all ClusterTrustBundles, where they are served


@dataclass(frozen=True, slots=True)
class Order:
    """One volume to be made. ``path`` is its own folder; ``version`` is new for every order.

    ``shared`` is where what several pods use together can be mounted once.
    """

    pod: JSON
    volume: JSON
    path: Path
    given: Given
    version: str
    shared: Path = Path()

    def source(self, field: str) -> JSON:
        """What a volume is made of: the part of the pod's volume, or of the persistent one, named as the plugin is."""
        holder = self.given.behind["spec"] if self.given.behind is not None else self.volume
        return dict(holder[field] or {})

    @property
    def mount_options(self) -> list[str]:
        return options_of(self.given.behind)

    @property
    def group_policy(self) -> str:
        """When everything in the volume is given to the pod's group: Always, or OnRootMismatch."""
        context = self.pod["spec"].get("securityContext") or {}
        return str(context.get("fsGroupChangePolicy") or "Always")

    @property
    def fs_group(self) -> int | None:
        group = (self.pod["spec"].get("securityContext") or {}).get("fsGroup")
        return None if group is None else int(group)


def options_of(behind: JSON | None) -> list[str]:
    """The mount options of a persistent volume, the old annotation's included."""
    if behind is None:
        return []
    old = (behind["metadata"].get("annotations") or {}).get("volume.beta.kubernetes.io/mount-options") or ""
    return [part for part in old.split(",") if part] + list(behind["spec"].get("mountOptions") or ())


@dataclass(frozen=True, slots=True)
class Made:
    """A volume that is there: where containers' mounts begin, and whether they may only read.

    ``says`` are reasons and messages of warnings for the pod's owner. ``sealed``: its own mount is read-only; a runtime that were asked for that, too, would
    mount it anew and forget what else the mount has (noexec).
    """

    path: Path
    read_only: bool = False
    says: tuple[tuple[str, str], ...] = ()
    sealed: bool = False
    mapped: bool = True  # owners of files are of the pod, where it has users of its own


class Plugin(Protocol):
    """A kind of volume."""

    field: str  # of a pod's volume: "emptyDir"
    name: str  # as Kubernetes calls the plugin: "kubernetes.io/empty-dir"
    refreshes: bool
    takes_options: bool  # whether a persistent volume of this kind may name mount options

    def needs(self, pod: JSON, volume: JSON) -> Needs: ...

    def set_up(self, order: Order) -> Made:
        """Make it. Raises HostFailure, ConfigError or OSError."""

    def tear_down(self, path: Path) -> None:
        """Take it away; what is mounted there has been unmounted already."""

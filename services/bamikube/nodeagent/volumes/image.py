"""image: the contents of an OCI image, to be read only, with nothing in it to be executed (KEP-4639).

The image is pulled by the volume's own policy when the first container that mounts it starts, as a container's image is. The
runtime then gives the tree to be mounted (:mod:`bamikube.nodeagent.runtime.snapshots`); it is mounted once for the pod.
"""

from __future__ import annotations

from pathlib import Path

from bamikube.nodeagent.host import mounting
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.volumes.plugin import Made, Needs, Order

_READ_ONLY = ["ro", "noexec"]


class ImageTree:
    field = "image"
    name = "kubernetes.io/image"
    refreshes = False
    takes_options = False

    def needs(self, pod: JSON, volume: JSON) -> Needs:
        return Needs()

    def set_up(self, order: Order) -> Made:
        if len(order.given.tree) != 1:
            raise HostFailure(
                f"the runtime shows the image in {len(order.given.tree)} mounts; only one can be used"
            )
        if str(order.path) not in mounting.mount_points():
            order.path.mkdir(parents=True, exist_ok=True, mode=0o750)
            mounting.mount_tree(order.given.tree[0], order.path, mounting.flags(_READ_ONLY))
        # The kernel cannot show an overlay with other owners: in a pod with users of its own, files are nobody's.
        return Made(order.path, read_only=True, sealed=True, mapped=False)

    def tear_down(self, path: Path) -> None:
        path.rmdir()


def mounted_by(pod: JSON, spec: JSON) -> list[JSON]:
    """The image volumes that a container mounts."""
    names = {mount["name"] for mount in spec.get("volumeMounts") or ()}
    return [v for v in pod["spec"].get("volumes") or () if "image" in v and v["name"] in names]


def pull_of(spec: JSON, volume: JSON) -> JSON:
    """A volume's image as if it were the container's: one image is pulled as any other."""
    source = volume["image"] or {}
    rest = {key: value for key, value in spec.items() if key != "imagePullPolicy"}
    policy = {"imagePullPolicy": source["pullPolicy"]} if source.get("pullPolicy") else {}
    return rest | {"image": source.get("reference", "")} | policy

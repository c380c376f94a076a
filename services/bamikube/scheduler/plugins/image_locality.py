"""ImageLocality: rather nodes that have the pod's images, the larger ones more, those on few nodes less."""

from __future__ import annotations

from bamikube.scheduler.arrays import Array, np
from bamikube.scheduler.columns import Columns
from bamikube.scheduler.model import PodInfo

NAME = "ImageLocality"
WEIGHT = 1
_SMALL, _LARGE = 23 * 1024 * 1024, 1000 * 1024 * 1024


def _full(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


def score(pod: PodInfo, columns: Columns, rows: Array) -> Array | None:
    """Bytes already there, weighted by the share of nodes that have them, between 23 MiB and 1000 MiB a container."""
    found = [held for image in pod.images if (held := columns.images.get(_full(image)))]
    if not found:
        return None
    total = np.zeros(columns.size, np.float64)
    nodes = max(1, int(columns.live.sum()))
    for held in found:
        share = len(held) / nodes
        total[list(held)] += np.fromiter(held.values(), np.float64, len(held)) * share
    most = _LARGE * max(1, len(pod.images))
    return ((np.clip(total[rows], _SMALL, most) - _SMALL) * 100 / (most - _SMALL)).astype(np.int64)

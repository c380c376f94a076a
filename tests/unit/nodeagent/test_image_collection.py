"""Which images go when the disk is full, and which never do."""

from __future__ import annotations

from bamikube.nodeagent.images.collector import Seen, victims
from bamikube.nodeagent.pod.publisher import patch_between
from bamikube.nodeagent.runtime.port import Image

NOW = 10_000.0
IMAGES = [
    Image("old", ("docker.io/library/old:1",), size=100),
    Image("older", ("docker.io/library/older:1",), size=100),
    Image("busy", ("docker.io/library/busy:1",), size=100),
    Image("new", ("docker.io/library/new:1",), size=100),
    Image("pause", ("registry.k8s.io/pause:3.9",), size=1),
]
SEEN = {
    "old": Seen(1.0, 500.0),
    "older": Seen(1.0, 100.0),
    "busy": Seen(1.0, NOW),
    "new": Seen(NOW - 10, 0.0),
    "pause": Seen(1.0, 0.0),
}


def chosen(excess: int) -> list[str]:
    return [image.id for image in victims(IMAGES, SEEN, {"busy"}, NOW, excess)]


def test_longest_unused_first_and_no_more_than_needed() -> None:
    assert chosen(50) == ["older"]
    assert chosen(101) == ["older", "old"]
    assert chosen(0) == []


def test_used_fresh_and_pause_images_stay() -> None:
    assert chosen(1_000_000) == ["older", "old"]


def test_a_message_that_is_gone_is_removed_from_a_merged_condition() -> None:
    old = {"conditions": [{"type": "Initialized", "status": "False", "message": "not yet"}]}
    new = {"conditions": [{"type": "Initialized", "status": "True"}]}
    assert patch_between(old, new) == {
        "conditions": [{"type": "Initialized", "status": "True", "message": None}]
    }

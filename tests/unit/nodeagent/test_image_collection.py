"""Which images go when the disk is full, and which never do."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from bamikube.kit.world import World
from bamikube.nodeagent.images import collector as module
from bamikube.nodeagent.images.collector import (
    ImageCollector,
    Policy,
    Seen,
    excess,
    in_use,
    named,
    too_old,
    victims,
)
from bamikube.nodeagent.pod.publisher import patch_between
from bamikube.nodeagent.runtime.port import Container, Image, RuntimeFailure
from bamikube.nodeagent.stats.disks import Disk

NOW = 10_000.0
IMAGES = [
    Image("old", ("docker.io/library/old:1",), size=100),
    Image("older", ("docker.io/library/older:1",), size=100),
    Image("busy", ("docker.io/library/busy:1",), size=100),
    Image("new", ("docker.io/library/new:1",), size=100),
    Image("pause", ("registry.k8s.io/pause:3.9",), size=1),
    Image("pinned", ("x.example/sandbox:1",), size=1, pinned=True),
]
SEEN = {
    "old": Seen(1.0, 500.0),
    "older": Seen(1.0, 100.0),
    "busy": Seen(1.0, NOW),
    "new": Seen(NOW - 10, 0.0),
    "pause": Seen(1.0, 0.0),
    "pinned": Seen(1.0, 0.0),
}


def chosen(wanted: int) -> list[str]:
    return [image.id for image in victims(IMAGES, SEEN, {"busy"}, NOW, wanted, Policy())]


def test_longest_unused_first_and_no_more_than_needed() -> None:
    assert chosen(50) == ["older"]
    assert chosen(101) == ["older", "old"]
    assert chosen(0) == []


def test_used_fresh_and_pinned_images_stay() -> None:
    assert chosen(1_000_000) == ["older", "old"]


def test_what_nobody_has_used_for_too_long_goes() -> None:
    def old(age: float, since: float = 0.0) -> list[str]:
        found = too_old(IMAGES, SEEN, {"busy"}, NOW, Policy(max_age=age), since)
        return [image.id for image in found]

    assert old(9700) == ["older"] and old(9000) == ["older", "old"] and old(0) == []
    assert old(5000, since=NOW - 4000) == []  # the node agent has not looked for so long


def test_how_much_has_to_become_free() -> None:
    assert excess(Disk(1000, 160), Policy(85, 80)) == 0
    assert excess(Disk(1000, 150), Policy(85, 80)) == 50
    assert excess(Disk(1000, 0), Policy(100, 80)) == 0
    assert excess(Disk(), Policy()) == 0


def test_what_pods_name_is_in_use() -> None:
    spec = {
        "containers": [{"image": "old:1"}, {"image": "NO NAME"}],
        "volumes": [{"image": {"reference": "x.example/data"}}, {"emptyDir": {}}],
    }
    wanted = named([{"spec": spec}])
    assert wanted == {"docker.io/library/old:1", "x.example/data:latest"}
    assert [image.id for image in IMAGES if in_use(image, [], wanted)] == ["old"]
    made = Container("c", "s", "app", 0, "exited", 1.0, image_ref="new")
    assert [image.id for image in IMAGES if in_use(image, [made], set())] == ["new"]


class Store:
    """A runtime with images, one of which cannot be removed."""

    def __init__(self) -> None:
        self.images = {i.id: i for i in IMAGES}

    async def list_images(self) -> list[Image]:
        return list(self.images.values())

    async def list_containers(self) -> list[Container]:
        return [Container("c", "s", "app", 0, "running", 1.0, image="busy")]

    async def image_filesystem(self) -> tuple[str, int]:
        return "/none", 0

    async def remove_image(self, name: str) -> None:
        if name == "old":
            raise RuntimeFailure("UNKNOWN", "in use after all")
        del self.images[name]


async def test_under_pressure_everything_unused_goes_and_a_failure_stops_nothing() -> None:
    told: list[str] = []
    runtime: Any = Store()
    policy = Policy(min_age=0.0)
    collector = ImageCollector(World(), runtime, policy, list, lambda reason, text: told.append(reason))
    for _ in range(
        2
    ):  # that the capacity is not known is told each time, that it failed once it has done so twice
        await collector.look()
    assert told == ["InvalidDiskCapacity", "InvalidDiskCapacity", "ImageGCFailed"]
    keeping = Policy(min_age=0.0, sandbox="new:1")
    assert {image.id for image in await ImageCollector(World(), runtime, keeping).remove_unused()} == {
        "older"
    }
    assert {image.id for image in await collector.remove_unused()} == {"new"}
    assert set(runtime.images) == {"old", "busy", "pause", "pinned"}


async def test_what_cannot_be_freed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    runtime: Any = Store()
    policy = Policy(high=85, low=80, min_age=0.0)
    collector = ImageCollector(World(), runtime, policy, list, lambda *words: told.append(words))
    monkeypatch.setattr(module, "disk", lambda path: Disk(capacity=10_000, available=1000))
    await (
        collector.look()
    )  # one of three cannot be removed: that is an error, of which the second one is told
    assert told == [] and set(runtime.images) == {"old", "busy", "pause", "pinned"}
    await collector.look()
    removing = "with errors in image deletion: rpc error: code = Unknown desc = in use after all"
    assert told == [("ImageGCFailed", f"wanted to free 1000 bytes, but freed 0 bytes space {removing}")]
    del runtime.images["old"]
    await collector.look()
    short = "Failed to garbage collect required amount of images. Attempted to free 1000 bytes, but only found 0 bytes eligible to free."
    assert told[1:] == [("FreeDiskSpaceFailed", short), ("ImageGCFailed", short)]
    monkeypatch.setattr(module, "disk", lambda path: Disk(capacity=10_000, available=9000))
    await collector.look()
    monkeypatch.setattr(module, "disk", lambda path: Disk(capacity=10_000, available=1000))
    await collector.look()
    assert [reason for reason, _ in told[3:]] == ["FreeDiskSpaceFailed"]


async def test_a_disk_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release, told = threading.Event(), list[str]()

    def hang(path: str) -> Disk:
        release.wait(5)
        return Disk()

    monkeypatch.setattr(module, "disk", hang)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    runtime: Any = Store()
    found = ImageCollector(World(), runtime, Policy(), list, lambda reason, text: told.append(reason))
    try:
        assert await asyncio.wait_for(found.collect(), 2) == [] and told == []
    finally:
        release.set()


def test_a_message_that_is_gone_is_removed_from_a_merged_condition() -> None:
    old = {"conditions": [{"type": "Initialized", "status": "False", "message": "not yet"}]}
    new = {"conditions": [{"type": "Initialized", "status": "True"}]}
    assert patch_between(old, new) == {
        "conditions": [{"type": "Initialized", "status": "True", "message": None}]
    }

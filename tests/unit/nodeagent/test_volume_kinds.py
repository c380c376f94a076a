"""What each kind of volume makes of its order, and that one which hangs holds up nobody else."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from bamikube.kit.metrics import REGISTRY
from bamikube.nodeagent.container.env import ConfigError, Sources
from bamikube.nodeagent.host import readonly
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.host.threads import beside
from bamikube.nodeagent.host.volumes import Volumes
from bamikube.nodeagent.runtime.snapshots import chain_of, snapshotter_of
from bamikube.nodeagent.volumes import host_path, image, kinds, ownership, payload
from bamikube.nodeagent.volumes.empty_dir import EmptyDir, tmpfs_size
from bamikube.nodeagent.volumes.huge_pages import page_size
from bamikube.nodeagent.volumes.plugin import Given, Order

JSON = dict[str, Any]
NOTHING = Given(Sources({}, [], ("10.0.0.1",), ("10.1.0.1",), "n", {"memory": "64Mi"}))


def _pod(**security: Any) -> JSON:
    return {
        "metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {"containers": [{"name": "c", "image": "i"}], "securityContext": security},
    }


def _order(path: Path, volume: JSON, **security: Any) -> Order:
    return Order(_pod(**security), {"name": "v", **volume}, path, NOTHING, "1")


def test_an_empty_dir_is_open_to_all_and_given_to_the_pods_group(tmp_path: Path) -> None:
    EmptyDir().set_up(_order(tmp_path / "a", {"emptyDir": {}}))
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o777
    EmptyDir().set_up(_order(tmp_path / "b", {"emptyDir": {}}, fsGroup=os.getgid()))
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o2777
    (tmp_path / "a" / "kept").touch()
    EmptyDir().set_up(_order(tmp_path / "a", {"emptyDir": {}}))
    assert (tmp_path / "a" / "kept").exists()  # made once


def test_a_medium_nobody_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostFailure, match='unknown storage medium "Tape"'):
        EmptyDir().set_up(_order(tmp_path / "a", {"emptyDir": {"medium": "Tape"}}))


def test_huge_pages_are_those_that_the_pod_requests() -> None:
    def pod(*names: str) -> JSON:
        return {"spec": {"containers": [{"resources": {"requests": dict.fromkeys(names, "2Mi")}}]}}

    assert page_size(pod("hugepages-2Mi", "cpu"), "HugePages") == 2 << 20
    assert page_size(pod("hugepages-2Mi", "hugepages-1Gi"), "HugePages-1Gi") == 1 << 30
    with pytest.raises(HostFailure, match="multiple huge page sizes"):
        page_size(pod("hugepages-2Mi", "hugepages-1Gi"), "HugePages")
    for medium in ("HugePages", "HugePages-2Mi"):
        with pytest.raises(
            HostFailure, match=f"medium {medium}: hugePages storage requested, but there is no"
        ):
            page_size(pod("cpu"), medium)


def test_a_memory_volume_is_never_larger_than_what_its_pod_may_use() -> None:
    pod, allocatable = _pod(), {"memory": "64Mi"}
    assert tmpfs_size(pod, None, allocatable) == 64 << 20
    assert tmpfs_size(pod, "8Mi", allocatable) == 8 << 20
    pod["spec"]["containers"][0]["resources"] = {"limits": {"memory": "4Mi"}}
    assert tmpfs_size(pod, "8Mi", allocatable) == 4 << 20
    assert tmpfs_size(_pod(), None, {}) == 0


def test_a_host_path_is_looked_at_or_made(tmp_path: Path) -> None:
    host_path.check(tmp_path / "d", "DirectoryOrCreate")
    host_path.check(tmp_path / "f", "FileOrCreate")
    assert (tmp_path / "d").is_dir() and (tmp_path / "f").is_file()
    for kind, name, word in (
        ("Directory", "f", "is not a directory"),
        ("File", "d", "is not a file"),
        ("Socket", "f", "is not a socket file"),
        ("CharDevice", "f", "is not a character device"),
        ("BlockDevice", "absent", "is not a block device"),
    ):
        with pytest.raises(HostFailure, match=f"hostPath type check failed: .*/{name} {word}"):
            host_path.check(tmp_path / name, kind)
    host_path.check(tmp_path / "absent", "")
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/etc/passwd", "must be relative path"),
        ("a/../b", "must not contain '..'"),
        ("..data/x", "must not start with '..'"),
        ("x" * 256, "less than or equal to 255"),
        ("", "must not be empty"),
    ],
)
def test_files_stay_in_their_volume(path: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        payload.checked(path)


def test_all_that_a_projected_volume_misses_is_told_at_once() -> None:
    volume = {
        "name": "v",
        "projected": {
            "sources": [
                {"configMap": {"name": "one"}},
                {"secret": {"name": "two"}},
                {"secret": {"name": "three", "optional": True}},
            ]
        },
    }
    with pytest.raises(ConfigError) as failure:
        payload.payload(_pod(), volume, NOTHING)
    assert str(failure.value) == '[configmap "one" not found, secret "two" not found]'


def test_an_image_volume_is_pulled_by_its_own_policy() -> None:
    spec = {"name": "c", "image": "app", "imagePullPolicy": "Always", "volumeMounts": [{"name": "v"}]}
    volume = {"name": "v", "image": {"reference": "data:1"}}
    pod = {"spec": {"volumes": [volume, {"name": "w", "image": {"reference": "other"}}]}}
    assert image.mounted_by(pod, spec) == [volume]
    assert image.pull_of(spec, volume)["image"] == "data:1" and "imagePullPolicy" not in image.pull_of(
        spec, volume
    )
    volume["image"]["pullPolicy"] = "Never"
    assert image.pull_of(spec, volume)["imagePullPolicy"] == "Never"
    assert chain_of('{"chainID": "sha256:1"}') == "sha256:1" and chain_of("") == ""
    assert snapshotter_of('{"containerd": {"snapshotter": "native"}}') == "native"
    assert snapshotter_of("?") == "overlayfs"


def test_what_is_given_to_a_group_can_be_used_by_it(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir(mode=0o700)
    (inside / "f").touch(mode=0o600)
    (inside / "out").symlink_to("/etc/hostname")
    ownership.give(tmp_path, os.getgid())
    assert stat.S_IMODE(inside.stat().st_mode) == 0o2770
    assert stat.S_IMODE((inside / "f").stat().st_mode) == 0o660


def test_a_source_nobody_knows_is_named() -> None:
    with pytest.raises(HostFailure, match='for volume "v" err=no volume plugin matched'):
        kinds.plugin_of({"name": "v", "glusterfs": {}})
    missing = "driver name x not found in the list of registered CSI drivers"
    for behind in (None, {"metadata": {"name": "pv"}, "spec": {"csi": {"driver": "x"}}}):
        with pytest.raises(HostFailure, match=missing):
            kinds.plugin_of({"name": "v", "csi": {"driver": "x"}}, behind)


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({}, "but it is not read-only"),
        (
            {"readOnly": True, "mountPropagation": "HostToContainer"},
            'but it is not compatible with propagation "HostToContainer"',
        ),
    ],
)
def test_recursive_read_only_is_refused_in_the_kubelets_words(mount: JSON, words: str) -> None:
    with pytest.raises(HostFailure) as failure:
        readonly.wanted({"name": "v", "recursiveReadOnly": "Enabled", **mount})
    start = 'failed to resolve recursive read-only mode: volume "v" requested recursive read-only mode, '
    assert str(failure.value) == start + words
    assert readonly.wanted({"name": "v", "readOnly": True}) == "Disabled"


async def test_work_on_a_thread_gives_its_result_or_its_error() -> None:
    def fails() -> None:
        raise OSError("no")

    assert await beside(lambda: 7) == 7
    with pytest.raises(OSError, match="no"):
        await beside(fails)


async def test_a_volume_that_hangs_holds_up_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is not begun a second time beside the first."""
    gate, begun = threading.Event(), []

    def hangs(self: object, order: Order) -> Any:
        if order.volume["name"] == "stuck":
            begun.append(order.version)
            gate.wait(10)
        return made(self, order)  # type: ignore[arg-type]

    made = EmptyDir.set_up
    monkeypatch.setattr(EmptyDir, "set_up", hangs)
    volumes = Volumes(tmp_path, patience=0.3)
    stuck, other = {"name": "stuck", "emptyDir": {}}, {"name": "other", "emptyDir": {}}
    for version in ("1", "2"):
        with pytest.raises(HostFailure, match="context deadline exceeded"):
            await volumes.set_up(_pod(), stuck, NOTHING, version)
    assert await volumes.set_up(_pod(), other, NOTHING, "3")
    assert begun == ["1"]
    counted = generate_latest(REGISTRY).decode()
    for status in ("success", "fail-unknown"):
        labels = f'migrated="false",operation_name="volume_mount",status="{status}"'
        assert (
            f'storage_operation_duration_seconds_count{{{labels},volume_plugin="kubernetes.io/empty-dir"}}'
            in counted
        )
    gate.set()
    await volumes.tear_down("u")
    assert not (tmp_path / "u").exists()

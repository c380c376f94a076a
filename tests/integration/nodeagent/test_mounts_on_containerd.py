"""Mounts within mounts on real containerd: how far they propagate, how deep read-only goes, and that none is left."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bamikube.rpc.containerd import snapshots_pb2 as pb
from tests.support.private_containerd import image_layer, layered_archive

JSON = dict[str, Any]
HELD = "trap 'exit 0' TERM; sleep 1000 & wait"  # ends at once when told to


@pytest.fixture
def shared(node: Any, tmp_path: Path) -> Iterator[Path]:
    """The node agent's folder as on a machine with systemd: mounts in it are seen elsewhere."""
    root = tmp_path / "kubelet"
    subprocess.run(["mount", "--bind", root, root], check=True)
    subprocess.run(["mount", "--make-rshared", root], check=True)
    place = root / "elsewhere"
    place.mkdir()
    yield place
    subprocess.run(["umount", "-R", "-l", root], check=True)


def container(name: str, script: str, volume: str = "v", **mount: Any) -> JSON:
    return {
        "name": name,
        "command": ["sh", "-c", script],
        "securityContext": {"privileged": True},
        "volumeMounts": [{"name": volume, "mountPath": "/v", **mount}],
    }


def said(worker: Any) -> dict[str, str]:
    return {
        item["name"]: item["state"]["terminated"].get("message", "")
        for item in worker.status.get("containerStatuses") or ()
    }


def mounted_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(f"{folder}/")]


async def test_mounts_propagate_as_far_as_their_container_says(node: Any, until: Any, shared: Path) -> None:
    """One mounts within the volume; who sees it depends on each one's own propagation."""
    wait = "while [ ! -e /v/done ]; do sleep 0.05; done; ls /v/m > /dev/termination-log"
    spec = {
        "restartPolicy": "Never",
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [
            container("private", wait),
            container("follows", wait, mountPropagation="HostToContainer"),
            container(
                "leads",
                "mkdir -p /v/m; mount -t tmpfs t /v/m; touch /v/m/file; sleep 1; touch /v/done",
                mountPropagation="Bidirectional",
            ),
        ],
    }
    worker = node.run(node.pod("propagates", spec))
    folder = node.host._pod(worker.uid)
    await until(lambda: worker.status.get("phase") == "Succeeded")
    assert said(worker) == {"private": "", "follows": "file\n", "leads": ""}
    node.delete(worker)
    await until(lambda: not node.workers)
    assert mounted_below(folder) == [] and not folder.exists()


async def test_read_only_goes_as_deep_as_it_says(node: Any, until: Any, shared: Path) -> None:
    (shared / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "t", shared / "below"], check=True)
    try:
        script = "{ touch /v/x 2>/dev/null && echo top; touch /v/below/$0 2>/dev/null && echo below; } > /dev/termination-log; true"
        spec = {
            "restartPolicy": "Never",
            "volumes": [{"name": "v", "hostPath": {"path": str(shared)}}],
            "containers": [
                container("plain", script, readOnly=True),
                container("deep", script, readOnly=True, recursiveReadOnly="Enabled"),
                container("possible", script, readOnly=True, recursiveReadOnly="IfPossible"),
                container(
                    "part", "touch /v/part; true", readOnly=True, recursiveReadOnly="Enabled", subPath="below"
                ),
            ],
        }
        worker = node.run(node.pod("read-only", spec))
        folder = node.host._pod(worker.uid)
        await until(lambda: worker.status.get("phase") == "Succeeded")
        assert said(worker) == {"plain": "below\n", "deep": "", "possible": "", "part": ""}
        told = {
            item["name"]: item["volumeMounts"][0]["recursiveReadOnly"]
            for item in worker.status["containerStatuses"]
        }
        assert told == {"plain": "Disabled", "deep": "Enabled", "possible": "Enabled", "part": "Enabled"}
        assert [path.name for path in (shared / "below").iterdir()] == ["sh"]
        node.delete(worker)
        await until(lambda: not node.workers)
        assert mounted_below(folder) == [] and not folder.exists()
        assert (shared / "below" / "sh").exists()
    finally:
        subprocess.run(["umount", shared / "below"], check=True)


async def test_a_busy_volume_and_one_of_an_agent_that_died_go_with_their_pod(
    node: Any, until: Any, shared: Path
) -> None:
    spec = {
        "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}],
        "containers": [container("app", HELD, subPath="part")],
    }
    worker = node.run(node.pod("busy", spec))
    await until(lambda: worker.status.get("phase") == "Running")
    folder = node.host._pod(worker.uid)
    inside = folder / "volumes" / "kubernetes.io~empty-dir" / "v"
    (inside / "nested").mkdir()
    for _ in range(2):  # stacked
        subprocess.run(["mount", "-t", "tmpfs", "t", inside / "nested"], check=True)
    await worker.close()
    node.workers.pop(worker.uid)
    node.host._volumes = type(node.host._volumes)(node.host._volumes._root)  # a new agent remembers nothing
    with (inside / "nested" / "open").open("w"):
        again = node.run(worker.pod)
        node.delete(again)
        await until(lambda: not node.workers)
    assert mounted_below(folder) == [] and not folder.exists()


async def test_a_volume_in_huge_pages(node: Any, until: Any) -> None:
    """The machine need not have any to show the volume; using it would need them."""
    app = container(
        "app",
        "grep -o 'hugetlbfs .*pagesize=2M' /proc/mounts > /dev/termination-log; stat -c %a /v >> /dev/termination-log",
    )
    app["resources"] = {"requests": {"hugepages-2Mi": "2Mi"}, "limits": {"hugepages-2Mi": "2Mi"}}
    volumes = [{"name": "v", "emptyDir": {"medium": "HugePages"}}]
    worker = node.run(node.pod("huge", {"restartPolicy": "Never", "volumes": volumes, "containers": [app]}))
    await until(lambda: worker.status.get("phase") == "Succeeded")
    assert said(worker)["app"].startswith("hugetlbfs") and said(worker)["app"].endswith("pagesize=2M\n777\n")


async def test_the_contents_of_an_image_are_a_volume(node: Any, until: Any, containerd: Any) -> None:
    """Of one layer (a bind) and of two (an overlay); nothing of them can be written or executed, nothing stays."""
    one = image_layer({"etc/file": b"lower", "bin/tool": b"#!/bin/sh\n"}, {})
    two = image_layer({"etc/file": b"upper"}, {})
    containerd.load_images(
        [
            layered_archive("bamikube.test/data:one", [one], {}),
            layered_archive("bamikube.test/data:two", [one, two], {}),
        ]
    )
    spec = {
        "restartPolicy": "Never",
        "volumes": [
            {"name": "one", "image": {"reference": "bamikube.test/data:one", "pullPolicy": "Never"}},
            {"name": "two", "image": {"reference": "bamikube.test/data:two"}},
        ],
        "containers": [
            {
                "name": "app",
                "command": [
                    "sh",
                    "-c",
                    "{ cat /one/etc/file; echo; cat /two/etc/file /part; echo; touch /one/x /two/x; /one/bin/tool; }"
                    " > /dev/termination-log 2>&1; true",
                ],
                "volumeMounts": [
                    {"name": "one", "mountPath": "/one"},
                    {"name": "two", "mountPath": "/two"},
                    {"name": "two", "mountPath": "/part", "subPath": "etc/file"},
                ],
            }
        ],
    }
    worker = node.run(node.pod("image", spec))
    folder = node.host._pod(worker.uid)
    await until(lambda: worker.status.get("phase") == "Succeeded")
    lines = said(worker)["app"].splitlines()
    assert lines[:2] == ["lower", "upperupper"]
    assert lines[2:4] == [f"touch: /{name}/x: Read-only file system" for name in ("one", "two")]
    assert "Permission denied" in lines[4]
    node.delete(worker)
    await until(lambda: not node.workers)
    assert mounted_below(folder) == [] and not folder.exists()
    stub = node.runtime._snapshots
    request = pb.ListSnapshotsRequest(snapshotter="overlayfs")
    names = [i.name async for page in stub._stub.List(request, metadata=stub._metadata) for i in page.info]
    assert names and not any(worker.uid in name for name in names)

    nowhere = {"name": "m", "image": {"reference": "bamikube.test/data:one"}}
    app = container("app", "true", "m", subPath="not/there")
    worker = node.run(node.pod("nowhere", {"volumes": [nowhere], "containers": [app]}))
    await until(lambda: "CreateContainerError" in str(worker.status.get("containerStatuses")))
    assert 'ImageVolumeMountFailed: failed to ensure image subpath "not/there" in ' in str(worker.status)
    node.delete(worker)

    missing = {"name": "m", "image": {"reference": "bamikube.test/absent:1", "pullPolicy": "Never"}}
    spec = {"volumes": [missing], "containers": [container("app", "true", "m")]}
    worker = node.run(node.pod("missing", spec))
    await until(lambda: "ErrImageNeverPull" in str(worker.status.get("containerStatuses")))

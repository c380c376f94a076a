"""Persistent volumes on real containerd: local and hostPath ones behind a claim, and what they refuse."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

JSON = dict[str, Any]
HELD = "trap 'exit 0' TERM; sleep 1000 & wait"  # ends at once when told to


def claim(node: Any, name: str, source: JSON, **spec: Any) -> None:
    """A claim, and the volume it is bound to."""
    node.api.objects[("persistentvolumeclaims", name)] = {
        "metadata": {"name": name, "uid": f"uid-of-{name}"},
        "spec": {"volumeName": f"pv-{name}"},
        "status": {"phase": "Bound"},
    }
    node.api.objects[("persistentvolumes", f"pv-{name}")] = {
        "metadata": {"name": f"pv-{name}"},
        "spec": {"claimRef": {"uid": f"uid-of-{name}"}} | source | spec,
    }


def pod(node: Any, name: str, script: str, *claims: str, read_only: bool = False, **security: Any) -> Any:
    spec = {
        "restartPolicy": "Never",
        "securityContext": security,
        "volumes": [
            {"name": c, "persistentVolumeClaim": {"claimName": c, "readOnly": read_only}} for c in claims
        ],
        "containers": [
            {
                "name": "app",
                "command": ["sh", "-c", script],
                "volumeMounts": [{"name": c, "mountPath": f"/{c}"} for c in claims],
            }
        ],
    }
    return node.run(node.pod(name, spec))


def said(worker: Any) -> str:
    items = worker.status.get("containerStatuses") or [{}]
    return str(items[0].get("state", {}).get("terminated", {}).get("message", ""))


async def test_what_lies_in_a_persistent_volume_outlives_its_pods(
    node: Any, until: Any, tmp_path: Path
) -> None:
    disk, plain = tmp_path / "disk", tmp_path / "plain"
    for folder in (disk, plain):
        (folder / "old").mkdir(parents=True, mode=0o755)
        (folder / "old" / "file").write_text("here\n")
    claim(node, "disk", {"local": {"path": str(disk)}}, mountOptions=["noexec"])
    claim(node, "plain", {"hostPath": {"path": str(plain)}})
    node.api.objects[("persistentvolumes", "pv-plain")]["metadata"]["annotations"] = {
        "pv.beta.kubernetes.io/gid": "777"
    }
    script = (
        "cat /disk/old/file /plain/old/file; echo new > /disk/made; echo new > /plain/made; "
        "{ stat -c %a-%g /disk/old /disk/old/file /plain/old/file /disk/made; id -G; "
        "grep ' /disk ' /proc/mounts | grep -o noexec; } > /dev/termination-log"
    )
    worker = pod(node, "one", script, "disk", "plain", fsGroup=1234)
    await until(lambda: worker.status.get("phase") == "Succeeded")
    lines = said(worker).split("\n")
    assert lines[:4] == ["2775-1234", "664-1234", "644-0", "644-1234"]  # hostPath obeys no fsGroup
    assert {"1234", "777"} <= set(lines[4].split()) and lines[5] == "noexec"
    bound = node.host._pod(worker.uid) / "volumes" / "kubernetes.io~local-volume" / "pv-disk"
    assert bound.is_dir() or not bound.exists()  # the pod has ended and is being tidied up
    node.delete(worker)
    await until(lambda: not node.workers)
    assert (disk / "made").read_text() == "new\n" and (plain / "made").read_text() == "new\n"
    assert str(bound) not in Path("/proc/self/mountinfo").read_text()

    script = "cat /disk/made; touch /disk/x /plain/x 2>&1 | grep -c Read-only > /dev/termination-log"
    worker = pod(node, "two", script, "disk", "plain", read_only=True)
    await until(lambda: worker.status.get("phase") == "Succeeded")
    assert said(worker) == "2\n"


async def test_the_group_is_changed_once_where_the_pod_says_so(node: Any, until: Any, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "in").mkdir(parents=True)
    disk.chmod(0o2775)
    os.chown(disk, -1, 1234)
    claim(node, "disk", {"local": {"path": str(disk)}})
    policy = {"fsGroup": 1234, "fsGroupChangePolicy": "OnRootMismatch"}
    worker = pod(node, "root-matches", "true", "disk", **policy)
    await until(lambda: worker.status.get("phase") == "Succeeded")
    assert (disk / "in").stat().st_gid == 0
    node.delete(worker)
    await until(lambda: not node.workers)
    worker = pod(node, "always", "true", "disk", fsGroup=1234)
    await until(lambda: worker.status.get("phase") == "Succeeded")
    assert (disk / "in").stat().st_gid == 1234


async def test_what_cannot_be_mounted_is_told_and_had_as_soon_as_it_can(
    node: Any, until: Any, tmp_path: Path
) -> None:
    def events() -> set[str]:
        return {message for reason, message in node.api.events if reason == "FailedMount"}

    claim(node, "late", {"local": {"path": str(tmp_path / "late")}})
    node.api.objects[("persistentvolumeclaims", "late")]["status"]["phase"] = "Pending"
    worker = pod(node, "waits", HELD, "late")
    await until(
        lambda: (
            "Unable to attach or mount volumes: unmounted volumes=[late], unattached volumes=[], failed to process "
            "volumes=[late]: error processing PVC default/late: PVC is not bound" in events()
        )
    )
    node.api.objects[("persistentvolumeclaims", "late")]["status"]["phase"] = "Bound"
    worker.referred()  # else it looks again after a while
    text = f'MountVolume.NewMounter initialization failed for volume "pv-late" : path "{tmp_path}/late" does not exist'
    await until(lambda: text in events())
    (tmp_path / "late").mkdir()
    worker.referred()
    await until(lambda: worker.status.get("phase") == "Running")

    (tmp_path / "single").mkdir()
    claim(node, "single", {"local": {"path": str(tmp_path / "single")}}, accessModes=["ReadWriteOncePod"])
    first = pod(node, "first", HELD, "single")
    await until(lambda: first.status.get("phase") == "Running")
    second = pod(node, "second", HELD, "single")
    text = "volume uses the ReadWriteOncePod access mode and is already in use by another pod"
    await until(lambda: f'MountVolume.SetUp failed for volume "pv-single" : {text}' in events())
    node.delete(first)
    await until(lambda: first.uid not in node.workers)
    second.referred()
    await until(lambda: second.status.get("phase") == "Running")

    claim(node, "options", {"hostPath": {"path": str(tmp_path)}}, mountOptions=["noexec"])
    pod(node, "options", HELD, "options")
    text = 'for volume "pv-options" : Mount options are not supported for this volume type'
    await until(lambda: f"MountVolume.MountOptionSupport check failed {text}" in events())


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A block device with a few letters on it."""
    backing = tmp_path / "backing"
    backing.write_bytes(b"on disk".ljust(16 << 20, b"."))
    made = subprocess.run(["losetup", "-f", "--show", backing], check=True, capture_output=True, text=True)
    yield made.stdout.strip()
    subprocess.run(["losetup", "-d", made.stdout.strip()], check=True)


async def test_a_block_device_is_handed_on_as_it_is(node: Any, until: Any, device: str) -> None:
    claim(node, "raw", {"local": {"path": device}}, volumeMode="Block")
    script = "dd if=/dev/data bs=7 count=1 2>/dev/null > /dev/termination-log; echo written > /dev/data; sync"
    for read_only in (False, True):
        app = {
            "name": "app",
            "command": ["sh", "-c", script],
            "volumeDevices": [{"name": "v", "devicePath": "/dev/data"}],
        }
        source = {"persistentVolumeClaim": {"claimName": "raw", "readOnly": read_only}}
        spec = {
            "restartPolicy": "Never",
            "volumes": [{"name": "v", **source}],
            "containers": [app],
        }
        worker = node.run(node.pod(f"raw-{read_only}".lower(), spec))
        await until(lambda: worker.status.get("phase") in ("Succeeded", "Failed"))  # noqa: B023
        assert said(worker) == ("written" if read_only else "on disk")
    with Path(device).open("rb") as disk:
        assert disk.read(8) == b"written\n"


async def test_a_file_system_is_made_once_and_mounted_for_as_long_as_pods_use_it(
    node: Any, until: Any, device: str
) -> None:
    with Path(device).open("r+b") as disk:
        disk.write(bytes(1 << 20))  # nothing at all is on it
    claim(node, "disk", {"local": {"path": device}}, mountOptions=["noatime", "nodelalloc"])
    script = (
        "cat /disk/* ; echo $HOSTNAME > /disk/$HOSTNAME; grep ' /disk ' /proc/mounts > /dev/termination-log; "
        + HELD
    )
    shared = f"{node.host._root}/plugins/kubernetes.io/local-volume/mounts/pv-disk"

    def mounted() -> int:
        return sum(f" {shared} " in line for line in Path("/proc/self/mountinfo").read_text().splitlines())

    first = pod(node, "first", script, "disk", fsGroup=1234)
    second = pod(node, "second", script, "disk", fsGroup=4321)
    await until(lambda: all(w.status.get("phase") == "Running" for w in (first, second)))
    assert mounted() == 1
    folder = node.host._pod(second.uid)
    await until(lambda: (folder / "containers" / "app" / "0").read_text())
    line = (folder / "containers" / "app" / "0").read_text()
    assert " ext4 " in line and "noatime" in line and "nodelalloc" in line
    text = "The requested fsGroup is {}, but the volume pv-disk has GID {}. The volume may not be shareable."
    warned = {message for reason, message in node.api.events if reason == "AlreadyMountedVolume"}
    assert warned in ({text.format(4321, 1234)}, {text.format(1234, 4321)})
    node.delete(first)
    await until(lambda: first.uid not in node.workers)
    assert mounted() == 1
    node.delete(second)
    await until(lambda: not node.workers)
    assert mounted() == 0

    again = pod(node, "again", "ls /disk > /dev/termination-log", "disk")
    await until(lambda: again.status.get("phase") == "Succeeded")
    assert {"first", "second"} <= set(said(again).split())

    claim(node, "partitions", {"local": {"path": device, "fsType": "xfs"}})
    pod(node, "other-kind", "true", "partitions")
    await until(
        lambda: any(
            'failed to mount the volume as "xfs", it already contains ext4' in m for _, m in node.api.events
        )
    )

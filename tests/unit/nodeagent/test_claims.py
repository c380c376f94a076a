"""From a pod's volume to its claim to the persistent volume: every broken link in the kubelet's words."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from bamikube.nodeagent.container.env import Sources
from bamikube.nodeagent.host import mounting
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.volumes import claims, ownership
from bamikube.nodeagent.volumes.faults import StepFailed, told
from bamikube.nodeagent.volumes.local import Local
from bamikube.nodeagent.volumes.plugin import Given, Order, options_of

JSON = dict[str, Any]
POD: JSON = {"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": {"containers": []}}
VOLUME: JSON = {"name": "data", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}}


def claim(status: str = "Bound", **meta: Any) -> JSON:
    return {
        "metadata": {"name": "c", "uid": "cu"} | meta,
        "spec": {"volumeName": "pv"},
        "status": {"phase": status},
    }


def volume(**spec: Any) -> JSON:
    return {"metadata": {"name": "pv"}, "spec": {"claimRef": {"uid": "cu"}, "local": {"path": "/x"}} | spec}


def test_a_claim_is_named_or_made_for_the_pod() -> None:
    assert claims.claim_of(POD, VOLUME) == claims.Claim("c", read_only=True)
    assert claims.claim_of(POD, {"name": "scratch", "ephemeral": {}}) == claims.Claim("web-scratch", own=True)
    assert claims.claim_of(POD, {"name": "v", "emptyDir": {}}) is None
    own = claims.Claim("web-scratch", own=True)
    owner = {"uid": "u", "controller": True}
    assert claims.bound(POD, own, claim(ownerReferences=[owner])) == "pv"
    with pytest.raises(HostFailure) as failure:
        claims.bound(POD, own, claim())
    text = "PVC default/web-scratch was not created for pod default/web (pod is not owner)"
    assert str(failure.value) == text


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, 'failed to fetch PVC from API server: persistentvolumeclaims "c" not found'),
        (claim("Pending"), "PVC is not bound"),
        (claim(deletionTimestamp="2026-01-01T00:00:00Z"), "PVC is being deleted"),
        (claim() | {"spec": {}}, "PVC has empty pvc.Spec.VolumeName"),
    ],
)
def test_a_claim_must_be_bound(found: JSON | None, words: str) -> None:
    with pytest.raises(HostFailure) as failure:
        claims.bound(POD, claims.Claim("c"), found)
    assert told(failure.value, "data", "data") == (
        "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], "
        f"failed to process volumes=[data]: error processing PVC default/c: {words}"
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, 'failed to fetch PV pv from API server: persistentvolumes "pv" not found'),
        (volume(claimRef=None), "found PV object pv but it has a nil pv.Spec.ClaimRef"),
        (volume(claimRef={"uid": "x"}), "its pv.Spec.ClaimRef.UID x does not point to claim.UID cu"),
        (volume(volumeMode="Block"), "volume data has volumeMode Block, but is specified in volumeMounts"),
        (volume(), "volume data has volumeMode Filesystem, but is specified in volumeDevices"),
    ],
)
def test_the_volume_must_be_the_claims(found: JSON | None, words: str) -> None:
    with pytest.raises(HostFailure) as failure:
        field = words.rsplit(" ", 1)[-1]
        pod = POD | {"spec": {"containers": [{field: [{"name": "data"}]}]}}
        claims.behind(pod, VOLUME, claims.Claim("c"), claim(), found)
    assert words in str(failure.value)


def test_a_volume_bound_to_other_nodes_is_refused() -> None:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["a"]}]}
    found = volume(nodeAffinity={"required": {"nodeSelectorTerms": [term]}})
    claims.check_node(found, {"kubernetes.io/hostname": "a"}, "a")
    claims.check_node(volume(), {}, "a")
    with pytest.raises(StepFailed) as failure:
        claims.check_node(found, {"kubernetes.io/hostname": "b"}, "b")
    text = 'MountVolume.NodeAffinity check failed for volume "pv" : no matching NodeSelectorTerms'
    assert told(failure.value, "data", "pv") == text


def test_mount_options_come_from_the_volume_and_its_old_annotation() -> None:
    found = volume(mountOptions=["noexec"])
    found["metadata"]["annotations"] = {"volume.beta.kubernetes.io/mount-options": "nosuid,nodev"}
    assert options_of(found) == ["nosuid", "nodev", "noexec"] and options_of(None) == []
    assert mounting.flags(["ro", "nosuid", "noexec"]) == 1 | 2 | 8
    with pytest.raises(HostFailure, match="'size=1'"):
        mounting.flags(["size=1"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Path.exists, 'path "{}" does not exist'),
        (Path.touch, "only directory and block device are supported"),
    ],
)
def test_a_local_volume_must_be_a_folder(tmp_path: Path, make: Any, words: str) -> None:
    source = tmp_path / "disk"
    make(source)
    known = Sources({}, [], (), (), "n", {})
    order = Order(
        POD, VOLUME, tmp_path / "pod", Given(known, behind=volume(local={"path": str(source)})), "1"
    )
    with pytest.raises(HostFailure) as failure:
        Local().set_up(order)
    text = f'MountVolume.NewMounter initialization failed for volume "pv" : {words.format(source)}'
    assert told(failure.value, "data", "pv") == text


def test_a_volume_may_name_its_group() -> None:
    def group(text: str) -> int | None:
        return claims.group_of({"metadata": {"annotations": {"pv.beta.kubernetes.io/gid": text}}})

    assert group("777") == 777 and group("0") == 0
    assert [group(odd) for odd in ("", "staff", "-1", "²", "9" * 5000)] == [None] * 5
    assert claims.group_of(None) is None and claims.group_of(volume()) is None


def test_the_top_of_a_volume_tells_whether_it_was_given(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert not ownership.given(tmp_path, os.getgid())
    ownership.give(tmp_path, os.getgid())
    assert ownership.given(tmp_path, os.getgid()) and not ownership.given(tmp_path, os.getgid() + 1)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o2775

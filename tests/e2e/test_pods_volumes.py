"""Volumes on the lab with real kubectl: claims, images, parts by expression, mounts that propagate, objects that come late.

Every pod of this file is created at once, each test looks at its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Pod = dict[str, Any]
BUSYBOX = "busybox:1.36"
HELD = "trap 'exit 0' TERM; while true; do sleep 0.2; done"
DISK = "/var/lib/kubelet/t-pods-volumes"


def container(script: str, *mounts: Pod, **more: Any) -> Pod:
    return {
        "name": "c", "image": BUSYBOX, "command": ["sh", "-c", script], "volumeMounts": list(mounts)
    } | more  # fmt: skip


def at(volume: str, path: str, **more: Any) -> Pod:
    return {"name": volume, "mountPath": path, **more}


def pod(name: str, volumes: list[Pod], *containers: Pod, **spec: Any) -> Pod:
    more = {"terminationGracePeriodSeconds": 1, "restartPolicy": "Never"} | spec
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": {}},
        "spec": more | {"volumes": volumes, "containers": list(containers)},
    }


EMPTY = [{"name": "v", "emptyDir": {}}]
WAIT = "while [ ! -e /v/done ]; do sleep 0.1; done; ls /v/m"
PODS = [
    pod(
        "claims",
        [{"name": "v", "persistentVolumeClaim": {"claimName": "disk"}}],
        container(
            "echo kept > /v/file; stat -c %a-%g /v /v/file; grep ' /v ' /proc/mounts | grep -o noexec", at("v", "/v")
        ),
        securityContext={"fsGroup": 4321},
    ),
    pod("unbound", [{"name": "v", "persistentVolumeClaim": {"claimName": "other"}}], container("true", at("v", "/v"))),
    pod(
        "image",
        [{"name": "v", "image": {"reference": BUSYBOX}}],
        container("ls -d /v/bin; touch /v/x; /v/bin/busybox true", at("v", "/v")),
    ),
    pod(
        "expression",
        EMPTY,
        container(
            HELD,
            at("v", "/part", subPathExpr="$(PLACE)"),
            env=[{"name": "PLACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['place']"}}}],
        ),
    ),
    pod(
        "propagates",
        EMPTY,
        container(WAIT, at("v", "/v", mountPropagation="HostToContainer")),
        container(WAIT, at("v", "/v"), name="private"),
        container(
            "mkdir -p /v/m; mount -t tmpfs t /v/m; touch /v/m/seen; sleep 1; touch /v/done",
            at("v", "/v", mountPropagation="Bidirectional"),
            name="leads",
            securityContext={"privileged": True},
        ),
    ),
    pod("late", [{"name": "v", "configMap": {"name": "late"}}], container("cat /v/k", at("v", "/v"))),
]  # fmt: skip


class Room:
    """The namespace of this file and what is read from it."""

    def __init__(self, kubectl: Any, name: str, eventually: Callable[..., Any]) -> None:
        self.kubectl, self.name, self.eventually = kubectl.within(name), name, eventually

    def log(self, name: str, container: str = "c", phase: str = "Succeeded") -> str:
        def look() -> bool:
            return bool(self.kubectl.json("get", "pod", name)["status"]["phase"] == phase)

        self.eventually(look, 60, f"{name} to be {phase}")
        return str(self.kubectl("logs", name, "-c", container))

    def event(self, name: str, reason: str, text: str) -> None:
        words = ("get", "events", f"--field-selector=involvedObject.name={name},reason={reason}")
        self.eventually(
            lambda: any(text in e["message"] for e in self.kubectl.json(*words)["items"]),
            60,
            f"event {reason} of {name}: {text}",
        )


def bind(kubectl: Any, claim: str, volume: str) -> None:
    """What the volume controller will do: say in both objects that they belong together."""
    uid = kubectl.json("get", "pvc", claim)["metadata"]["uid"]
    kubectl("patch", "pv", volume, "-p", json.dumps({"spec": {"claimRef": {"uid": uid}}}))
    kubectl("patch", "pvc", claim, "-p", json.dumps({"spec": {"volumeName": volume}}))
    status = json.dumps({"status": {"phase": "Bound"}})
    kubectl("patch", "pvc", claim, "--subresource=status", "-p", status)


@pytest.fixture(scope="module")
def room(kubectl: Any, eventually: Callable[..., Any]) -> Iterator[Room]:
    name = f"t-pods-volumes-{os.getpid()}"
    kubectl("create", "namespace", name)
    made = Room(kubectl, name, eventually)
    eventually(lambda: made.kubectl.run("get", "serviceaccount", "default").returncode == 0, 20, "account")

    def claim(own: str) -> Pod:
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}},
        }
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": own}, "spec": spec}

    def volume(own: str, source: Pod, **more: Any) -> Pod:
        spec = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": name, "name": "disk"},
            "persistentVolumeReclaimPolicy": "Retain",
        }
        meta = {"name": f"{name}-{own}"}
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": meta,
            "spec": spec | source | more,
        }

    node = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["worker-1"]}
    local = volume(
        "disk",
        {"local": {"path": DISK}},
        mountOptions=["noexec"],
        nodeAffinity={"required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]}},
    )
    folder = pod(
        "folder",
        [{"name": "v", "hostPath": {"path": DISK, "type": "DirectoryOrCreate"}}],
        container("true", at("v", "/v")),
        nodeName="worker-1",
    )
    given = [claim("disk"), claim("other"), local, folder]
    made.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": given}))
    bind(made.kubectl, "disk", f"{name}-disk")
    made.log("folder")
    there = json.loads(json.dumps(PODS))
    for one in there:
        one["spec"]["nodeName"] = "worker-1"
    made.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": there}))
    yield made
    kubectl.run("delete", "pv", f"{name}-disk", "--wait=false")
    kubectl.run("delete", "namespace", name, "--wait=false")


def test_a_claim_leads_to_a_local_volume(room: Room) -> None:
    assert room.log("claims").split() == ["2775-4321", "644-4321", "noexec"]
    room.event("unbound", "FailedMount", f"error processing PVC {room.name}/other: PVC is not bound")


def test_an_image_is_a_volume_that_only_can_be_read(room: Room) -> None:
    text = room.log("image", phase="Failed")
    assert "/v/bin" in text and "touch: /v/x: Read-only file system" in text and "Permission denied" in text


def test_an_expression_without_value_is_tried_again_when_the_pod_is_annotated(room: Room) -> None:
    room.event("expression", "Failed", "Error: missing value for PLACE")
    room.kubectl("annotate", "pod", "expression", "place=here")
    room.kubectl("wait", "--for=condition=Ready", "pod/expression", "--timeout=8s")


def test_mounts_propagate_as_their_containers_say(room: Room) -> None:
    assert room.log("propagates", "leads") == ""
    assert room.log("propagates") == "seen\n" and room.log("propagates", "private") == ""


def test_a_pod_starts_when_what_it_waits_for_is_there(room: Room) -> None:
    room.event("late", "FailedMount", 'MountVolume.SetUp failed for volume "v" : configmap "late" not found')
    room.kubectl("create", "configmap", "late", "--from-literal=k=here")
    assert room.log("late") == "here"

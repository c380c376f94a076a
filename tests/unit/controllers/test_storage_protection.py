"""When a claim or a volume that is being deleted may go."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.controllers.storageprotection import (
    CLAIM_FINALIZER,
    CLASS_FINALIZER,
    VOLUME_FINALIZER,
    plan_claim,
    plan_class,
    plan_volume,
)

Object = dict[str, Any]


def claim(deleted: bool = True, finalizers: list[str] | None = None, **metadata: Any) -> Object:
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    metadata["finalizers"] = [CLAIM_FINALIZER] if finalizers is None else finalizers
    return {"metadata": {"name": "p-v", **metadata}}


def pod(node: str = "n", **more: Any) -> Object:
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "p-v"}}
    return {"metadata": {"name": "p", "uid": "1", **more}, "spec": {"nodeName": node, "volumes": [volume]}}


EPHEMERAL: Object = {
    "metadata": {"name": "p", "uid": "1"},
    "spec": {"nodeName": "n", "volumes": [{"name": "v", "ephemeral": {}}]},
}
GOING = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}


@pytest.mark.parametrize(
    ("obj", "pods", "finalizers"),
    [
        (claim(), [pod()], None),
        (claim(), [pod(node="")], []),
        (claim(finalizers=["x", CLAIM_FINALIZER]), [], ["x"]),
        (claim(finalizers=["x"]), [], None),
        (claim(deleted=False), [], None),
        (claim(deleted=False, finalizers=["x"]), [], ["x", CLAIM_FINALIZER]),
        (claim(ownerReferences=[{"uid": "1"}]), [EPHEMERAL], None),
        (claim(ownerReferences=[{"uid": "2"}]), [EPHEMERAL], []),
        (
            claim(ownerReferences=[{"uid": "1"}]),
            [EPHEMERAL | {"metadata": EPHEMERAL["metadata"] | GOING}],
            [],
        ),
    ],
)
def test_claims(obj: Object, pods: list[Object], finalizers: list[str] | None) -> None:
    plan = plan_claim(obj, pods)
    assert plan.finalizers == finalizers and plan.reason


def test_volumes() -> None:
    volume: Object = {
        "metadata": {"name": "v", "finalizers": [VOLUME_FINALIZER], "deletionTimestamp": "x"},
        "spec": {"claimRef": {"namespace": "a", "name": "b"}},
        "status": {"phase": "Bound"},
    }
    assert plan_volume(volume).reason == "it is bound to claim a/b"
    assert plan_volume(volume | {"status": {"phase": "Released"}}).finalizers == []


def test_classes_of_volume_attributes() -> None:
    going = {"metadata": {"name": "gold", "finalizers": [CLASS_FINALIZER], "deletionTimestamp": "x"}}
    wanting = {"metadata": {"name": "c", "namespace": "a"}, "spec": {"volumeAttributesClassName": "gold"}}
    having: Object = {
        "metadata": {"name": "c", "namespace": "a"},
        "spec": {"volumeAttributesClassName": "silver"},
        "status": {"currentVolumeAttributesClassName": "gold"},
    }
    target = {"modifyVolumeStatus": {"targetVolumeAttributesClassName": "gold"}}
    volume = {"metadata": {"name": "v"}, "spec": {"volumeAttributesClassName": "gold"}}
    for user in (wanting, having, {**having, "status": target}):
        assert plan_class(going, [user], []).reason == "claim a/c names it"
    assert plan_class(going, [], [volume]).reason == "volume v names it"
    assert plan_class(going, [{**having, "status": {}}], []).finalizers == []
    fresh = {"metadata": {"name": "gold"}}
    assert plan_class(fresh, [], []).finalizers == [CLASS_FINALIZER]

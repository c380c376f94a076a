"""Which resizes of a pod are possible, and in which words the others are refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bamikube.api.validation import resizing

from .test_rules_of_kinds import made, pod

BURSTABLE = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1"}}


def two(**first: Any) -> dict[str, Any]:
    init = {"name": "i", "image": "i", "resources": BURSTABLE}
    side = {"name": "s", "image": "i", "restartPolicy": "Always", "resources": BURSTABLE}
    return made(pod(containers=[{"name": "a", "image": "a"} | first], initContainers=[init, side]))


def refused(old: dict[str, Any], **resources: Any) -> list[str]:
    """The faults of giving containers, by name, other resources."""
    wanted = copy.deepcopy(old)
    wanted["spec"]["hostNetwork"] = True  # not a resize's business: dropped
    for kind in ("containers", "initContainers"):
        for each in wanted["spec"].get(kind) or ():
            each["resources"] = resources.get(each["name"], each["resources"])
    new = copy.deepcopy(old)
    resizing.take_resources(new, wanted)
    assert "hostNetwork" not in new["spec"]
    return [f"{cause.field}: {cause.message}" for cause in resizing.resized(new, old)]


@pytest.mark.parametrize(
    ("name", "resources", "expected"),
    [
        ("a", BURSTABLE | {"limits": {"cpu": "2"}}, ""),
        ("s", BURSTABLE | {"limits": {"cpu": "2"}}, ""),
        (
            "i",
            BURSTABLE | {"limits": {"cpu": "2"}},
            "spec: Forbidden: only cpu and memory resources for sidecar containers are mutable",
        ),
        (
            "a",
            BURSTABLE | {"limits": {"cpu": "1", "ephemeral-storage": "1Gi"}},
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
        (
            "a",
            {"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}},
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
        ),
        (
            "a",
            BURSTABLE | {"limits": {"cpu": "50m"}},
            'spec.containers[0].resources.requests: Invalid value: "100m": must be less than or equal to cpu limit of 50m',
        ),
    ],
)
def test_resizes(name: str, resources: dict[str, Any], expected: str) -> None:
    assert refused(two(resources=BURSTABLE), **{name: resources}) == ([expected] if expected else [])


def test_the_class_of_a_pod_stays() -> None:
    fixed = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    old = made(pod(containers=[{"name": "a", "image": "a", "resources": fixed}], initContainers=[]))
    wanted = fixed | {"requests": {"cpu": "500m", "memory": "1Gi"}}
    assert refused(old, a=wanted) == [
        'spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing'
    ]

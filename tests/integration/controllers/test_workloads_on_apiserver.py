"""Deployments, their ReplicaSets and the endpoints of their pods, on a real API server."""

from __future__ import annotations

from typing import Any

from tests.integration.controllers.conftest import ControlPlane, deployment

Object = dict[str, Any]


async def rolled_out(
    plane: ControlPlane, name: str, replicas: int, image: str, seconds: float = 30.0
) -> Object:
    async def done() -> Object | None:
        found = await plane.admin.get("deployments.apps", name, "default")
        status = found.get("status") or {}
        there = found["spec"]["template"]["spec"]["containers"][0]["image"] == image
        fine = status.get("observedGeneration") == found["metadata"]["generation"] and all(
            status.get(count, 0) == replicas for count in ("replicas", "updatedReplicas", "availableReplicas")
        )
        return found if there and fine else None

    found: Object = await plane.until(f"{name} has {replicas} of {image}", done, seconds)
    return found


async def test_a_deployment_rolls_out_rolls_on_and_scales(plane: ControlPlane) -> None:
    plane.controllers()
    plane.tasks.spawn(plane.run_pods())
    await plane.admin.create("deployments.apps", deployment())
    await rolled_out(plane, "web", 3, "app:1")
    change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "app:2"}]}}}}
    await plane.admin.patch("deployments.apps", "web", change, "default", kind="strategic")
    found = await rolled_out(plane, "web", 3, "app:2")
    assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    assert (
        found["metadata"]["generation"] == 2
    )  # what was asked for twice; numbering a revision asks for nothing
    sets = (await plane.admin.list("replicasets.apps", "default"))["items"]
    assert sorted(rs["spec"]["replicas"] for rs in sets) == [0, 3]
    await plane.admin.patch("deployments.apps", "web", {"spec": {"replicas": 5}}, "default")
    await rolled_out(plane, "web", 5, "app:2")
    # Rolling back finds the first set again.
    back = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "app:1"}]}}}}
    await plane.admin.patch("deployments.apps", "web", back, "default", kind="strategic")
    await rolled_out(plane, "web", 5, "app:1")
    sets = (await plane.admin.list("replicasets.apps", "default"))["items"]
    assert len(sets) == 2
    # minReadySeconds is no new template: it is handed on to the set that is there.
    await plane.admin.patch("deployments.apps", "web", {"spec": {"minReadySeconds": 1}}, "default")

    async def handed_on() -> bool:
        sets = (await plane.admin.list("replicasets.apps", "default"))["items"]
        return any(rs["spec"]["replicas"] == 5 and rs["spec"].get("minReadySeconds") == 1 for rs in sets)

    await plane.until("minReadySeconds is on the ReplicaSet", handed_on)


async def test_a_broken_image_keeps_the_old_pods_and_is_said(plane: ControlPlane) -> None:
    plane.controllers()
    plane.tasks.spawn(plane.run_pods())
    await plane.admin.create("deployments.apps", deployment(replicas=4, progressDeadlineSeconds=2))
    await rolled_out(plane, "web", 4, "app:1")
    change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "broken:1"}]}}}}
    await plane.admin.patch("deployments.apps", "web", change, "default", kind="strategic")

    async def said() -> Object | None:
        found = await plane.admin.get("deployments.apps", "web", "default")
        reasons = {c["type"]: c["reason"] for c in found["status"]["conditions"]}
        return found if reasons["Progressing"] == "ProgressDeadlineExceeded" else None

    found = await plane.until("the deadline is said", said)
    assert found["status"]["availableReplicas"] == 3
    assert found["status"]["replicas"] == 5


async def test_a_name_that_is_taken_is_counted_and_avoided(plane: ControlPlane) -> None:
    running = plane.controllers()
    await plane.admin.create("deployments.apps", deployment(replicas=0))
    await rolled_out(plane, "web", 0, "app:1")
    rs = (await plane.admin.list("replicasets.apps", "default"))["items"][0]
    running.cancel()
    await plane.admin.delete("deployments.apps", "web", "default", propagation="Background")
    await plane.admin.delete("replicasets.apps", rs["metadata"]["name"], "default")
    stranger = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": rs["metadata"]["name"], "namespace": "default"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"other": "x"}},
            "template": {
                "metadata": {"labels": {"other": "x"}},
                "spec": {"containers": [{"name": "c", "image": "other:1"}]},
            },
        },
    }
    await plane.admin.create("replicasets.apps", stranger)
    await plane.admin.create("deployments.apps", deployment(replicas=0))
    plane.controllers()
    found = await rolled_out(plane, "web", 0, "app:1")

    async def counted() -> bool:
        return (await plane.admin.get("deployments.apps", "web", "default"))["status"].get(
            "collisionCount"
        ) == 1

    await plane.until("the collision is counted", counted)
    sets = (await plane.admin.list("replicasets.apps", "default"))["items"]
    assert len([one for one in sets if one["metadata"].get("ownerReferences")]) == 1, found


async def test_orphans_are_adopted_and_strangers_released(plane: ControlPlane) -> None:
    plane.controllers()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "lone", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "app:1"}]},
    }
    await plane.until(
        "the default account is there", lambda: plane.admin.get("serviceaccounts", "default", "default")
    )
    await plane.admin.create("pods", pod)
    body = deployment(replicas=2) | {"kind": "ReplicaSet"}
    await plane.admin.create("replicasets.apps", body)

    async def two() -> list[Object] | None:
        pods = (await plane.admin.list("pods", "default", labels="app=web"))["items"]
        return pods if len(pods) == 2 and all(p["metadata"].get("ownerReferences") for p in pods) else None

    pods = await plane.until("one is adopted, one created", two)
    assert "lone" in [one["metadata"]["name"] for one in pods]
    await plane.admin.patch("pods", "lone", {"metadata": {"labels": {"app": "other"}}}, "default")

    async def released() -> bool:
        return not (await plane.admin.get("pods", "lone", "default"))["metadata"].get("ownerReferences")

    await plane.until("the stranger is released", released)
    await plane.until("it is replaced", two)


async def test_endpoints_follow_readiness(plane: ControlPlane) -> None:
    plane.controllers()
    plane.tasks.spawn(plane.run_pods())
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    await plane.admin.create("services", service)
    await plane.admin.create("deployments.apps", deployment(replicas=2))

    async def slice_of(ready: int, total: int) -> Object | None:
        found = await plane.admin.list(
            "endpointslices.discovery.k8s.io", "default", labels="kubernetes.io/service-name=web"
        )
        held = [end for one in found["items"] for end in one.get("endpoints") or []]
        endpoints = await plane.admin.get("endpoints", "web", "default")
        old = [ip for part in endpoints.get("subsets") or [] for ip in part.get("addresses") or []]
        fine = sum(end["conditions"]["ready"] for end in held) == ready == len(old) and len(held) == total
        return found if fine else None

    await plane.until("both are ready", lambda: slice_of(2, 2))
    pods = (await plane.admin.list("pods", "default", labels="app=web"))["items"]
    turned = {"type": "Ready", "status": "False", "lastTransitionTime": "2099-01-02T03:04:05Z"}
    patch = {"status": {"conditions": [turned]}}
    await plane.admin.patch(
        "pods", pods[0]["metadata"]["name"], patch, "default", kind="strategic", subresource="status"
    )
    found = await plane.until("one is not ready", lambda: slice_of(1, 2))
    for one in (*found["items"], await plane.admin.get("endpoints", "web", "default")):
        said = one["metadata"]["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"]
        assert said == "2099-01-02T03:04:05Z"
    await plane.admin.patch("deployments.apps", "web", {"spec": {"replicas": 0}}, "default")
    await plane.until("none is left, the slice is", lambda: slice_of(0, 0))
    await plane.admin.delete("services", "web", "default")
    await plane.gone("endpoints", "web", "default")

    async def no_slices() -> bool:
        return not (
            await plane.admin.list(
                "endpointslices.discovery.k8s.io", "default", labels="kubernetes.io/service-name=web"
            )
        )["items"]

    await plane.until("its slices are collected", no_slices)


async def test_endpoints_written_by_hand_are_mirrored(plane: ControlPlane) -> None:
    plane.controllers()
    meta = {"name": "outside", "namespace": "default"}
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": meta,
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 5432}]}],
    }
    await plane.admin.create("endpoints", endpoints)  # before its service: it must stay
    service = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 5432}]}}
    await plane.admin.create("services", service)

    async def mirrored(*wanted: str) -> bool:
        found = await plane.admin.list(
            "endpointslices.discovery.k8s.io", "default", labels="kubernetes.io/service-name=outside"
        )
        held = [end["addresses"][0] for one in found["items"] for end in one.get("endpoints") or []]
        return sorted(held) == sorted(wanted)

    await plane.until("it is mirrored", lambda: mirrored("192.0.2.1"))
    more = {"subsets": [{"addresses": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}], "ports": [{"port": 5432}]}]}
    await plane.admin.patch("endpoints", "outside", more, "default")
    await plane.until("the mirror follows", lambda: mirrored("192.0.2.1", "192.0.2.2"))
    await plane.admin.delete("services", "outside", "default")
    await plane.gone("endpoints", "outside", "default")
    await plane.until("the mirror goes", mirrored)


async def test_five_hundred_replicas(plane: ControlPlane) -> None:
    plane.controllers()
    plane.tasks.spawn(plane.run_pods())
    start = plane.world.clock.monotonic()
    await plane.admin.create("deployments.apps", deployment(replicas=500))
    await rolled_out(plane, "web", 500, "app:1", seconds=120)
    print(f"500 replicas in {plane.world.clock.monotonic() - start:.1f} s")
    pods = (await plane.admin.list("pods", "default"))["items"]
    assert len(pods) == 500


async def test_quotas_are_counted_and_put_right(plane: ControlPlane) -> None:
    plane.controllers()
    admin = plane.admin
    await admin.create("configmaps", {"metadata": {"name": "early", "namespace": "default"}})
    hard = {"configmaps": "5", "count/leases.coordination.k8s.io": "1"}
    found: Object = {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": hard}}
    await admin.create("resourcequotas", found)

    async def counted() -> bool:
        quota = await admin.get("resourcequotas", "q", "default")
        maps = len((await admin.list("configmaps", "default"))["items"])
        wanted = {"configmaps": str(maps), "count/leases.coordination.k8s.io": "0"}
        return bool(quota["status"].get("hard") == hard and quota["status"].get("used") == wanted)

    await plane.until("the new quota is counted", counted, 10)
    forgotten = {"status": {"used": {"configmaps": None}}}
    await admin.patch("resourcequotas", "q", forgotten, "default", subresource="status")
    await plane.until("what somebody took out is counted again", counted, 10)

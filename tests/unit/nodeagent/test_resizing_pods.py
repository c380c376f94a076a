"""In-place resize: who gets what of a node, and what its containers, conditions and events make of that."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from bamikube.nodeagent import figures
from bamikube.nodeagent.pod import resizing
from bamikube.nodeagent.pod.kernel import Kernel
from bamikube.nodeagent.pod.resizer import judge_all
from bamikube.nodeagent.pod.worker import PodWorker
from bamikube.nodeagent.runtime.port import Resources, RuntimeFailure
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode, running

JSON = dict[str, Any]
ROOM = {"cpu": "2", "memory": "4Gi"}


def live(story: Coroutine[Any, Any, None]) -> None:
    virtual.run(story)


def pod(cpu: str, memory: str = "64Mi", **meta: Any) -> JSON:
    resources = {"requests": {"cpu": cpu, "memory": memory}}
    return {
        "metadata": {"name": "web", "uid": "u"} | meta,
        "spec": {"containers": [{"name": "app", "resources": resources}]},
    }


def judged(wants: JSON, has: JSON, *others: JSON) -> tuple[str, str]:
    verdict = resizing.judge(wants, resizing.wanted(has), list(others), ROOM)
    return verdict.kind, verdict.message


def test_the_node_has_room_or_not() -> None:
    assert judged(pod("1"), pod("1000m")) == ("", "")
    assert judged(pod("2"), pod("1")) == ("Granted", "")
    text = "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000"
    assert judged(pod("3"), pod("1")) == ("Infeasible", text)
    text = "Node didn't have enough capacity: memory, requested: 5368709120, capacity: 4294967296"
    assert judged(pod("3", "5Gi"), pod("1")) == ("Infeasible", text)
    text = "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000"
    assert judged(pod("1500m"), pod("1"), pod("1")) == ("Deferred", text)
    mirror = {"annotations": {"kubernetes.io/config.source": "file"}}
    text = "In-place resize of static-pods is not supported"
    assert judged(pod("2", **mirror), pod("1")) == ("Infeasible", text)


def test_what_is_asked_for_is_counted_by_resource_and_direction() -> None:
    old, new = pod("1"), pod("500m", "96Mi")
    assert list(resizing.requested(old, new)) == [
        ("cpu", "requests", "decrease"),
        ("memory", "requests", "increase"),
    ]
    new["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1000m"}, "limits": {"cpu": "2"}}
    assert list(resizing.requested(old, new)) == [
        ("memory", "requests", "remove"),
        ("cpu", "limits", "add"),
    ]


def test_what_managers_have_given_is_not_resized() -> None:
    def whole(cpu: str, memory: str = "64Mi") -> JSON:
        made = pod(cpu, memory)
        resources = made["spec"]["containers"][0]["resources"]
        resources["limits"] = dict(resources["requests"])
        return made

    fixed = {"cpu": 'CPU Manager policy "static"'}
    for wants, has, kind in (
        (whole("2"), whole("1"), "Infeasible"),
        (whole("1", "1Gi"), whole("1"), "Granted"),
        (pod("2"), pod("1"), "Granted"),  # burstable
    ):
        verdict = resizing.judge(wants, resizing.wanted(has), [], ROOM, fixed)
        assert verdict.kind == kind
        if kind == "Infeasible":
            text = 'Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"'
            assert verdict.message == text


def test_memory_of_a_container_that_may_swap_is_not_resized() -> None:
    def sized(memory: str, cpu: str = "1", policy: str = "NotRequired") -> JSON:
        made = pod(cpu, memory)
        made["spec"]["containers"][0]["resizePolicy"] = [{"resourceName": "memory", "restartPolicy": policy}]
        return made

    limited = Kernel(memory=4 << 30, swap=1 << 30, v2=True, bounds_swap=True, limited_swap=True)
    for wants, has, kernel, kind in (
        (sized("1Gi"), sized("2Gi"), limited, "Infeasible"),
        (sized("1Gi"), sized("2Gi"), replace(limited, limited_swap=False), "Granted"),
        (sized("1Gi"), sized("1Gi", "500m"), limited, "Granted"),
        (
            sized("1Gi", policy="RestartContainer"),
            sized("2Gi", policy="RestartContainer"),
            limited,
            "Granted",
        ),
    ):
        verdict = resizing.judge(wants, resizing.wanted(has), [], ROOM, kernel=kernel)
        assert verdict.kind == kind
        if kind == "Infeasible":
            text = "In-place resize of containers with swap is not supported."
            assert (verdict.message, verdict.detail) == (text, "swap_limitation")


def test_meanwhile_a_pod_has_the_higher_of_each_limit() -> None:
    def limited(**limits: str) -> JSON:
        made = pod("100m")
        made["spec"]["containers"][0]["resources"]["limits"] = limits
        return made

    def meanwhile(old: JSON, new: JSON) -> JSON:
        wide = resizing.widest(new, resizing.wanted(old))["spec"]["containers"][0]["resources"]["limits"]
        return dict(wide)

    old, new = limited(cpu="1", memory="2Gi"), limited(cpu="1500m", memory="1Gi")
    assert meanwhile(old, new) == meanwhile(new, old) == {"cpu": "1500m", "memory": "2Gi"}
    assert meanwhile(limited(cpu="1"), new) == {"cpu": "1500m"}  # a limit that there was not binds nobody yet
    assert resizing.widest(new, {}) == new
    assert new["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1500m", "memory": "1Gi"}


def test_what_was_promised_is_read_from_the_status() -> None:
    wants = pod("2") | {
        "status": {
            "containerStatuses": [
                {
                    "name": "app",
                    "containerID": "containerd://c1",
                    "state": {"running": {}},
                    "resources": {"requests": {"cpu": "1", "memory": "64Mi"}},
                    "allocatedResources": {"cpu": "1", "memory": "64Mi"},
                }
            ]
        }
    }
    promise, given = resizing.recalled(wants)
    assert promise == resizing.wanted(pod("1"))
    assert given == {"c1": promise["app"]}
    assert resizing.recalled(pod("2")) == (resizing.wanted(pod("2")), {})


def test_events_hold_the_resources_as_go_orders_them() -> None:
    made = pod("100m")
    made["spec"]["containers"][0]["resources"]["limits"] = {"memory": "1Gi", "cpu": "1"}
    text = (
        '{"containers":[{"name":"app","resources":{"limits":{"cpu":"1","memory":"1Gi"},'
        '"requests":{"cpu":"100m","memory":"64Mi"}}}],"generation":2,"error":"no"}'
    )
    assert resizing.told(made, 2, "no") == text


@pytest.mark.parametrize(
    ("changed", "policy", "anew"),
    [
        ({"cpu": "2"}, "cpu", True),
        ({"cpu": "2"}, "memory", False),
        ({"memory": "1Gi"}, "memory", True),
        ({}, "memory", False),
    ],
)
def test_the_policy_of_what_changes_counts(changed: JSON, policy: str, anew: bool) -> None:
    old = {"requests": {"cpu": "1", "memory": "64Mi"}}
    spec = {
        "resources": {"requests": old["requests"] | changed},
        "resizePolicy": [{"resourceName": policy, "restartPolicy": "RestartContainer"}],
    }
    assert resizing.restarts(spec, old) is anew


def _change(worker: PodWorker, **resources: Any) -> None:
    """As the subresource resize changes the pod."""
    meta = worker.pod["metadata"] | {"generation": worker.pod["metadata"]["generation"] + 1}
    first = worker.pod["spec"]["containers"][0] | {"resources": resources}
    containers = [first, *worker.pod["spec"]["containers"][1:]]
    spec = worker.pod["spec"] | {"containers": containers}
    worker.update(worker.pod | {"metadata": meta, "spec": spec})


def _condition(worker: PodWorker, kind: str) -> JSON:
    return next((c for c in worker.status.get("conditions") or () if c["type"] == kind), {})


def _app(cpu: str, **more: Any) -> JSON:
    return {"name": "app", "resources": {"requests": {"cpu": cpu}}} | more


def test_a_resize_reaches_the_runtime_and_nothing_restarts() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = node.run("web", containers=[_app("100m")])
            await node.until(lambda: running(worker))
            _change(worker, requests={"cpu": "200m"}, limits={"cpu": "400m"})
            await asyncio.sleep(1)
            assert node.runtime.updates == []  # nobody has granted it yet
            judge_all(node.workers.values())
            await node.until(lambda: node.runtime.updates)
            [(name, values)] = node.runtime.updates
            assert (name, values.cpu_shares, values.cpu_quota) == ("app", 204, 40_000)
            await node.until(lambda: node.api.said("ResizeCompleted"))
            await asyncio.sleep(1)
            item = node.api.status["web"]["containerStatuses"][0]
            assert item["resources"] == {"requests": {"cpu": "200m"}, "limits": {"cpu": "400m"}}
            assert item["allocatedResources"] == {"cpu": "200m"}
            assert item["restartCount"] == 0
            kinds = {c["type"] for c in node.api.status["web"]["conditions"]}
            assert not kinds & {"PodResizePending", "PodResizeInProgress"}
            said = node.api.said("ResizeStarted")
            assert len(said) == 1 and said[0].endswith('"generation":2}')

    live(story())


def test_a_policy_can_ask_for_a_new_start() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
            worker = node.run(
                "web", restartPolicy="OnFailure", containers=[_app("100m", resizePolicy=policy)]
            )
            await node.until(lambda: running(worker))
            _change(worker, requests={"cpu": "200m"})
            judge_all(node.workers.values())
            await node.until(lambda: node.api.said("ResizeCompleted"))
            assert running(worker) and worker.status["containerStatuses"][0]["restartCount"] == 1
            assert node.api.said("Killing") == ["Container app resize requires restart"]
            newest = worker.state.latest("app")
            assert newest is not None and node.runtime.specs[newest.id].resources.cpu_shares == 204
            assert node.runtime.updates == []

    live(story())


def test_who_does_not_fit_waits_for_another_to_leave() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            first = node.run("first", containers=[_app("1")])
            second = node.run("second", containers=[_app("500m")])
            await node.until(lambda: running(first) and running(second))
            _change(second, requests={"cpu": "1500m"})
            judge_all(node.workers.values())
            await node.until(lambda: _condition(second, "PodResizePending"))
            waits = _condition(second, "PodResizePending")
            assert (waits["status"], waits["reason"], waits["observedGeneration"]) == ("True", "Deferred", 2)
            judge_all(node.workers.values())
            [text] = node.api.said("ResizeDeferred")
            assert text.startswith('Pod resize Deferred: {"containers":[{"name":"app","resources":')
            node.delete(first, 1)
            await node.until(lambda: node.api.deleted == ["first"])
            accepted = figures.RESIZES_ACCEPTED.labels("pods_removed")
            before = accepted._value.get()
            judge_all(node.workers.values(), "pods_removed")
            assert accepted._value.get() == before + 1
            await node.until(lambda: node.api.said("ResizeCompleted"))
            assert not _condition(second, "PodResizePending")

    live(story())


def test_who_wants_less_and_who_is_more_important_goes_first() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            low = node.run("low", containers=[_app("500m")])
            high = node.run("high", priority=10, containers=[_app("500m")])
            less = node.run("less", containers=[_app("1")])
            await node.until(lambda: all(running(w) for w in (low, high, less)))
            for worker, cpu in ((low, "1"), (high, "1"), (less, "500m")):
                _change(worker, requests={"cpu": cpu})
            judge_all(node.workers.values())
            assert low.memory.resize is not None and low.memory.resize.reason == "Deferred"
            assert high.memory.resize is None and less.memory.resize is None

    live(story())


def test_a_resize_that_is_taken_back_while_it_is_carried_out() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = node.run("web", containers=[_app("100m")])
            await node.until(lambda: running(worker))
            asked, go_on = asyncio.Event(), asyncio.Event()
            plain = node.runtime.update_container

            async def slow(container_id: str, resources: Resources) -> None:
                asked.set()
                await go_on.wait()
                await plain(container_id, resources)

            node.runtime.update_container = slow  # type: ignore[method-assign]
            _change(worker, requests={"cpu": "200m"})
            judge_all(node.workers.values())
            await asked.wait()
            _change(worker, requests={"cpu": "100m"})
            judge_all(node.workers.values())
            await asyncio.sleep(1)
            assert not node.api.said("ResizeCompleted")  # nobody knows what the container has
            go_on.set()
            await asyncio.sleep(1)
            assert len(node.api.said("ResizeCompleted")) == 1 and not node.api.said("ResizeError")
            assert [values.cpu_shares for _, values in node.runtime.updates] == [204, 102]

    live(story())


def test_the_sandbox_is_told_what_its_containers_may_use_together() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = node.run("web", containers=[_app("100m")], overhead={"cpu": "50m"})
            await node.until(lambda: running(worker))
            node.runtime.broken["update_sandbox"] = RuntimeFailure("UNKNOWN", "not now")
            _change(worker, requests={"cpu": "200m"}, limits={"cpu": "400m"})
            judge_all(node.workers.values())
            await node.until(lambda: node.api.said("ResizeCompleted"))  # it is no failure
            node.runtime.broken.clear()
            _change(worker, requests={"cpu": "200m"}, limits={"cpu": "500m"})
            judge_all(node.workers.values())
            await node.until(lambda: len(node.api.said("ResizeCompleted")) == 2)
            [(together, own)] = node.runtime.told_sandboxes.values()
            assert (together.cpu_shares, together.cpu_quota, own.cpu_shares) == (204, 50_000, 51)

    live(story())


def test_what_the_runtime_refuses_is_told_and_tried_again() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = node.run("web", containers=[_app("100m")])
            await node.until(lambda: running(worker))
            node.runtime.broken["update_container"] = RuntimeFailure("UNKNOWN", "device or resource busy")
            _change(worker, requests={"cpu": "200m"})
            judge_all(node.workers.values())
            await node.until(lambda: _condition(worker, "PodResizeInProgress").get("reason") == "Error")
            text = "rpc error: code = Unknown desc = device or resource busy"
            assert _condition(worker, "PodResizeInProgress")["message"] == text
            assert len(node.api.said("ResizeError")) == 1
            item = worker.status["containerStatuses"][0]
            assert item["resources"]["requests"]["cpu"] == "100m"
            assert item["allocatedResources"]["cpu"] == "200m"
            node.runtime.broken.clear()
            await node.until(lambda: node.api.said("ResizeCompleted"))

    live(story())


def test_memory_in_use_is_not_taken_away() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            app = {"name": "app", "resources": {"limits": {"memory": "96Mi"}, "requests": {"memory": "96Mi"}}}
            worker = node.run("web", containers=[app])
            await node.until(lambda: running(worker))
            [container] = worker.state.running()
            node.host.used = {"": 40 << 20, container.id: 39 << 20}
            _change(worker, limits={"memory": "32Mi"}, requests={"memory": "32Mi"})
            judge_all(node.workers.values())
            await node.until(lambda: _condition(worker, "PodResizeInProgress").get("reason") == "Error")
            assert _condition(worker, "PodResizeInProgress")["message"] == (
                "cannot decrease memory limits: [attempting to set pod memory limit (33554432) below current usage (41943040), "
                'attempting to set container "app" memory limit (33554432) below current usage (40894464)]'
            )
            assert not node.runtime.updates
            node.host.used = {"": 20 << 20, container.id: 32 << 20}
            one = 'cannot decrease memory limits: attempting to set container "app" memory limit (33554432) below'
            await node.until(
                lambda: _condition(worker, "PodResizeInProgress").get("message", "").startswith(one)
            )
            node.host.used = {}
            await node.until(lambda: node.api.said("ResizeCompleted"))
            assert len(node.runtime.updates) == 1

    live(story())


def test_a_new_node_agent_goes_on_with_what_was_promised() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = node.run("web", containers=[_app("500m")])
            await node.until(lambda: running(worker))
            _change(worker, requests={"cpu": "5"})
            judge_all(node.workers.values())
            await asyncio.sleep(1)
            await worker.close()
            again = PodWorker(node.shared, node.api.pod(worker.pod), node.workers.pop)
            node.workers[again.uid] = again
            again.spawn()
            await node.until(lambda: running(again))
            judge_all(node.workers.values())
            await asyncio.sleep(1)
            assert again.resize.promised()["spec"]["containers"][0]["resources"] == {
                "requests": {"cpu": "500m"}
            }
            assert _condition(again, "PodResizePending")["reason"] == "Infeasible"
            assert node.runtime.updates == []

    live(story())

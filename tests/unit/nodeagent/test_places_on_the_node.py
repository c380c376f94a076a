"""Who has a place on the node, and what is told of those who get none."""

from __future__ import annotations

import asyncio
from typing import Any

from bamikube.nodeagent.agent import PodAgent
from bamikube.nodeagent.pod.admission import admit
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode

JSON = dict[str, Any]


class Informer:
    """What the agent takes for its informer and for the objects that pods refer to."""

    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self.synced.set()
        self.tell: Any = None

    def on_change(self, change: Any) -> None:
        self.change = change

    def hold(self, pod: JSON) -> None: ...

    def release(self, uid: str) -> None: ...

    async def close(self) -> None: ...


def pod(name: str, uid: str, **spec: Any) -> JSON:
    meta = {"name": name, "namespace": "default", "uid": uid, "generation": 1}
    container = {"name": "app", "image": "busybox:1"}
    return {
        "metadata": meta,
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 30, **spec},
        "status": {},
    }


def test_a_pod_deleted_by_force_gives_its_place_up_at_once() -> None:
    async def life() -> None:
        node, informer = HollowNode(), Informer()
        agent = PodAgent(node.shared, informer, informer, max_pods=1)  # type: ignore[arg-type]
        running = asyncio.ensure_future(agent.run())
        node.runtime.stubborn.add("app")  # it takes its whole grace to end
        first = pod("a", "1")
        informer.change("default/a", None, first)
        await node.until(lambda: any(c.state == "running" for c in node.runtime.containers.values()))
        informer.change("default/b", None, pod("b", "2"))
        await node.until(lambda: node.api.status.get("b", {}).get("phase") == "Failed")
        status = node.api.status["b"]
        words = "Node didn't have enough resource: pods, requested: 1, used: 1, capacity: 1"
        assert (status["reason"], status["message"]) == ("OutOfpods", f"Pod was rejected: {words}")
        assert node.api.said("OutOfpods") == [words]
        informer.change("default/a", first, None)  # by force: its container still runs
        again = pod("a", "3")
        informer.change("default/a", None, again)
        assert agent.workers["3"].memory.rejected is None
        assert "1" in agent.workers
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())


def test_the_runtime_was_last_asked_at_a_time_of_day() -> None:
    async def life() -> None:
        node, informer = HollowNode(), Informer()
        agent = PodAgent(node.shared, informer, informer)  # type: ignore[arg-type]
        assert agent.relisted == 0
        await agent.relist()
        assert abs(agent.relisted - node.clock.now()) < 1

    virtual.run(life())


def test_node_ports_and_names() -> None:
    def taking(container: JSON, **spec: Any) -> JSON:
        return pod("p", "u", containers=[{"name": "app", **container}], **spec)

    port = {"ports": [{"containerPort": 80, "hostPort": 8080}]}
    once = {"name": "init", **port}
    assert admit(taking(port), [taking(port)], "n1", 110) == (
        "NodePorts",
        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
    )
    assert admit(taking(port), [], "n1", 110) is None
    assert admit(taking(port), [taking({}, initContainers=[once])], "n1", 110) is None  # it ends before
    side = once | {"restartPolicy": "Always"}
    assert admit(taking(port), [taking({}, initContainers=[side])], "n1", 110) is not None
    assert admit(taking({}, nodeName="other"), [], "n1", 110) == (
        "NodeName",
        "Predicate NodeName failed: node(s) didn't match the requested node name",
    )


def test_a_node_that_is_short_of_something_or_goes_down_takes_no_pods() -> None:
    async def life() -> None:
        node, informer = HollowNode(), Informer()
        short: list[str] = ["DiskPressure"]
        down: list[bool] = []
        node.shared.pressures, node.shared.shutting_down = lambda: tuple(short), lambda: bool(down)
        agent = PodAgent(node.shared, informer, informer)  # type: ignore[arg-type]
        running = asyncio.ensure_future(agent.run())
        informer.change("default/a", None, pod("a", "1"))
        informer.change("default/b", None, pod("b", "2", priority=2_000_000_000))
        short.clear()
        down.append(True)
        informer.change("default/c", None, pod("c", "3"))
        await node.until(lambda: all(node.api.status.get(n, {}).get("phase") == "Failed" for n in "ac"))
        told = {n: (node.api.status[n]["reason"], node.api.status[n]["message"]) for n in "ac"}
        assert told == {
            "a": ("Evicted", "Pod was rejected: The node had condition: [DiskPressure]. "),
            "c": ("NodeShutdown", "Pod was rejected: Pod was rejected as the node is shutting down."),
        }
        assert agent.workers["2"].memory.rejected is None, "critical pods are taken in whatever is short"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())

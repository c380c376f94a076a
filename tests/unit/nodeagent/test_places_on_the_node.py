"""Who has a place on the node, and what is told of those who get none."""

from __future__ import annotations

import asyncio
from typing import Any

from bamikube.kit.metrics import REGISTRY
from bamikube.nodeagent.agent import PodAgent
from bamikube.nodeagent.pod.gate import Gate
from bamikube.nodeagent.runtime.port import SandboxSpec
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode, gate

JSON = dict[str, Any]


class Informer:
    """What the agent takes for its informer and for the objects that pods refer to."""

    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self.synced.set()
        self.tell: Any = None
        self.first: list[JSON] = []

    def on_change(self, change: Any) -> None:
        self.change = change

    def items(self) -> list[JSON]:
        return list(self.first)

    def get(self, key: str) -> JSON | None:
        named = {f"{p['metadata']['namespace']}/{p['metadata']['name']}": p for p in self.first}
        return named.get(key)

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
        agent = PodAgent(node.shared, informer, informer, gate(1))  # type: ignore[arg-type]
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


def test_a_pod_that_nobody_knows_is_ended_and_counted() -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("kubelet_orphaned_runtime_pods_total") or 0

    async def life() -> None:
        node, informer = HollowNode(), Informer()
        await node.runtime.run_sandbox(SandboxSpec("lost", "default", "9", 0, "lost", "", {}, {}))
        before = counted()
        agent = PodAgent(node.shared, informer, informer, gate())  # type: ignore[arg-type]
        running = asyncio.ensure_future(agent.run())
        await node.until(lambda: not node.runtime.sandboxes)
        assert counted() == before + 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())


def test_the_runtime_was_last_asked_at_a_time_of_day() -> None:
    async def life() -> None:
        node, informer = HollowNode(), Informer()
        agent = PodAgent(node.shared, informer, informer, gate())  # type: ignore[arg-type]
        assert agent.relisted == 0
        await agent.relist()
        assert abs(agent.relisted - node.clock.now()) < 1

    virtual.run(life())


def test_a_node_that_is_short_of_something_or_goes_down_takes_no_pods() -> None:
    async def life() -> None:
        node, informer = HollowNode(), Informer()
        short: list[str] = ["DiskPressure"]
        down: list[bool] = []
        watched = gate(pressures=lambda: tuple(short), shutting_down=lambda: bool(down))
        agent = PodAgent(node.shared, informer, informer, watched)  # type: ignore[arg-type]
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


def test_a_critical_pod_begins_when_others_have_made_room() -> None:
    async def life() -> None:
        node, informer = HollowNode(), Informer()
        agent = PodAgent(node.shared, informer, informer, gate(2))  # type: ignore[arg-type]
        running = asyncio.ensure_future(agent.run())
        node.runtime.stubborn.add("app")
        for name, uid in (("a", "1"), ("b", "2")):
            informer.change(f"default/{name}", None, pod(name, uid, terminationGracePeriodSeconds=5))
        await node.until(lambda: sum(c.state == "running" for c in node.runtime.containers.values()) == 2)
        informer.change("default/c", None, pod("c", "3", priority=2_000_000_000))
        informer.change("default/d", None, pod("d", "4"))
        await node.until(lambda: node.api.status.get("c", {}).get("phase") == "Running")
        gone = [n for n in "ab" if node.api.status[n].get("reason") == "Preempting"]
        assert len(gone) == 1 and node.api.status[gone[0]]["phase"] == "Failed"
        assert node.api.said("Preempting") == ["Preempted in order to admit critical pod"]
        condition = next(c for c in node.api.status[gone[0]]["conditions"] if c["type"] == "DisruptionTarget")
        assert (condition["reason"], condition["message"]) == (
            "TerminationByKubelet",
            "Pod was preempted by Kubelet to accommodate a critical pod.",
        )
        assert node.api.status["d"]["reason"] == "OutOfpods", "room that is being made is nobody else's"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())


def test_labels_set_just_before_the_pod_was_bound_count() -> None:
    async def life() -> None:
        node, informer = HollowNode(), Informer()
        old = {"metadata": {"name": "node-1"}, "status": {"allocatable": {"pods": "9"}}}
        new: JSON = old | {"metadata": {"name": "node-1", "labels": {"disk": "fast"}}}

        async def fresh() -> JSON:
            return new

        agent = PodAgent(node.shared, informer, informer, Gate(lambda: old, fresh))  # type: ignore[arg-type]
        running = asyncio.ensure_future(agent.run())
        informer.change("default/a", None, pod("a", "1", nodeSelector={"disk": "fast"}))
        informer.change("default/b", None, pod("b", "2", nodeSelector={"disk": "slow"}))
        await node.until(lambda: node.api.status.get("a", {}).get("phase") == "Running")
        await node.until(lambda: node.api.status.get("b", {}).get("reason") == "NodeAffinity")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())


def test_pods_that_were_here_before_keep_their_places_when_the_agent_starts_anew() -> None:
    async def life() -> None:
        node, informer = HollowNode(), Informer()
        before = pod("b", "2") | {"status": {"startTime": "2026-01-01T00:00:00Z", "phase": "Running"}}
        informer.first = [pod("a", "1"), before]
        agent = PodAgent(node.shared, informer, informer, gate(1))  # type: ignore[arg-type]
        running = asyncio.ensure_future(agent.run())
        await node.until(lambda: node.api.status.get("a", {}).get("reason") == "OutOfpods")
        await node.until(lambda: node.api.status.get("b", {}).get("phase") == "Running")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())


def test_a_pod_begins_when_it_has_its_devices() -> None:
    class Slow:
        """Gives devices when it is told to; of one kind of pod it wants to know nothing."""

        def __init__(self) -> None:
            self.ready = asyncio.Event()

        def refusal(self, pod: JSON) -> tuple[str, str] | None:
            return None

        def wanted(self, pod: JSON) -> bool:
            return pod["metadata"]["name"] != "plain"

        async def allocate(self, pod: JSON) -> tuple[str, str] | None:
            await self.ready.wait()
            if pod["metadata"]["name"] == "faulty":
                raise RuntimeError("nobody has foreseen that")
            return None if pod["metadata"]["name"] == "lucky" else ("UnexpectedAdmissionError", "none left")

    async def life() -> None:
        node, informer, devices = HollowNode(), Informer(), Slow()
        agent = PodAgent(node.shared, informer, informer, gate(devices=devices))  # type: ignore[arg-type]
        running = asyncio.ensure_future(agent.run())
        for uid, name in enumerate(("lucky", "unlucky", "faulty", "plain")):
            informer.change(f"default/{name}", None, pod(name, str(uid)))
        taken = {"status": {"startTime": "2026-01-01T00:00:00Z", "phase": "Running"}}
        informer.change("default/taken", None, pod("taken", "9") | taken)
        await node.until(lambda: node.api.status.get("taken", {}).get("containerStatuses"))
        assert agent.workers["9"].memory.rejected is None, "it was given its devices in an earlier life"
        await node.until(lambda: node.api.status.get("plain", {}).get("phase") == "Running")
        assert "lucky" not in node.api.status, "it waits, and nobody waits for it"
        devices.ready.set()
        await node.until(lambda: node.api.status.get("lucky", {}).get("phase") == "Running")
        await node.until(
            lambda: all(node.api.status.get(n, {}).get("phase") == "Failed" for n in ("unlucky", "faulty"))
        )
        assert node.api.status["unlucky"]["message"] == "Pod was rejected: none left"
        assert node.api.status["faulty"]["reason"] == "UnexpectedAdmissionError"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())

"""A node agent that is killed at any point of a pod's life: the next one finds what is there, and brings it to its end.

The hollow runtime counts the calls of one life; for each of them the agent is killed just before it takes effect, and
just after. A new agent, with nothing but the API and the runtime to go by, has to make a ready pod of it, with one container
of each name running, and at last to leave nothing. The same with a runtime, an API server or a disk that is away for some seconds, from any call on.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bamikube.nodeagent.agent import PodAgent
from bamikube.nodeagent.runtime.port import RuntimeFailure
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode, gate

JSON = dict[str, Any]
OUTAGE = 5.0  # seconds
SPEC: JSON = {
    "terminationGracePeriodSeconds": 5,
    "initContainers": [
        {"name": "init", "image": "busybox:1"},
        {"name": "side", "image": "busybox:1", "restartPolicy": "Always"},
    ],
    "containers": [
        {"name": "app", "image": "busybox:1", "readinessProbe": {"exec": {}, "periodSeconds": 1}},
        {"name": "hooked", "image": "busybox:1", "lifecycle": {"preStop": {"exec": {}}}},
    ],
}


class Cluster:
    """One pod in the API, a runtime, and the node agent of the day."""

    def __init__(self, point: int, *, how: str) -> None:
        self.node = HollowNode()
        self.calls, self.point, self.how, self.dark_until = 0, point, how, 0.0
        self.pod: JSON | None = {
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "generation": 1},
            "spec": SPEC,
            "status": {},
        }
        self.killed, self.buried = asyncio.Event(), asyncio.Event()
        self.synced = asyncio.Event()
        self.synced.set()
        self.tell: Any = None
        self._agent: asyncio.Task[None] | None = None
        self.agent: PodAgent | None = None
        for what, part, names in (
            ("runtime", self.node.runtime, ("run_sandbox", "create_container", "start_container", "stop_container",
                                 "stop_sandbox", "remove_container", "remove_sandbox", "list_containers",
                                 "sandbox_status", "container_status", "image")),
            ("checks", self.node.checks, ("hook",)),
            ("api", self.node.api, ("write_status", "delete")),
            ("host", self.node.host, ("set_up", "cleanup")),
        ):  # fmt: skip
            for name in names:
                setattr(part, name, self._counted(what, getattr(part, name)))
        delete = self.node.api.delete

        async def gone(pod: JSON) -> None:
            await delete(pod)
            self.pod = None
            self.change("default/web", pod, None)

        self.node.api.delete = gone  # type: ignore[method-assign]

    def _counted(self, what: str, call: Any) -> Any:
        async def counted(*arguments: Any) -> Any:
            self.calls += 1
            mine, now = self.calls == self.point, self.node.clock.now()
            if mine and self.how.endswith("away"):
                self.dark_until = now + OUTAGE
            if now < self.dark_until and self.how == f"{what} away":
                raise RuntimeFailure("UNAVAILABLE", "refused") if what == "runtime" else OSError("refused")
            if mine and self.how == "killed before":
                await self._die()
            answer = await call(*arguments)
            if mine and self.how == "killed after":
                await self._die()
            return answer

        return counted

    async def _die(self) -> None:
        self.killed.set()
        await self.buried.wait()
        raise RuntimeFailure("UNAVAILABLE", "the process is gone")

    # -- what the agent takes for its informer and for the objects that pods refer to ------------------------------

    def on_change(self, change: Any) -> None:
        self.change = change

    def items(self) -> list[JSON]:
        return []

    def hold(self, pod: JSON) -> None: ...

    def release(self, uid: str) -> None: ...

    async def close(self) -> None: ...

    # -- the life --------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.node.shared.began = self.node.clock.now()
        self.agent = PodAgent(self.node.shared, self, self, gate())  # type: ignore[arg-type]
        if self.pod is not None:
            known = self.node.api.status.get("web")
            self.change("default/web", None, self.pod | {"status": known or {}})
        self._agent = asyncio.ensure_future(self.agent.run())

    async def restart(self) -> None:
        """Kill the agent, at once and for good, and begin another."""
        assert self._agent is not None
        self._agent.cancel()
        self.buried.set()
        await asyncio.gather(self._agent, return_exceptions=True)
        self.begin()

    async def until(self, condition: Any, what: str) -> None:
        """Wait for it, over the death of the agent."""
        try:
            async with asyncio.timeout(200):
                while not condition():
                    if self.killed.is_set():
                        self.killed.clear()
                        await self.restart()
                    await asyncio.sleep(0.05)
                    self._end_init()
        except TimeoutError:
            raise AssertionError(
                f"killed at {self.point}, {self.how}: never {what}; {self.running()} run"
            ) from None

    def _end_init(self) -> None:
        for container in list(self.node.runtime.containers.values()):
            if container.name == "init" and container.state == "running":
                self.node.runtime.exit("init")

    def running(self) -> list[str]:
        return sorted(c.name for c in self.node.runtime.containers.values() if c.state == "running")

    def ready(self) -> bool:
        conditions = self.node.api.status.get("web", {}).get("conditions") or ()
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def life(point: int, how: str) -> int:
    """One life of the pod, the agent killed at one point; how many points there were."""
    cluster = Cluster(point, how=how)
    cluster.begin()
    await cluster.until(lambda: cluster.ready() and not cluster.killed.is_set(), "ready")
    await asyncio.sleep(2)
    assert cluster.running() == ["app", "hooked", "side"]
    assert sum(s.ready for s in cluster.node.runtime.sandboxes.values()) == 1
    counts = [item["restartCount"] for item in cluster.node.api.status["web"]["containerStatuses"]]
    assert max(counts) <= 1
    assert cluster.pod is not None
    meta = cluster.pod["metadata"] | {"deletionTimestamp": "x", "deletionGracePeriodSeconds": 5}
    cluster.pod = cluster.pod | {"metadata": meta}
    cluster.change("default/web", cluster.pod, cluster.pod | {"status": cluster.node.api.status["web"]})

    def gone() -> bool:
        runtime = cluster.node.runtime
        return cluster.pod is None and not runtime.sandboxes and not runtime.containers

    await cluster.until(lambda: gone() and not cluster.killed.is_set(), "gone")
    assert "u" in cluster.node.host.cleaned
    assert cluster._agent is not None
    cluster._agent.cancel()
    await asyncio.gather(cluster._agent, return_exceptions=True)
    return cluster.calls


@pytest.mark.parametrize("how", ["killed before", "killed after"])
def test_the_next_agent_goes_on(how: str) -> None:
    calls = virtual.run(life(0, how))
    assert calls > 30
    for point in range(1, calls + 1):
        virtual.run(life(point, how))


@pytest.mark.parametrize("what", ["runtime", "api", "host"])
def test_what_was_away_for_a_while_is_asked_again(what: str) -> None:
    for point in range(1, virtual.run(life(0, f"{what} away")) + 1):
        virtual.run(life(point, f"{what} away"))

"""A pod's status reaches the API whole: through conflicts, and against others who write the node agent's fields."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.nodeagent.pod.publisher import patch_between
from bamikube.nodeagent.pod.worker import PodWorker
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode, running

JSON = dict[str, Any]


def live(story: Coroutine[Any, Any, None]) -> None:
    virtual.run(story)


async def _started(node: HollowNode) -> PodWorker:
    worker = node.run("web", containers=[{"name": "app"}])
    await node.until(lambda: running(worker))
    await asyncio.sleep(1)
    return worker


def _overwrite(node: HollowNode, worker: PodWorker, **what: Any) -> None:
    node.api.version += 1
    node.api.status["web"] = node.api.status["web"] | what
    worker.update(node.api.pod(worker.pod))


def test_a_pod_that_is_refused_was_scheduled_nowhere() -> None:
    """The kubelet takes the scheduler's condition away, too; conditions of others stay."""
    there = {
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "example.com/fine", "status": "True"},
        ]
    }
    patch = patch_between(there, {"phase": "Failed", "conditions": []})
    assert patch == {"phase": "Failed", "conditions": [{"$patch": "delete", "type": "PodScheduled"}]}


def test_a_conflict_is_tried_again() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            node.api.fails = [ApiError(409, "Conflict", "try again"), ApiError(500, "InternalError", "oh")]
            await _started(node)
            assert node.api.status["web"]["phase"] == "Running"

    live(story())


def test_a_pod_that_is_gone_is_not_written_to() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            node.api.fails = [ApiError(404, "NotFound", "gone")]
            await _started(node)
            assert node.api.patches == []

    live(story())


def test_nobody_writes_for_a_pod_that_went_while_a_write_was_under_way() -> None:
    """Its name may be another pod's by then, which the API server tells with 409."""

    async def story() -> None:
        async with HollowNode() as node:
            worker = await _started(node)
            asked = 0

            async def refuse(pod: JSON, patch: JSON) -> JSON:
                nonlocal asked
                asked += 1
                worker.removed()
                raise ApiError(409, "Conflict", "another uid")

            node.api.write_status = refuse  # type: ignore[method-assign]
            node.runtime.exit("app")
            await asyncio.sleep(60)
            assert asked == 1

    live(story())


def test_what_others_wrote_is_put_right() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = await _started(node)
            _overwrite(node, worker, phase="Pending", podIP="10.0.0.1")
            await node.until(lambda: node.api.status["web"]["phase"] == "Running", 5)
            assert node.api.status["web"]["podIP"] == worker.status["podIP"]

    live(story())


def test_what_others_own_stays() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = await _started(node)
            mine = node.api.status["web"]["conditions"]
            gate = {"type": "example.com/gate", "status": "True"}
            others = [*mine, gate]
            patches = len(node.api.patches)
            _overwrite(node, worker, conditions=others)
            await asyncio.sleep(60)
            assert len(node.api.patches) == patches
            _overwrite(node, worker, conditions=[gate])
            await asyncio.sleep(60)
            kept = {c["type"]: c for c in node.api.status["web"]["conditions"]}
            assert kept["Ready"]["status"] == "True"
            assert kept["PodScheduled"]["observedGeneration"] == 1
            assert kept["example.com/gate"] == gate

    live(story())


def test_old_news_is_no_overwriting() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = await _started(node)
            patches = len(node.api.patches)
            meta = worker.pod["metadata"] | {"resourceVersion": "1"}
            worker.update(worker.pod | {"metadata": meta, "status": {"phase": "Pending"}})
            await asyncio.sleep(60)
            assert len(node.api.patches) == patches

    live(story())


def test_an_end_that_others_declared_is_one() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = await _started(node)
            _overwrite(node, worker, phase="Failed", reason="Evicted", message="by somebody")
            await node.until(lambda: node.host.cleaned, 60)
            assert not worker.state.running()
            await asyncio.sleep(5)
            status = node.api.status["web"]
            assert (status["phase"], status["reason"], status["message"]) == (
                "Failed",
                "Evicted",
                "by somebody",
            )

    live(story())


def test_a_server_that_knows_better_is_not_fought() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = await _started(node)
            write = node.api.write_status

            async def stubborn(pod: JSON, patch: JSON) -> JSON:
                written = await write(pod, patch)
                node.api.status["web"]["qosClass"] = "Odd"
                return written | {"status": dict(node.api.status["web"])}

            node.api.write_status = stubborn  # type: ignore[method-assign]
            _overwrite(node, worker, phase="Pending")
            await asyncio.sleep(30)
            patches = len(node.api.patches)
            for _ in range(5):
                _overwrite(node, worker)
                await asyncio.sleep(30)
            assert len(node.api.patches) == patches

    live(story())


def test_words_that_others_gave_to_the_phase_stay() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = await _started(node)
            _overwrite(node, worker, reason="Theirs", message="by somebody")
            await asyncio.sleep(60)
            assert node.api.status["web"]["reason"] == "Theirs"
            node.runtime.exit("app", 1)
            await asyncio.sleep(1)
            assert node.api.status["web"]["message"] == "by somebody"

    live(story())


def test_news_do_not_wait_until_what_others_wrote_is_put_right() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = await _started(node)
            _overwrite(node, worker, podIP="10.0.0.1")
            await asyncio.sleep(0.1)
            node.runtime.exit("app", code=3)

            def told() -> bool:
                found = node.api.status["web"]["containerStatuses"][0]
                return bool(found["restartCount"] == 1 or "terminated" in found["state"])

            assert await node.until(told, 5) < 0.1
            assert node.api.status["web"]["podIP"] == worker.status["podIP"]

    live(story())


def test_what_changes_back_while_it_is_written_is_written_back() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = await _started(node)
            write, go_on = node.api.write_status, asyncio.Event()

            async def slow(pod: JSON, patch: JSON) -> JSON:
                await go_on.wait()
                return await write(pod, patch)

            node.api.write_status = slow  # type: ignore[method-assign]
            before = worker.status
            worker._publisher.offer(before | {"phase": "Pending"})
            await asyncio.sleep(0.1)  # that is under way
            worker._publisher.offer(before)
            go_on.set()
            await asyncio.sleep(1)
            assert node.api.status["web"]["phase"] == "Running"

    live(story())
